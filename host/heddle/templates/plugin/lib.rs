//! {{name}}: a Heddle policy at {{hooks}}. README.md says how to build, test and deploy it.

{{uses}}

{{consts}}#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Plugin {
{{fields}}
}

impl Policy for Plugin {
    /// Once per instance, before any decision. An error refuses the deployment, and the operator reads it.
    fn configure(config: &Config) -> Result<Self, String> {
        config.parse()
    }
}

{{decides}}
heddle_sdk::export!(Plugin: {{exports}});

#[cfg(test)]
mod tests {
{{test_uses}}

    use super::Plugin;

    const CONFIG: &str = r#"{{test_config}}"#;
{{test_consts}}
    fn plugin() -> Plugin {
        Plugin::configure(&Config::from_json(CONFIG)).unwrap()
    }

{{tests}}

    #[test]
    fn a_misspelt_key_is_refused() {
        assert!(Plugin::configure(&Config::from_json(r#"{"mispelt": 1}"#)).is_err());
    }
}
