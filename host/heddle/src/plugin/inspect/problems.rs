//! What stands in the way of a file, and what to do about it: everything at once.

use heddle_pack::{Hook, Packed, Surface};
use heddle_wasm::{Engine, Limits, LoadOptions};

use super::Inspected;

/// The version of the contract.
const VERSION: &str = "@0.1.0";
/// Getters of `message` that read the body.
const BODY: [&str; 2] = ["text", "data"];

/// What can be said without running it.
pub fn of(inspected: &Inspected, limits: &Limits) -> Vec<String> {
    let mut problems = Vec::new();
    match &inspected.packed {
        Err(error) => problems.push(error.to_string()),
        Ok(packed) => over_limits(packed, limits, &mut problems),
    }
    if let Ok(surface) = &inspected.surface {
        imports(surface, inspected.packed.as_ref().ok(), &mut problems);
        if let Ok(packed) = &inspected.packed {
            exports(surface, packed, &mut problems);
        }
    }
    problems
}

fn over_limits(packed: &Packed, limits: &Limits, problems: &mut Vec<String>) {
    let asked = packed.manifest.limits;
    if asked.memory_bytes > limits.memory_bytes_max as u64 {
        let max = limits.memory_bytes_max >> 20;
        problems.push(format!(
            "limits.memory = {} MiB, a server gives {max} MiB unless its policies.memory_max says more: lower it, or ask its operator",
            asked.memory_bytes >> 20
        ));
    }
    if asked.deadline_ms > limits.deadline_ms_max {
        let max = limits.deadline_ms_max;
        problems.push(format!(
            "limits.deadline_ms = {}, a server gives {max} ms unless its policies.deadline_max says more: lower it, or ask its operator",
            asked.deadline_ms
        ));
    }
}

fn imports(surface: &Surface, packed: Option<&Packed>, problems: &mut Vec<String>) {
    for import in &surface.imports {
        if !Engine::gives(&import.name) {
            problems.push(format!(
                "it imports `{}`, which a policy does not get: leave out what needs it (files, sockets, other services); what a policy may know comes in as arguments",
                import.name
            ));
        } else if import.name.starts_with("heddle:policy/") && !import.name.ends_with(VERSION) {
            problems.push(format!(
                "it imports `{}`, this host speaks heddle:policy{VERSION}: build it against the wit/ of this host",
                import.name
            ));
        }
        let reads = BODY.iter().find(|getter| import.functions.iter().any(|name| name == *getter));
        if let (Some(getter), "heddle:policy/message", Some(packed)) = (reads, import.bare(), packed)
            && !packed.manifest.reads_body
        {
            problems.push(format!(
                "it can call `message.{getter}`, and would fail each time: write `body = true` under [reads] in plugin.toml, or do not call it"
            ));
        }
    }
}

fn exports(surface: &Surface, packed: &Packed, problems: &mut Vec<String>) {
    let wanted = packed.manifest.hooks.keys().map(|hook| hook.as_str()).chain(["lifecycle"]);
    for hook in wanted {
        let bare = format!("heddle:policy/{hook}");
        if surface.exports.iter().any(|export| export.name == format!("{bare}{VERSION}")) {
            continue;
        }
        problems.push(match surface.exports.iter().find(|export| export.bare() == bare) {
            Some(other) => format!("it exports `{}`, this host speaks {bare}{VERSION}: build it against the wit/ of this host", other.name),
            None if hook == "lifecycle" => format!("it exports no `{bare}{VERSION}`, which every policy has: in Rust `heddle_sdk::export!` makes it"),
            None => format!(
                "plugin.toml names the hook {hook}, the component exports no `{bare}{VERSION}`: in Rust add it to `heddle_sdk::export!`, or remove [hooks.{hook}]"
            ),
        });
    }
}

/// The engine stops at the first wrong type: each hook is asked alone, so that all are told.
pub fn each_hook(engine: &Engine, packed: &Packed, whole: String) -> Vec<String> {
    let mut found = vec![whole];
    if packed.manifest.hooks.len() > 1 {
        for (hook, declared) in &packed.manifest.hooks {
            let mut alone = packed.clone();
            alone.manifest.hooks = [(*hook, declared.clone())].into();
            if let Err(error) = engine.load(&alone, &LoadOptions::default()) {
                let text = error.to_string();
                if !found.contains(&text) {
                    found.push(text);
                }
            }
        }
    }
    found
}

/// What is no problem, and worth knowing.
pub fn notes(inspected: &Inspected) -> Vec<String> {
    let (Ok(packed), Ok(surface)) = (&inspected.packed, &inspected.surface) else { return Vec::new() };
    let mut notes = Vec::new();
    for hook in Hook::ALL.into_iter().filter(|hook| !packed.manifest.hooks.contains_key(hook)) {
        if surface.exports.iter().any(|export| export.bare() == format!("heddle:policy/{hook}")) {
            notes.push(format!("it exports {hook}, and plugin.toml has no [hooks.{hook}]: it is not asked there"));
        }
    }
    let message = surface.imports.iter().find(|import| import.bare() == "heddle:policy/message");
    let reads = message.is_some_and(|import| import.functions.iter().any(|name| BODY.contains(&name.as_str())));
    if packed.manifest.reads_body && !reads {
        notes.push(
            "[reads] body = true, and it cannot call text or data: leave it out, bodies are then not copied".to_owned(),
        );
    }
    if packed.cases.is_empty() {
        notes.push("it has no cases: write cases/NAME.json, each server runs them before it decides".to_owned());
    }
    notes
}
