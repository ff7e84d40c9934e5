//! What a generation is made of, as canonical JSON: two with the same text are the same generation.

use std::collections::{BTreeMap, BTreeSet};

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
    pub(crate) format: u32,
    pub(crate) chains: BTreeMap<Hook, Vec<Entry>>,
    pub(crate) builtins: BTreeMap<Hook, Entry>,
    pub(crate) limits: LimitsEntry,
    /// Digest of the configuration that it grew from: while that stays, changes made while running outlive a restart.
    #[serde(default)]
    pub(crate) configured: String,
    /// A plugin that is being tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) trial: Option<TrialEntry>,
    /// Generations whose records the built-in plan fans out.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) revoked: BTreeSet<u64>,
}

/// A plugin on trial, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TrialEntry {
    pub(crate) mode: TrialMode,
    /// Of one plugin: where it would stand in for the one of its name, or come last.
    pub(crate) entries: BTreeMap<Hook, Entry>,
}

/// How a plugin is tried before it decides for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrialMode {
    /// It is asked off the path, and compared.
    Shadow,
    /// It decides for a share of the conversations.
    Canary {
        /// 1 to 99.
        percent: u32,
    },
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
    /// It keeps its place, and is not asked.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) disabled: bool,
    /// The manifest's.
    #[serde(default)]
    pub(crate) state_version: u32,
    /// The one before that was another: what was remembered under it may be migrated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) state_from: Option<u32>,
}

/// The last good version of a plugin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Previous {
    pub(crate) digest: String,
    pub(crate) config: Map<String, Value>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LimitsEntry {
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
        Self {
            format: FORMAT,
            chains,
            builtins,
            limits,
            configured: configured.to_owned(),
            trial: None,
            revoked: BTreeSet::new(),
        }
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

    /// The plugin of this name at this hook.
    pub(crate) fn entry(&self, hook: Hook, name: &str) -> Option<&Entry> {
        self.chains.get(&hook)?.iter().find(|entry| entry.name == name)
    }

    /// With what a plugin that is now in `digest` was before: what this set has of that name, or what that itself recorded.
    pub(crate) fn previous(&self, hook: Hook, name: &str, digest: &str) -> Option<Previous> {
        let entry = self.entry(hook, name)?;
        if entry.digest == digest {
            return entry.previous.clone();
        }
        Some(Previous { digest: entry.digest.clone(), config: entry.config.clone() })
    }
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
