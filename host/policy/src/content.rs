//! What a generation is made of, as canonical JSON: two with the same text are the same generation.

use std::collections::BTreeMap;

use heddle_model::{Digest, Hook};
use heddle_pack::OnFailure;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::PolicyLimits;

/// The version of the JSON.
const FORMAT: u32 = 1;

/// The whole resolved set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Content {
    format: u32,
    pub(crate) chains: BTreeMap<Hook, Vec<Entry>>,
    pub(crate) builtins: BTreeMap<Hook, Entry>,
    limits: LimitsEntry,
    /// Digest of the configuration that it grew from: while that stays, changes made while running outlive a restart.
    #[serde(default)]
    pub(crate) configured: String,
}

/// One plugin in a chain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) version: String,
    /// Of the file, in hex.
    pub(crate) digest: String,
    /// The manifest's, with the operator's changes.
    pub(crate) config: Map<String, Value>,
    pub(crate) on_failure: OnFailure,
    /// With `previous`: the version before this one.
    pub(crate) previous: Option<Previous>,
}

/// The last good version of a plugin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Previous {
    pub(crate) digest: String,
    pub(crate) config: Map<String, Value>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct LimitsEntry {
    memory_bytes_max: u64,
    deadline_ms_max: u32,
}

impl Content {
    pub(crate) fn new(
        chains: BTreeMap<Hook, Vec<Entry>>,
        builtins: BTreeMap<Hook, Entry>,
        limits: &PolicyLimits,
        configured: &str,
    ) -> Self {
        let limits = LimitsEntry { memory_bytes_max: limits.memory_bytes_max, deadline_ms_max: limits.deadline_ms_max };
        Self { format: FORMAT, chains, builtins, limits, configured: configured.to_owned() }
    }

    /// Keys sorted, no spaces; and its SHA-256.
    pub(crate) fn canonical(&self) -> (String, Digest) {
        let text = serde_json::to_value(self).map(sorted).map_or_else(|_| String::new(), |value| value.to_string());
        let digest = Digest::of(text.as_bytes());
        (text, digest)
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().filter(|content: &Self| content.format == FORMAT)
    }

    /// With what a plugin that is now in `digest` was before: what this set has of that name, or what that itself recorded.
    pub(crate) fn previous(&self, hook: Hook, name: &str, digest: &str) -> Option<Previous> {
        let entry = self.chains.get(&hook)?.iter().find(|entry| entry.name == name)?;
        if entry.digest == digest {
            return entry.previous.clone();
        }
        Some(Previous { digest: entry.digest.clone(), config: entry.config.clone() })
    }
}

/// The digest that hex names.
pub(crate) fn digest(hex: &str) -> Option<Digest> {
    data_encoding::HEXLOWER.decode(hex.as_bytes()).ok()?.try_into().ok().map(Digest)
}

/// With the keys of all objects in order, whatever map serde_json was built with.
pub(crate) fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let ordered: BTreeMap<String, Value> = map.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            Value::Object(ordered.into_iter().collect())
        }
        Value::Array(values) => Value::Array(values.into_iter().map(sorted).collect()),
        other => other,
    }
}
