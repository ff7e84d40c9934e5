use serde::de::DeserializeOwned;

/// A plugin's configuration: the manifest's `[config]`, as JSON.
#[derive(Clone, Debug)]
pub struct Config {
    text: String,
}

impl Config {
    /// From JSON; an empty text counts as `{}`. Tests make theirs with it.
    pub fn from_json(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { text: if text.trim().is_empty() { "{}".to_owned() } else { text } }
    }

    /// The JSON as it came.
    pub fn json(&self) -> &str {
        &self.text
    }

    /// Into a type of yours; the error names key and place and is what the operator reads. Say `#[serde(deny_unknown_fields)]`, so that a
    /// misspelt key is refused.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, String> {
        serde_json::from_str(&self.text).map_err(|error| format!("[config]: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::Config;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Burst {
        burst: u32,
    }

    #[test]
    fn an_unknown_key_is_named() {
        let refused = Config::from_json(r#"{"burts": 3}"#).parse::<Burst>().unwrap_err();
        assert!(refused.contains("unknown field `burts`"), "{refused}");
    }

    #[test]
    fn a_known_key_is_read() {
        assert_eq!(Config::from_json(r#"{"burst": 3}"#).parse::<Burst>().unwrap().burst, 3);
    }
}
