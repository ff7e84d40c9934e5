//! What a plugin may be called: a manifest, a crate and a file have the name too.

/// Crates that the plugin is built on, those that every Rust program has, and the plugins of this binary.
const TAKEN: [&str; 15] = [
    "alloc",
    "bitflags",
    "core",
    "heddle-sdk",
    "itoa",
    "memchr",
    "proc-macro",
    "serde",
    "serde-json",
    "std",
    "syn",
    "test",
    "wit-bindgen",
    "zmij",
    "quote",
];
const KEYWORDS: [&str; 40] = [
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate", "do", "dyn", "else",
    "enum", "extern", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop", "macro", "match", "mod", "move",
    "mut", "override", "priv", "pub", "ref", "return", "self", "static", "struct", "super", "trait", "type",
];

/// Says what is wrong with a name.
pub fn check(name: &str) -> Result<(), String> {
    let wrong = |why: &str| Err(format!("{name:?} cannot be a plugin's name: {why}"));
    if !(1..=64).contains(&name.len()) {
        return wrong("use 1 to 64 characters");
    }
    if !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-') {
        return wrong("use a-z, 0-9 and - only");
    }
    if !name.starts_with(|first: char| first.is_ascii_lowercase()) {
        return wrong("begin with a letter, it is a crate's name too");
    }
    if name.ends_with('-') {
        return wrong("end with a letter or a digit");
    }
    if heddle_builtin::plugins().iter().any(|(_, plugin)| is(plugin.bytes, name)) {
        return wrong("a built-in plugin has it, and would be replaced");
    }
    if TAKEN.contains(&name) || KEYWORDS.contains(&name) {
        return wrong("Rust or a crate that it is built on has it already");
    }
    Ok(())
}

fn is(plugin: &[u8], name: &str) -> bool {
    heddle_pack::unpack(plugin).is_ok_and(|packed| packed.manifest.name == name)
}
