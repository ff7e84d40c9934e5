//! From plugin files to a policy set that is checked and resolved, and not loaded yet.

use std::collections::BTreeMap;

use bytes::Bytes;
use heddle_model::{Digest, Hook};
use heddle_pack::{OnFailure, Packed};
use heddle_store::CatalogPlugin;
use serde_json::{Map, Value, json};

use crate::content::{Before, Content, Entry, TrialEntry, TrialMode, sorted};
use crate::{PluginRef, PolicyConfig, PolicyLimits};

/// A plugin file, taken apart and checked against what the operator allows.
#[derive(Clone)]
pub(crate) struct Checked {
    /// As errors name it.
    pub(crate) source: String,
    pub(crate) packed: Packed,
    pub(crate) digest: Digest,
    pub(crate) config: Map<String, Value>,
    pub(crate) on_failure: OnFailure,
    pub(crate) disabled: bool,
}

/// All that a policy set names, checked.
pub(crate) struct Plan {
    pub(crate) chains: BTreeMap<Hook, Vec<Checked>>,
    pub(crate) builtins: BTreeMap<Hook, Checked>,
    pub(crate) trial: Option<(TrialMode, BTreeMap<Hook, Checked>)>,
}

impl Plan {
    /// Checks all files; everything that is wrong at once.
    pub(crate) fn check(config: &PolicyConfig, builtins: &[(Hook, &'static [u8])]) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let mut checked = Self { chains: BTreeMap::new(), builtins: BTreeMap::new(), trial: None };
        for hook in Hook::ALL {
            let Some((_, bytes)) = builtins.iter().find(|(of, _)| *of == hook) else {
                problems.push(format!("{hook}: this build has no built-in policy for it"));
                continue;
            };
            let changes = config.builtin_config.iter().filter(|(of, _)| *of == hook);
            let merged = changes.flat_map(|(_, changes)| changes.clone()).collect();
            let plugin =
                PluginRef { config: merged, ..PluginRef::file("the built-in policy", Bytes::from_static(bytes)) };
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
        if let Some(trial) = &config.trial {
            let mut plugins = BTreeMap::new();
            for hook in &trial.hooks {
                match check(*hook, &trial.file, &config.limits) {
                    Ok(plugin) => drop(plugins.insert(*hook, plugin)),
                    Err(found) => problems.extend(found),
                }
            }
            checked.trial = Some((trial.mode, plugins));
        }
        if problems.is_empty() { Ok(checked) } else { Err(problems) }
    }

    /// What it resolves to, after `before`.
    pub(crate) fn content(&self, before: &Before<'_>, configured: &str, limits: &PolicyLimits) -> Content {
        let resolved = |hook: Hook, plugin: &Checked| entry(before, hook, plugin);
        let chain = |(hook, chain): (&Hook, &Vec<Checked>)| {
            (*hook, chain.iter().map(|plugin| resolved(*hook, plugin)).collect::<Vec<_>>())
        };
        let chains = self.chains.iter().map(chain).collect();
        let builtins = self.builtins.iter().map(|(hook, plugin)| (*hook, resolved(*hook, plugin))).collect();
        let trial = self.trial.as_ref().map(|(mode, plugins)| TrialEntry {
            mode: *mode,
            entries: plugins.iter().map(|(hook, plugin)| (*hook, resolved(*hook, plugin))).collect(),
        });
        let carried = before.now.map(|now| (now.revoked.clone(), now.failed.clone()));
        let (revoked, failed) = carried.unwrap_or_default();
        Content { trial, revoked, failed, ..Content::new(chains, builtins, limits, configured) }
    }

    /// The files, each once.
    pub(crate) fn files(&self, at: u64) -> Vec<CatalogPlugin> {
        let tried = self.trial.iter().flat_map(|(_, plugins)| plugins.values());
        let all = self.chains.values().flatten().chain(self.builtins.values()).chain(tried);
        let files: BTreeMap<Digest, CatalogPlugin> = all.map(|plugin| (plugin.digest, file(plugin, at))).collect();
        files.into_values().collect()
    }
}

/// With what came before it.
fn entry(before: &Before<'_>, hook: Hook, plugin: &Checked) -> Entry {
    let manifest = &plugin.packed.manifest;
    let (name, hex) = (manifest.name.clone(), plugin.digest.to_string());
    let replaced = before.now.and_then(|now| now.entry(hook, &name));
    let previous = match plugin.on_failure {
        OnFailure::Previous => before.last_good(hook, &name, &hex, &plugin.config),
        _ => None,
    };
    let state_from = replaced.and_then(|replaced| match replaced.state_version == manifest.state_version {
        true => replaced.state_from,
        false => Some(replaced.state_version),
    });
    Entry {
        version: manifest.version.clone(),
        digest: hex,
        config: plugin.config.clone(),
        on_failure: plugin.on_failure,
        previous,
        disabled: plugin.disabled,
        state_version: manifest.state_version,
        state_from,
        name,
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
    let plugin = |plugin: &PluginRef| match plugin.builtin {
        true => json!([plugin.source, plugin.config]),
        false => json!([Digest::of(&plugin.bytes).to_string(), plugin.config]),
    };
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
        disabled: plugin.disabled,
    })
}

/// The same hook in the words of `heddle-pack`.
pub(crate) fn pack_hook(hook: Hook) -> Option<heddle_pack::Hook> {
    heddle_pack::Hook::from_name(hook.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(plugin: PluginRef) -> String {
        fingerprint(&PolicyConfig { chains: vec![(Hook::Routing, vec![plugin])], ..PolicyConfig::default() })
    }

    #[test]
    fn another_build_of_a_named_built_in_is_the_same_configuration_and_another_file_is_not() {
        let builtin = |bytes: &'static [u8]| PluginRef::builtin("inbox-routing", bytes);
        assert_eq!(of(builtin(b"old")), of(builtin(b"new")));
        assert_ne!(of(builtin(b"old")), of(PluginRef::builtin("other", b"old")));
        assert_ne!(of(PluginRef::file("a.wasm", &b"old"[..])), of(PluginRef::file("a.wasm", &b"new"[..])));
    }
}
