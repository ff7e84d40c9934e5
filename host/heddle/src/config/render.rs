//! The configuration as text: annotated defaults, and what is in force.

use std::fmt::Write as _;

use super::keys::{Config, KEYS, SECTIONS};

const HEAD: &str = "# Heddle's configuration: each key with its default. Printed by `heddle config show --defaults`.
# A line that you do not change may go.
# Check a file with `heddle config check FILE`; start with `heddle serve --config FILE`.
";

/// All keys with their documentation and defaults: the content of `deploy/heddle.toml`.
#[must_use]
pub fn annotated() -> String {
    let mut text = HEAD.to_owned();
    for (section, doc) in SECTIONS {
        text.push('\n');
        doc.iter().for_each(|line| writeln!(text, "#{line}").unwrap_or_default());
        let _ = writeln!(text, "[{section}]");
        for key in KEYS.iter().filter(|key| key.section == *section) {
            key.doc.iter().for_each(|line| writeln!(text, "#{line}").unwrap_or_default());
            let range =
                if key.range.is_empty() { String::new() } else { format!(", from {}", key.range.replace('"', "")) };
            let _ = writeln!(text, "# Takes {}{range}. Variable: {}.", key.form, key.variable());
            let _ = writeln!(text, "{} = {}", key.name, key.default);
        }
    }
    text
}

/// What is in force, secrets left out; a comment marks what differs from its default.
#[must_use]
pub fn effective(config: &Config) -> String {
    let shown = config.shown();
    let mut text = String::new();
    for (section, _) in SECTIONS {
        let _ = writeln!(text, "{}[{section}]", if text.is_empty() { "" } else { "\n" });
        for (key, value) in KEYS.iter().zip(&shown).filter(|(key, _)| key.section == *section) {
            let line = match (key.secret, value.as_str()) {
                (true, value) if !same(value, key.default) => format!("# {} is set, and not shown", key.name),
                (_, value) if same(value, key.default) => format!("{} = {value}", key.name),
                (_, value) => format!("{} = {value} # default: {}", key.name, key.default),
            };
            let _ = writeln!(text, "{line}");
        }
    }
    text
}

fn same(shown: &str, default: &str) -> bool {
    let read = |text: &str| format!("v = {text}").parse::<toml::Table>().ok();
    read(shown).is_some() && read(shown) == read(default)
}
