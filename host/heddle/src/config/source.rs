//! Where values come from: the file, the environment, the command line; later ones win.

use std::path::Path;

use toml::{Table, Value};

use super::keys::{KEYS, SECTIONS};
use super::problem::{Problem, meant};
use super::table::{Given, Raw, Values};

/// What problems of the file as a whole are of.
pub(crate) const THE_FILE: &str = "the file";

/// Reads a file into the values.
pub(crate) fn file(path: &Path, values: &mut Values, problems: &mut Vec<Problem>) {
    let origin = path.display().to_string();
    let trouble = |wrong: String, remedy: &str| Problem {
        key: THE_FILE.to_owned(),
        origin: origin.clone(),
        wrong,
        remedy: remedy.to_owned(),
    };
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            let remedy = "start from `heddle config show --defaults`";
            return problems.push(trouble(format!("cannot be read: {error}"), remedy));
        }
    };
    match text.parse::<Table>() {
        Ok(table) => tables(&table, &origin, values, problems),
        Err(error) => {
            let wrong = format!("is not TOML: {}", error.to_string().trim_end().replace('\n', "\n    "));
            problems.push(trouble(wrong, "mend that line; texts, times and sizes stand in quotes"));
        }
    }
}

fn tables(table: &Table, origin: &str, values: &mut Values, problems: &mut Vec<Problem>) {
    for (section, content) in table {
        let Some(keys) = content.as_table() else {
            problems.push(unknown(section, origin, Some(content)));
            continue;
        };
        if !SECTIONS.iter().any(|(name, _)| name == section) {
            problems.push(unknown(section, origin, None));
            continue;
        }
        for (key, value) in keys {
            let path = format!("{section}.{}", key.replace('-', "_"));
            let given = Given { raw: Raw::Toml(value.clone()), origin: origin.to_owned() };
            put(&path, given, values, problems);
        }
    }
}

fn put(path: &str, given: Given, values: &mut Values, problems: &mut Vec<Problem>) {
    if KEYS.iter().any(|key| key.path == path) {
        values.insert(path.to_owned(), given);
    } else {
        problems.push(unknown(path, &given.origin, None));
    }
}

fn unknown(path: &str, origin: &str, value: Option<&Value>) -> Problem {
    let paths = KEYS.iter().map(|key| key.path);
    let nearest = match path.split_once('.') {
        Some((section, name)) => KEYS
            .iter()
            .find(|key| {
                key.section == section && meant(name, std::iter::once(key.name)).is_some_and(|_| near(name, key.name))
            })
            .map(|key| key.path)
            .or_else(|| KEYS.iter().find(|key| key.name == name).map(|key| key.path))
            .or_else(|| meant(path, paths)),
        None => KEYS
            .iter()
            .find(|key| key.name == path)
            .map(|key| key.path)
            .or_else(|| meant(path, SECTIONS.iter().map(|(name, _)| *name))),
    };
    let remedy = nearest.map_or_else(
        || "remove it; `heddle config show --defaults` lists all keys".to_owned(),
        |nearest| format!("did you mean `{nearest}`?"),
    );
    let wrong = value.map_or_else(
        || "there is no such key".to_owned(),
        |value| format!("there is no such key outside a section, it has the value {value}"),
    );
    Problem { key: path.to_owned(), origin: origin.to_owned(), wrong, remedy }
}

fn near(given: &str, known: &str) -> bool {
    strsim::damerau_levenshtein(given, known) <= 2
}

/// Reads `HEDDLE_SECTION__KEY` variables into the values. Names without the two underscores are somebody else's.
pub(crate) fn environment(
    variables: impl IntoIterator<Item = (String, String)>,
    values: &mut Values,
    problems: &mut Vec<Problem>,
) {
    let ours = variables.into_iter().filter(|(name, _)| name.starts_with("HEDDLE_") && name.contains("__"));
    for (name, text) in ours {
        let path = name["HEDDLE_".len()..].to_lowercase().replacen("__", ".", 1);
        put(&path, Given { raw: Raw::Text(text), origin: format!("variable {name}") }, values, problems);
    }
}

/// Reads `KEY=VALUE` of a `--set` flag into the values.
pub(crate) fn assignment(text: &str, values: &mut Values, problems: &mut Vec<Problem>) {
    let origin = format!("flag --set {text}");
    match text.split_once('=') {
        Some((path, value)) => {
            let given = Given { raw: Raw::Text(value.trim().to_owned()), origin: "flag --set".to_owned() };
            put(&path.trim().replace('-', "_"), given, values, problems);
        }
        None => problems.push(Problem {
            key: text.to_owned(),
            origin,
            wrong: "has no `=`".to_owned(),
            remedy: "write it as `--set gateway.heartbeat='10 s'`".to_owned(),
        }),
    }
}
