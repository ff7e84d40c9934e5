//! What a generation is made of, as canonical JSON: two with the same text are the same generation.

use std::collections::{BTreeMap, BTreeSet};

use heddle_model::{Digest, Hook};
use heddle_pack::OnFailure;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::PolicyLimits;

/// The version of the JSON.
const FORMAT: u32 = 1;
/// Versions that are remembered as failed; the oldest go.
const FAILED_MAX: usize = 64;

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
    /// Versions of plugins ([`version`]) that were taken back, revoked, or replaced while they went on failing, oldest first: nothing goes back to
    /// one of them by itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) failed: Vec<String>,
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
            failed: Vec::new(),
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

    /// All files that it names.
    pub(crate) fn files(&self) -> BTreeSet<Digest> {
        let tried = self.trial.iter().flat_map(|trial| trial.entries.values());
        let entries = self.chains.values().flatten().chain(self.builtins.values()).chain(tried);
        let hex = entries
            .flat_map(|entry| std::iter::once(&entry.digest).chain(entry.previous.as_ref().map(|it| &it.digest)));
        hex.filter_map(|hex| Digest::parse(hex)).collect()
    }

    /// The versions that stand in its chains.
    pub(crate) fn versions(&self) -> BTreeSet<String> {
        self.chains.values().flatten().map(Entry::of_version).collect()
    }

    /// With these remembered as failed, as far as they stand in no chain of it. Whatever somebody put there since `before` is given another try.
    pub(crate) fn remember_failed(&mut self, before: &Self, failed: impl IntoIterator<Item = String>) {
        let (here, there) = (self.versions(), before.versions());
        let mut kept: Vec<String> =
            before.failed.iter().filter(|it| !here.contains(*it) || there.contains(*it)).cloned().collect();
        for version in failed {
            if !here.contains(&version) && !kept.contains(&version) {
                kept.push(version);
            }
        }
        kept.drain(..kept.len().saturating_sub(FAILED_MAX));
        self.failed = kept;
    }
}

impl Entry {
    pub(crate) fn of_version(&self) -> String {
        version(&self.digest, &self.config)
    }
}

/// One version of a plugin: its file and its configuration. SHA-256 in hex.
pub(crate) fn version(digest: &str, config: &Map<String, Value>) -> String {
    Digest::of(sorted(json!([digest, config])).to_string().as_bytes()).to_string()
}

/// What there was before a set is made.
pub(crate) struct Before<'a> {
    /// What decides.
    pub(crate) now: Option<&'a Content>,
    /// The set that is changed, and others that plugins are taken from: what they know of earlier versions counts, the first one first.
    pub(crate) lines: &'a [&'a Content],
    /// Versions that are not good.
    pub(crate) failed: &'a [String],
}

impl Before<'_> {
    /// The last good version of a plugin, other than the present one.
    pub(crate) fn last_good(
        &self,
        hook: Hook,
        name: &str,
        digest: &str,
        config: &Map<String, Value>,
    ) -> Option<Previous> {
        let own = version(digest, config);
        let good = |it: &Previous| {
            let version = version(&it.digest, &it.config);
            version != own && !self.failed.contains(&version)
        };
        self.lines.iter().find_map(|line| {
            let entry = line.entry(hook, name)?;
            let replaced = Previous { digest: entry.digest.clone(), config: entry.config.clone() };
            // Another configuration is no other version to fall back to: the file is the same.
            let replaced = (entry.digest != digest).then_some(replaced).filter(good);
            replaced.or_else(|| entry.previous.clone().filter(good))
        })
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
