//! Templates and parts into files.

use std::collections::BTreeSet;

use heddle_pack::Hook;

use super::parts::{self, Key, Parts};
use super::sdk;

/// Columns of a line of Rust, as rustfmt breaks them.
const COLUMNS: usize = 100;

macro_rules! template {
    ($path:literal) => {
        include_str!(concat!("../../../templates/plugin/", $path))
    };
}

/// The plugin's own files: path and text.
pub fn plugin(name: &str, hooks: &[Hook]) -> Vec<(String, String)> {
    let parts: Vec<&Parts> = hooks.iter().map(|hook| parts::of(*hook)).collect();
    let named: Vec<&str> = hooks.iter().map(|hook| hook.as_str()).collect();
    let keys: Vec<&Key> = parts.iter().flat_map(|part| part.keys).collect();
    let tested: Vec<String> = keys.iter().map(|key| format!("\"{}\": {}", key.name, key.tested)).collect();
    let tested = format!("{{{}}}", tested.join(", "));
    let lines = |line: &dyn Fn(&Key) -> String| keys.iter().map(|key| line(key)).collect::<Vec<_>>().join("\n");
    let texts = |text: fn(&Parts) -> &'static str| parts.iter().map(|part| text(part)).collect::<Vec<_>>();
    let state = match hooks.contains(&Hook::RateLimit) {
        true => "# Of the bytes that `decide` returns: raise it when their meaning changes.\nstate_version = 1\n",
        false => "",
    };
    let consts: String = texts(|part| part.consts).concat();
    let test_consts = if texts(|part| part.tests).iter().any(|text| text.contains("AT,")) {
        "\n    const AT: Moment = Moment { now: 0, seed: 0 };\n"
    } else {
        ""
    };
    let filled = |text: &str| {
        fill(
            text,
            &[
                ("name", name),
                ("crate", &name.replace('-', "_")),
                ("hooks", &named.join(", ")),
                ("state", state),
                ("config", &lines(&|key| format!("{} = {}", key.name, key.value))),
                ("keys", &lines(&|key| format!("| `{}` | {} | {} |", key.name, key.value, key.doc))),
                ("uses", &uses("", &["Config", "Policy"], parts.iter().flat_map(|part| part.uses))),
                ("consts", &if consts.is_empty() { consts.clone() } else { format!("{consts}\n") }),
                ("fields", &lines(&|key| format!("    /// {}\n    {}: {},", key.doc, key.name, key.ty))),
                ("decides", &texts(|part| part.decide).join("\n")),
                ("exports", &texts(|part| part.export).join(", ")),
                ("test_uses", &uses("    ", &["Config", "Policy"], parts.iter().flat_map(|part| part.test_uses))),
                ("test_config", &tested),
                ("test_consts", test_consts),
                ("tests", texts(|part| part.tests).concat().trim_end_matches('\n')),
                ("case_config", &tested),
            ],
        )
    };
    let manifest = template!("plugin.toml.txt").replace("{{hooks}}", &texts(|part| part.manifest).join("\n"));
    let mut files = vec![
        ("src/lib.rs".to_owned(), filled(template!("lib.rs"))),
        ("plugin.toml".to_owned(), filled(&manifest)),
        ("README.md".to_owned(), filled(template!("README.md"))),
        ("Cargo.toml".to_owned(), filled(template!("Cargo.toml.txt"))),
        ("Cargo.lock".to_owned(), sdk::lock(name)),
        ("rustfmt.toml".to_owned(), template!("rustfmt.toml").to_owned()),
        (".gitignore".to_owned(), filled(template!("gitignore"))),
    ];
    for (case, text) in parts.iter().flat_map(|part| part.cases) {
        files.push((format!("cases/{case}.json"), filled(text)));
    }
    files
}

fn fill(text: &str, values: &[(&str, &str)]) -> String {
    let mut out = text.to_owned();
    for (name, value) in values {
        out = out.replace(&format!("{{{{{name}}}}}"), value);
    }
    out
}

/// One `use`, sorted, broken as rustfmt does.
fn uses<'a>(indent: &str, always: &'a [&'a str], more: impl Iterator<Item = &'a &'a str>) -> String {
    let names: BTreeSet<&str> = always.iter().chain(more).copied().collect();
    let names: Vec<&str> = names.into_iter().collect();
    let short = format!("{indent}use heddle_sdk::{{{}}};", names.join(", "));
    if short.len() <= COLUMNS {
        return short;
    }
    let mut lines = vec![String::new()];
    for name in names {
        let line = lines.last_mut().map_or_else(String::new, std::mem::take);
        let word = format!("{name},");
        let longer = if line.is_empty() { format!("{indent}    {word}") } else { format!("{line} {word}") };
        if longer.len() <= COLUMNS {
            lines.pop();
            lines.push(longer);
        } else {
            lines.pop();
            lines.push(line);
            lines.push(format!("{indent}    {word}"));
        }
    }
    format!("{indent}use heddle_sdk::{{\n{}\n{indent}}};", lines.join("\n"))
}
