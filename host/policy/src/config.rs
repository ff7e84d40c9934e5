use std::sync::Arc;

use bytes::Bytes;
use heddle_model::{Clock, Hook};
use heddle_registry::KeyedStates;
use heddle_store::Catalog;

use crate::content::TrialMode;
use crate::{Cluster, Loader, Mirror, RecordConfig};

/// A plugin that an operator put into a chain.
#[derive(Debug, Clone)]
pub struct PluginRef {
    /// As the operator named it, for errors: a path or a name.
    pub source: String,
    /// The whole plugin file, as `heddle plugin build` wrote it.
    pub bytes: Bytes,
    /// Merged over the manifest's `[config]`, key by key.
    pub config: serde_json::Map<String, serde_json::Value>,
    /// It keeps its place in the chain, and is not asked.
    pub disabled: bool,
    /// This build's own: another build has other bytes under the same name, which is no change of the configuration.
    pub builtin: bool,
}

impl PluginRef {
    /// A file, with its manifest's configuration.
    #[must_use]
    pub fn file(source: impl Into<String>, bytes: impl Into<Bytes>) -> Self {
        let (source, bytes) = (source.into(), bytes.into());
        Self { source, bytes, config: serde_json::Map::new(), disabled: false, builtin: false }
    }

    /// A built-in plugin, by its name.
    #[must_use]
    pub fn builtin(name: impl Into<String>, bytes: &'static [u8]) -> Self {
        Self { builtin: true, ..Self::file(name, bytes) }
    }
}

/// A plugin that an operator tries before it decides for all.
#[derive(Debug, Clone)]
pub struct TrialRef {
    /// How.
    pub mode: TrialMode,
    /// What.
    pub file: PluginRef,
    /// Where.
    pub hooks: Vec<Hook>,
}

/// The chains that an operator asked for. A hook without plugins gets the built-in one.
#[derive(Debug, Clone, Default)]
pub struct PolicyConfig {
    /// In the order in which they are asked.
    pub chains: Vec<(Hook, Vec<PluginRef>)>,
    /// Merged over the built-in components' `[config]`, by hook.
    pub builtin_config: Vec<(Hook, serde_json::Map<String, serde_json::Value>)>,
    /// A plugin on trial beside the chains.
    pub trial: Option<TrialRef>,
    /// Bounds.
    pub limits: PolicyLimits,
    /// Whose signatures count when a plugin is deployed.
    pub trust: heddle_pack::TrustList,
    /// What is watched.
    pub watch: WatchConfig,
    /// Where plugin files lie on this node's disk; none: in the catalog alone.
    pub mirror: Option<Mirror>,
}

impl PolicyConfig {
    /// What keeps its files from serving, as far as can be told without loading them. Each problem names its hook and file.
    #[must_use]
    pub fn problems(&self, builtins: &[(Hook, &'static [u8])]) -> Vec<String> {
        crate::load::Plan::check(self, builtins).err().unwrap_or_default()
    }
}

/// What is watched of the plugins that decide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchConfig {
    /// Of so many calls of a plugin one is repeated on a fresh instance; 0: none.
    pub repeat_one_in: u64,
    /// A plugin that goes on failing is taken back by itself.
    pub breaker: bool,
    /// The share of refusals of a canary may differ from the others' by so many points.
    pub canary_band_percent: u32,
    /// Which calls are kept for a replay.
    pub record: RecordConfig,
}

impl Default for WatchConfig {
    fn default() -> Self {
        Self { repeat_one_in: 1_000, breaker: true, canary_band_percent: 5, record: RecordConfig::default() }
    }
}

/// Bounds of the policy floor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyLimits {
    /// Plugins in one chain.
    pub chain_max: usize,
    /// The most memory that a manifest may ask for.
    pub memory_bytes_max: u64,
    /// The longest deadline that a manifest may ask for.
    pub deadline_ms_max: u32,
    /// Keys of rate limits whose state is kept; beyond it the oldest go.
    pub states_max: usize,
    /// Generations that are drained and kept loaded all the same, for a quick way back.
    pub generations_max: usize,
    /// Generations that decide no more, whose records may still wait, and that are loaded. Of more the one that was not asked for longest is read
    /// from the catalog again when it is.
    pub draining_max: usize,
    /// Bytes of plugin files in the catalog. What generations that are loaded or draining need stays; of the rest what was deployed longest ago goes.
    pub catalog_bytes_max: u64,
    /// Plugins of which at least name and version are known.
    pub catalog_plugins_max: usize,
    /// Generations in the catalog, the newest and those that drain.
    pub catalog_generations_max: usize,
    /// Rows of the audit, the newest.
    pub audit_max: u64,
}

impl Default for PolicyLimits {
    fn default() -> Self {
        Self {
            chain_max: 8,
            memory_bytes_max: 64 << 20,
            deadline_ms_max: 50,
            states_max: 200_000,
            generations_max: 4,
            draining_max: 4,
            catalog_bytes_max: 1 << 30,
            catalog_plugins_max: 10_000,
            catalog_generations_max: 10_000,
            audit_max: 100_000,
        }
    }
}

/// What the policy floor stands on.
pub struct PolicyDeps {
    /// Plugins and generations.
    pub catalog: Arc<dyn Catalog>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The first-party plugin file of each hook, embedded in the binary.
    pub builtins: Vec<(Hook, &'static [u8])>,
    /// What makes a component of a plugin file.
    pub loader: Arc<dyn Loader>,
    /// The other nodes; none: there is one.
    pub cluster: Option<Cluster>,
    /// The states of rate limits that count together with other nodes; none: they count alone.
    pub shared: Option<Arc<dyn KeyedStates>>,
}
