//! What a change makes of the chains.

use heddle_model::Hook;
use serde_json::{Map, Value};

use crate::load::pack_hook;
use crate::{Change, ChangeError, PluginRef, PolicyConfig, TrialMode, TrialRef};

/// Changes the chains.
pub(crate) fn edit(config: &mut PolicyConfig, change: &Change) -> Result<(), ChangeError> {
    match change {
        Change::Rollback { .. } | Change::Revoke { .. } => Ok(()),
        Change::Deploy { hook, file, trial: None, .. } => deploy(config, *hook, file),
        Change::Deploy { hook, file, trial: Some(mode), .. } => try_out(config, *hook, file, *mode),
        Change::Configure { plugin, changes } => configure(config, plugin, changes),
        Change::Chain { hook, plugins } => order(config, *hook, plugins),
        Change::Remove { plugin, hook } => remove(config, plugin, *hook),
        Change::Enable { plugin, hook, enabled } => enable(config, plugin, *hook, *enabled),
        Change::Promote => promote(config),
        Change::Abandon => config.trial.take().map(drop).ok_or_else(no_trial),
    }
}

fn no_trial() -> ChangeError {
    ChangeError::Unknown { what: "plugin on trial, deploy one with --shadow or --canary".to_owned() }
}

fn deploy(config: &mut PolicyConfig, hook: Option<Hook>, file: &PluginRef) -> Result<(), ChangeError> {
    let (name, hooks) = hooks_of(file, hook)?;
    for hook in hooks {
        let chain = chain(config, hook);
        match chain.iter_mut().find(|plugin| name_of(plugin).as_ref() == Some(&name)) {
            Some(plugin) => *plugin = succeeds(plugin, file),
            None => chain.push(file.clone()),
        }
    }
    Ok(())
}

/// Beside the chains, with the configuration that it would have in them.
fn try_out(
    config: &mut PolicyConfig,
    hook: Option<Hook>,
    file: &PluginRef,
    mode: TrialMode,
) -> Result<(), ChangeError> {
    let refused = |problem: String| ChangeError::Refused { problems: vec![format!("{}: {problem}", file.source)] };
    if let Some(name) = config.trial.as_ref().and_then(|trial| name_of(&trial.file)) {
        return Err(refused(format!("{name} is on trial, one at a time: promote or abandon it first")));
    }
    if let TrialMode::Canary { percent } = mode
        && !(1..=99).contains(&percent)
    {
        return Err(refused(format!("a canary decides for 1 to 99 % of the conversations, not for {percent} %")));
    }
    let (name, hooks) = hooks_of(file, hook)?;
    let live = hooks
        .iter()
        .find_map(|hook| chain(config, *hook).iter().find(|plugin| name_of(plugin).as_ref() == Some(&name)).cloned());
    let file = live.map_or_else(|| file.clone(), |live| succeeds(&live, file));
    // Whoever tries it wants to see it at work.
    config.trial = Some(TrialRef { mode, file: PluginRef { disabled: false, ..file }, hooks });
    Ok(())
}

/// The plugin on trial takes the place that it was tried for.
fn promote(config: &mut PolicyConfig) -> Result<(), ChangeError> {
    let trial = config.trial.take().ok_or_else(no_trial)?;
    trial.hooks.iter().try_for_each(|hook| deploy(config, Some(*hook), &trial.file))?;
    // It decided already for some, or was seen to: from now on it decides for all.
    let name = name_of(&trial.file);
    for hook in trial.hooks {
        let promoted = chain(config, hook).iter_mut().filter(|plugin| name_of(plugin) == name);
        promoted.for_each(|plugin| plugin.disabled = false);
    }
    Ok(())
}

/// The plugin's name, and where it is to stand.
fn hooks_of(file: &PluginRef, hook: Option<Hook>) -> Result<(String, Vec<Hook>), ChangeError> {
    let packed = heddle_pack::unpack(file.bytes.as_ref())
        .map_err(|error| ChangeError::Refused { problems: vec![format!("{}: {error}", file.source)] })?;
    let declared = |hook: &Hook| pack_hook(*hook).is_some_and(|hook| packed.manifest.hooks.contains_key(&hook));
    let hooks = match hook {
        Some(hook) => vec![hook],
        None => Hook::ALL.into_iter().filter(declared).collect(),
    };
    Ok((packed.manifest.name, hooks))
}

