//! From plugin files to members of a generation.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use heddle_model::{Clock, Conversation, Digest, Hook};
use heddle_pack::{OnFailure, Packed};
use heddle_store::CatalogPlugin;
use serde_json::{Map, Value, json};

use crate::component::{Gone, Loader};
use crate::content::{Content, Entry, Previous, digest, sorted};
use crate::generation::Luck;
use crate::member::{Member, Meters};
use crate::state::States;
use crate::{Generation, PluginRef, PolicyConfig, PolicyLimits};

/// A plugin file, taken apart and checked against what the operator allows.
#[derive(Clone)]
pub(crate) struct Checked {
    /// As errors name it.
    pub(crate) source: String,
    pub(crate) packed: Packed,
    pub(crate) digest: Digest,
    pub(crate) config: Map<String, Value>,
    pub(crate) on_failure: OnFailure,
}

/// All that a policy set names, checked.
pub(crate) struct Plan {
    pub(crate) chains: BTreeMap<Hook, Vec<Checked>>,
    pub(crate) builtins: BTreeMap<Hook, Checked>,
}

impl Plan {
    /// Checks all files; everything that is wrong at once.
    pub(crate) fn check(config: &PolicyConfig, builtins: &[(Hook, &'static [u8])]) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let mut checked = Self { chains: BTreeMap::new(), builtins: BTreeMap::new() };
        for hook in Hook::ALL {
            let Some((_, bytes)) = builtins.iter().find(|(of, _)| *of == hook) else {
                problems.push(format!("{hook}: this build has no built-in policy for it"));
                continue;
            };
            let changes = config.builtin_config.iter().filter(|(of, _)| *of == hook);
            let merged = changes.flat_map(|(_, changes)| changes.clone()).collect();
            let source = "the built-in policy".to_owned();
            let plugin = PluginRef { source, bytes: Bytes::from_static(bytes), config: merged };
            match check(hook, &plugin, &config.limits) {
                Ok(plugin) => drop(checked.builtins.insert(hook, plugin)),
                Err(found) => problems.extend(found),
            }
            let chain: Vec<&PluginRef> =
                config.chains.iter().filter(|(of, _)| *of == hook).flat_map(|(_, chain)| chain).collect();
            if chain.len() > config.limits.chain_max {
                let max = config.limits.chain_max;
                problems.push(format!("{hook}: {} plugins in the chain, at most {max} are allowed", chain.len()));
            }
            let mut members: Vec<Checked> = Vec::new();
            for plugin in chain {
                match check(hook, plugin, &config.limits) {
                    Ok(plugin) => {
                        match members.iter().find(|held| held.packed.manifest.name == plugin.packed.manifest.name) {
                            Some(held) => problems.push(format!(
                                "{hook}: {}: plugin {:?} is in the chain already ({}), leave one out",
                                plugin.source, plugin.packed.manifest.name, held.source
                            )),
                            None => members.push(plugin),
                        }
                    }
                    Err(found) => problems.extend(found),
                }
            }
            if members.is_empty() {
                members.extend(checked.builtins.get(&hook).cloned());
            }
            checked.chains.insert(hook, members);
        }
        if problems.is_empty() { Ok(checked) } else { Err(problems) }
    }

    /// What it resolves to, after `before`.
    pub(crate) fn content(&self, before: Option<&Content>, configured: &str, limits: &PolicyLimits) -> Content {
        let entry = |hook: Hook, plugin: &Checked| {
            let (name, hex) = (plugin.packed.manifest.name.clone(), plugin.digest.to_string());
            let previous = match plugin.on_failure {
                OnFailure::Previous => before.and_then(|before| before.previous(hook, &name, &hex)),
                _ => None,
            };
            let version = plugin.packed.manifest.version.clone();
            let config = plugin.config.clone();
            Entry { name, version, digest: hex, config, on_failure: plugin.on_failure, previous }
        };
        let chain = |(hook, chain): (&Hook, &Vec<Checked>)| {
            (*hook, chain.iter().map(|plugin| entry(*hook, plugin)).collect::<Vec<_>>())
        };
        let builtins = self.builtins.iter().map(|(hook, plugin)| (*hook, entry(*hook, plugin))).collect();
        Content::new(self.chains.iter().map(chain).collect(), builtins, limits, configured)
    }

    /// The files, each once.
    pub(crate) fn files(&self, at: u64) -> Vec<CatalogPlugin> {
        let all = self.chains.values().flatten().chain(self.builtins.values());
        let files: BTreeMap<Digest, CatalogPlugin> = all.map(|plugin| (plugin.digest, file(plugin, at))).collect();
        files.into_values().collect()
    }
}

fn file(plugin: &Checked, at: u64) -> CatalogPlugin {
    CatalogPlugin {
        digest: plugin.digest,
        name: plugin.packed.manifest.name.as_str().into(),
        version: plugin.packed.manifest.version.as_str().into(),
        bytes: Bytes::copy_from_slice(&plugin.packed.bytes),
        added_at: at,
    }
}

/// What the operator configured, whatever this build's own plugins are.
pub(crate) fn fingerprint(config: &PolicyConfig) -> String {
    let plugin = |plugin: &PluginRef| json!([Digest::of(&plugin.bytes).to_string(), plugin.config]);
    let chains = config.chains.iter().filter(|(_, chain)| !chain.is_empty());
    let chains: Map<String, Value> =
        chains.map(|(hook, chain)| (hook.to_string(), chain.iter().map(plugin).collect())).collect();
    let builtins = config.builtin_config.iter().filter(|(_, changes)| !changes.is_empty());
    let builtins: Map<String, Value> =
        builtins.map(|(hook, changes)| (hook.to_string(), Value::Object(changes.clone()))).collect();
    let text = sorted(json!({ "chains": chains, "builtins": builtins })).to_string();
    Digest::of(text.as_bytes()).to_string()
}

/// Takes one file apart for one hook.
pub(crate) fn check(hook: Hook, plugin: &PluginRef, limits: &PolicyLimits) -> Result<Checked, Vec<String>> {
    let place = format!("{hook}: {}", plugin.source);
    let packed = heddle_pack::unpack(plugin.bytes.as_ref()).map_err(|error| vec![format!("{place}: {error}")])?;
    let manifest = &packed.manifest;
    let mut problems = Vec::new();
    let declared = pack_hook(hook).and_then(|hook| manifest.hooks.get(&hook));
    if declared.is_none() {
        let has: Vec<&str> = manifest.hooks.keys().map(|hook| hook.as_str()).collect();
        let name = &manifest.name;
        problems.push(format!("{place}: plugin {name:?} has no hook {hook}, only {}: use it there", has.join(", ")));
    }
    let (memory, memory_max) = (manifest.limits.memory_bytes, limits.memory_bytes_max);
    if memory > memory_max {
        problems.push(format!("{place}: asks for {memory} bytes of memory, at most {memory_max} are allowed"));
    }
    let (deadline, deadline_max) = (manifest.limits.deadline_ms, limits.deadline_ms_max);
    if deadline > deadline_max {
        problems.push(format!("{place}: asks for a deadline of {deadline} ms, at most {deadline_max} are allowed"));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut config = manifest.config.as_object().cloned().unwrap_or_default();
    config.extend(plugin.config.clone());
    Ok(Checked {
        source: plugin.source.clone(),
        digest: Digest::of(&packed.bytes),
        on_failure: declared.map_or(OnFailure::Builtin, |hook| hook.on_failure),
        config,
        packed,
    })
}

/// Loads what was checked.
pub(crate) async fn member(
    loader: &dyn Loader,
    hook: Hook,
    plugin: &Checked,
    number: u64,
    previous: Option<Arc<Member>>,
) -> Result<Arc<Member>, String> {
    let config = Value::Object(plugin.config.clone()).to_string();
    let component = loader.load(&plugin.packed, hook, &config).await;
    let component = component.map_err(|error| format!("{hook}: {}: {error}", plugin.source))?;
    let manifest = &plugin.packed.manifest;
    let declared = pack_hook(hook).and_then(|hook| manifest.hooks.get(&hook));
    let targets = declared.map(|hook| hook.redirect_to.as_slice()).unwrap_or_default();
    Ok(Arc::new(Member {
        hook,
        name: manifest.name.as_str().into(),
        version: manifest.version.as_str().into(),
        digest: plugin.digest,
        state_version: manifest.state_version,
        scopes: declared.map(|hook| hook.scopes.clone()).unwrap_or_default(),
        on_failure: plugin.on_failure,
        redirect_to: targets.iter().filter_map(|target| Conversation::parse(target).ok()).collect(),
        reads_body: manifest.reads_body,
        component,
        previous,
        meters: Meters::new(hook, &manifest.name, number),
    }))
}

/// In place of a plugin that cannot be had any more: the built-in decides, and the decision says so.
pub(crate) fn gone(hook: Hook, entry: Option<&Entry>, number: u64) -> Arc<Member> {
    let name = entry.map_or("unknown", |entry| &entry.name);
    Arc::new(Member {
        hook,
        name: name.into(),
        version: entry.map_or("", |entry| &entry.version).into(),
        digest: entry.and_then(|entry| digest(&entry.digest)).unwrap_or(Digest([0; 32])),
        state_version: 0,
        scopes: Vec::new(),
        on_failure: OnFailure::Builtin,
        redirect_to: Vec::new(),
        reads_body: false,
        component: Arc::new(Gone),
        previous: None,
        meters: Meters::new(hook, name, number),
    })
}

/// What an entry of the catalog needs to be checked.
pub(crate) fn from_catalog(plugin: CatalogPlugin, config: &Map<String, Value>) -> PluginRef {
    PluginRef { source: format!("{} {}", plugin.name, plugin.digest), bytes: plugin.bytes, config: config.clone() }
}

/// Puts a generation together.
pub(crate) fn assemble(
    number: u64,
    mut chains: BTreeMap<Hook, Vec<Arc<Member>>>,
    builtins: [Arc<Member>; 4],
    states: Arc<States>,
    clock: Arc<dyn Clock>,
) -> Generation {
    let mut chain = |hook| chains.remove(&hook).unwrap_or_default();
    let rate_limit = chain(Hook::RateLimit);
    let mut scopes = builtins[0].scopes.clone();
    for member in &rate_limit {
        scopes.extend(&member.scopes);
        scopes.extend(member.previous.iter().flat_map(|previous| &previous.scopes));
    }
    scopes.sort_unstable();
    scopes.dedup();
    Generation {
        number,
        rate_limit,
        routing: chain(Hook::Routing),
        fanout: chain(Hook::Fanout),
        presence: chain(Hook::Presence),
        builtins,
        scopes,
        states,
        clock,
        luck: Luck::new(),
        micros: Vec::new(),
    }
}

/// The same hook in the words of `heddle-pack`.
pub(crate) fn pack_hook(hook: Hook) -> Option<heddle_pack::Hook> {
    heddle_pack::Hook::from_name(hook.name())
}

/// A version before, as a plugin to check.
pub(crate) fn previous_entry(entry: &Entry) -> Option<(Digest, &Previous)> {
    let previous = entry.previous.as_ref()?;
    Some((digest(&previous.digest)?, previous))
}
