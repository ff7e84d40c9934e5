//! What is in a file, for people and for programs.

use std::fmt::Write as _;

use heddle_pack::{Hook, HookManifest, Interface, Share};
use serde_json::{Map, Value, json};

use super::{Inspected, Measured};

/// For programs.
pub fn json(inspected: &Inspected) -> Value {
    let interface = |it: &Interface| json!({"name": it.name, "functions": it.functions});
    let border = |all: &[Interface]| all.iter().map(interface).collect::<Vec<_>>();
    let surface = inspected.surface.as_ref().ok();
    let mut out = json!({
        "path": inspected.path, "bytes": inspected.bytes, "digest": inspected.digest,
        "signature": inspected.signed.as_ref().map(|(key, says)| json!({"key": key, "says": says})),
        "imports": surface.map(|surface| border(&surface.imports)),
        "exports": surface.map(|surface| border(&surface.exports)),
    });
    let Ok(packed) = &inspected.packed else { return out };
    let manifest = &packed.manifest;
    let hook = |(hook, declared): (&Hook, &HookManifest)| (hook.as_str().to_owned(), json!(declared));
    out["name"] = manifest.name.as_str().into();
    out["version"] = manifest.version.as_str().into();
    out["state_version"] = manifest.state_version.into();
    out["hooks"] = Value::Object(manifest.hooks.iter().map(hook).collect::<Map<_, _>>());
    out["reads"] = json!({"body": manifest.reads_body});
    out["limits"] = json!(manifest.limits);
    out["config"] = manifest.config.clone();
    out["cases"] = packed
        .cases
        .iter()
        .map(|case| json!({"name": case.name, "hook": case.hook.as_str(), "steps": case.steps.len()}))
        .collect();
    out
}

/// For people. `whole`: with the manifest and the cases as they stand.
pub fn text(inspected: &Inspected, whole: bool) -> String {
    let mut out =
        format!("file        {}, {} bytes\nsha256      {}\n", inspected.path, inspected.bytes, inspected.digest);
    if let Some((key, says)) = &inspected.signed {
        let _ = writeln!(out, "signed      by the key {key}: {says}");
    }
    if let Ok(packed) = &inspected.packed {
        let manifest = &packed.manifest;
        let _ = writeln!(out, "plugin      {} {}", manifest.name, manifest.version);
        for (hook, declared) in &manifest.hooks {
            let scopes: Vec<&str> = declared.scopes.iter().map(|scope| scope.as_str()).collect();
            let scopes = if scopes.is_empty() { String::new() } else { format!(", scopes {}", scopes.join(" ")) };
            let shared = if declared.share == Share::Cluster { ", shared by all nodes" } else { "" };
            let redirect = if declared.redirect_to.is_empty() {
                String::new()
            } else {
                format!(", may send to {}", declared.redirect_to.join(" "))
            };
            let _ = writeln!(
                out,
                "hook        {hook}, on failure {}{scopes}{shared}{redirect}",
                declared.on_failure.as_str()
            );
        }
        let reads = if manifest.reads_body { "text and data" } else { "no text, no data" };
        let _ = writeln!(out, "reads       {reads}");
        let (memory, deadline) = (manifest.limits.memory_bytes >> 20, manifest.limits.deadline_ms);
        let _ = writeln!(out, "asks for    {memory} MiB of memory, {deadline} ms a call");
        if manifest.hooks.contains_key(&Hook::RateLimit) {
            let _ = writeln!(out, "state       version {}", manifest.state_version);
        }
        let _ = writeln!(out, "cases       {}", packed.cases.len());
    }
    if let Ok(surface) = &inspected.surface {
        for (word, all) in [("imports", &surface.imports), ("exports", &surface.exports)] {
            for (at, interface) in all.iter().enumerate() {
                let word = if at == 0 { word } else { "" };
                let _ = writeln!(out, "{word:<11} {} ({})", interface.name, interface.functions.join(", "));
            }
        }
    }
    match &inspected.packed {
        Ok(packed) if whole => {
            let _ = writeln!(out, "\n--- plugin.toml\n{}", packed.manifest.source().trim_end());
            for case in &packed.cases {
                let _ = writeln!(out, "\n--- cases/{}.json\n{}", case.name, case.source().trim_end());
            }
        }
        Err(error) if whole => {
            let _ = writeln!(out, "no plugin   {error}");
        }
        _ => {}
    }
    out
}

/// What the engine found.
pub fn measured(measured: &Measured) -> String {
    let mut out = String::new();
    if let Some(ms) = measured.compile_ms {
        let _ = writeln!(out, "compiled    in {ms:.0} ms, started and configured");
    }
    if let Some(bytes) = measured.memory_start_bytes {
        let _ = writeln!(out, "memory      {:.1} MiB at start", bytes as f64 / f64::from(1 << 20));
    }
    if measured.problems.is_empty() {
        let _ = writeln!(out, "fits        {} case(s) pass, each on fresh and on used instances", measured.cases);
    }
    out
}