/// `file` with what the operator had set for the one before: its configuration, and whether it is asked at all.
fn succeeds(before: &PluginRef, file: &PluginRef) -> PluginRef {
    let mut config = set_by_operator(before);
    config.extend(file.config.clone());
    PluginRef { config, disabled: before.disabled, ..file.clone() }
}

fn configure(config: &mut PolicyConfig, name: &str, changes: &Map<String, Value>) -> Result<(), ChangeError> {
    let mut found = false;
    for hook in Hook::ALL {
        for plugin in chain(config, hook).iter_mut().filter(|plugin| name_of(plugin).as_deref() == Some(name)) {
            let mut kept = set_by_operator(plugin);
            kept.extend(changes.clone());
            kept.retain(|_, value| !value.is_null());
            plugin.config = kept;
            found = true;
        }
    }
    if found { Ok(()) } else { Err(ChangeError::Unknown { what: format!("plugin {name:?} in any chain") }) }
}

fn order(config: &mut PolicyConfig, hook: Hook, names: &[String]) -> Result<(), ChangeError> {
    let chain = chain(config, hook);
    let mut ordered = Vec::with_capacity(names.len());
    for name in names {
        let held = chain.iter().find(|plugin| name_of(plugin).as_ref() == Some(name)).cloned();
        ordered.push(held.ok_or_else(|| {
            let have: Vec<String> = chain.iter().filter_map(name_of).collect();
            ChangeError::Unknown {
                what: format!("plugin {name:?} in the chain of {hook}, only {}: deploy it first", have.join(", ")),
            }
        })?);
    }
    *chain = ordered;
    Ok(())
}

fn remove(config: &mut PolicyConfig, name: &str, hook: Option<Hook>) -> Result<(), ChangeError> {
    let mut found = false;
    for hook in Hook::ALL.into_iter().filter(|of| hook.is_none_or(|hook| hook == *of)) {
        chain(config, hook).retain(|plugin| {
            let goes = name_of(plugin).as_deref() == Some(name);
            found |= goes;
            !goes
        });
    }
    if found { Ok(()) } else { Err(ChangeError::Unknown { what: format!("plugin {name:?} in that chain") }) }
}

fn enable(config: &mut PolicyConfig, name: &str, hook: Option<Hook>, enabled: bool) -> Result<(), ChangeError> {
    let mut found = false;
    for hook in Hook::ALL.into_iter().filter(|of| hook.is_none_or(|hook| hook == *of)) {
        for plugin in chain(config, hook).iter_mut().filter(|plugin| name_of(plugin).as_deref() == Some(name)) {
            plugin.disabled = !enabled;
            found = true;
        }
    }
    if found { Ok(()) } else { Err(ChangeError::Unknown { what: format!("plugin {name:?} in that chain") }) }
}

/// Another one in the place of the one of its name, or none.
pub(crate) fn replace(config: &mut PolicyConfig, hook: Hook, name: &str, with: Option<PluginRef>) {
    let chain = chain(config, hook);
    let Some(at) = chain.iter().position(|plugin| name_of(plugin).as_deref() == Some(name)) else { return };
    match with {
        Some(plugin) => chain[at] = plugin,
        None => drop(chain.remove(at)),
    }
}

fn chain(config: &mut PolicyConfig, hook: Hook) -> &mut Vec<PluginRef> {
    let at = match config.chains.iter().position(|(of, _)| *of == hook) {
        Some(at) => at,
        None => {
            config.chains.push((hook, Vec::new()));
            config.chains.len() - 1
        }
    };
    &mut config.chains[at].1
}

fn name_of(plugin: &PluginRef) -> Option<String> {
    heddle_pack::unpack(plugin.bytes.as_ref()).ok().map(|packed| packed.manifest.name)
}

/// What differs from the manifest: it stays when the plugin's version changes.
pub(crate) fn set_by_operator(plugin: &PluginRef) -> Map<String, Value> {
    let packed = heddle_pack::unpack(plugin.bytes.as_ref()).ok();
    let defaults = packed.and_then(|packed| packed.manifest.config.as_object().cloned()).unwrap_or_default();
    plugin.config.clone().into_iter().filter(|(key, value)| defaults.get(key) != Some(value)).collect()
}
