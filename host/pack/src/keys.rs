use toml::{Table, Value};

/// Reads a TOML table key by key and collects every problem, each with the key's path.
pub(crate) struct Keys {
    pub(crate) problems: Vec<String>,
}

impl Keys {
    pub(crate) fn new() -> Self {
        Self { problems: Vec::new() }
    }

    pub(crate) fn problem(&mut self, path: &str, text: impl AsRef<str>) {
        self.problems.push(format!("{path}: {}", text.as_ref()));
    }

    /// Names each key that is none of `known`.
    pub(crate) fn only(&mut self, table: &Table, path: &str, known: &[&str]) {
        for key in table.keys().filter(|key| !known.contains(&key.as_str())) {
            let path = join(path, key);
            let hint = match closest(key, known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known here: {}", known.join(", ")),
            };
            self.problem(&path, format!("unknown key, {hint}"));
        }
    }

    pub(crate) fn table<'a>(&mut self, table: &'a Table, path: &str, key: &str) -> Option<&'a Table> {
        match table.get(key)? {
            Value::Table(inner) => Some(inner),
            other => self.wrong(path, key, "a table", other),
        }
    }

    pub(crate) fn string<'a>(&mut self, table: &'a Table, path: &str, key: &str) -> Option<&'a str> {
        match table.get(key)? {
            Value::String(text) => Some(text),
            other => self.wrong(path, key, "a string", other),
        }
    }

    pub(crate) fn boolean(&mut self, table: &Table, path: &str, key: &str) -> Option<bool> {
        match table.get(key)? {
            Value::Boolean(value) => Some(*value),
            other => self.wrong(path, key, "true or false", other),
        }
    }

    /// A whole number from `low` to `high`.
    pub(crate) fn number(&mut self, table: &Table, path: &str, key: &str, low: u32, high: u32) -> Option<u32> {
        match table.get(key)? {
            Value::Integer(value) if (i64::from(low)..=i64::from(high)).contains(value) => u32::try_from(*value).ok(),
            other => self.wrong(path, key, &format!("a whole number from {low} to {high}"), other),
        }
    }

    pub(crate) fn strings(&mut self, table: &Table, path: &str, key: &str) -> Option<Vec<String>> {
        let value = table.get(key)?;
        let list = value.as_array().and_then(|items| {
            items.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<Vec<String>>>()
        });
        match list {
            Some(list) => Some(list),
            None => self.wrong(path, key, "a list of strings", value),
        }
    }

    fn wrong<T>(&mut self, path: &str, key: &str, wanted: &str, found: &Value) -> Option<T> {
        self.problem(&join(path, key), format!("{found} is not {wanted}"));
        None
    }
}

pub(crate) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// The known word that `word` is a slip of, if there is one near enough.
pub(crate) fn closest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|candidate| (distance(word, candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Edits from one to the other, a swap of neighbours counted as one.
fn distance(left: &str, right: &str) -> usize {
    strsim::osa_distance(left, right)
}
