//! Copies the sources of the first-party policies, so that this crate compiles the same text natively that the components are made of.

use std::path::Path;

fn main() {
    let out = std::env::var("OUT_DIR").expect("cargo says where");
    for plugin in ["token-bucket", "inbox-routing", "group-fanout", "last-seen"] {
        let path = format!("../../plugins/{plugin}/src/lib.rs");
        println!("cargo::rerun-if-changed={path}");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        // Documentation of a crate cannot stand inside another; its tests stay where they are.
        let policy = text.split("#[cfg(test)]").next().unwrap_or_default();
        let lines = policy.lines().filter(|line| !line.starts_with("//!"));
        // What a component exports, a module has to make visible.
        let visible =
            |line: &str| if line.starts_with("struct ") { format!("pub(super) {line}") } else { line.to_owned() };
        let policy: Vec<String> = lines.map(visible).collect();
        std::fs::write(Path::new(&out).join(format!("{plugin}.rs")), policy.join("\n")).expect("a copy");
    }
}
