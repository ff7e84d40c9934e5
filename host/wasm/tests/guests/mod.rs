//! The guests of `tests/hostile`, built once a process, and what they are asked.
#![allow(dead_code, reason = "each test file uses its part")]

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use heddle_pack::{BuildOptions, Manifest, Packed, build_plugin, pack, unpack};
use heddle_wasm::contract::{
    Audience, Command, Conversation, Envelope, Moment, Observation, PresenceEvent, RateLimitRequest, Scope, Status,
};
use heddle_wasm::{Engine, Limits, LoadOptions, Plugin};

/// One for all tests that do not change its limits.
pub(crate) static ENGINE: LazyLock<Engine> = LazyLock::new(|| Engine::new(Limits::default()).expect("engine"));

/// The guest that does what the key `act` of its configuration says.
pub(crate) static HOSTILE: LazyLock<Packed> = LazyLock::new(|| {
    let options = BuildOptions { target_dir: Some(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("hostile")) };
    unpack(built("", &options)).expect("packed")
});

pub(crate) const AT: Moment = Moment { now: 1_700_000_000_123, seed: 7 };

fn built(folder: &str, options: &BuildOptions) -> Vec<u8> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/hostile").join(folder);
    let (_, packed) = build_plugin(&dir, options).unwrap_or_else(|error| panic!("{error}"));
    packed
}

/// A guest in text.
pub(crate) fn wat_guest(name: &str) -> Packed {
    unpack(built(&format!("wat/{name}"), &BuildOptions::default())).expect("packed")
}

/// Random components and core modules by seed; the folder is made anew.
pub(crate) fn random_guests(seeds: std::ops::Range<u64>) -> PathBuf {
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/hostile/wat/tool");
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("random-guests");
    let mut command = std::process::Command::new("cargo");
    command.args(["run", "--locked", "--quiet", "--manifest-path"]).arg(tool.join("Cargo.toml"));
    command.args(["--", "random", &seeds.start.to_string(), &seeds.end.to_string()]).arg(&folder);
    // The tool keeps what it builds to itself.
    command.env_remove("CARGO_TARGET_DIR").current_dir(&tool);
    let done = command.output().expect("cargo runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    folder
}

pub(crate) fn options(act: &str) -> LoadOptions {
    LoadOptions { config: Some(format!("{{\"act\": \"{act}\"}}")), ..LoadOptions::default() }
}

pub(crate) fn load(act: &str) -> Arc<Plugin> {
    ENGINE.load(&HOSTILE, &options(act)).unwrap_or_else(|error| panic!("{act}: {error}"))
}

/// The same component with another manifest.
pub(crate) fn with_manifest(change: impl Fn(&str) -> String) -> Packed {
    let component = component();
    let manifest = Manifest::parse(&change(HOSTILE.manifest.source()), "plugin.toml").expect("manifest");
    unpack(pack(&component, &manifest, &[]).expect("pack")).expect("unpack")
}

/// The component without its section, which is the last one.
pub(crate) fn component() -> Vec<u8> {
    let marker = b"heddle:plugin";
    let at = HOSTILE.bytes.windows(marker.len()).rposition(|window| window == marker).expect("section");
    // Before the name: its length (a byte), the section's length (LEB128), the section's id 0.
    let start = (0..at).rev().find(|start| HOSTILE.bytes[*start] == 0 && *start + 7 > at - 1 && *start < at - 1);
    HOSTILE.bytes[..start.expect("start")].to_vec()
}

pub(crate) fn request() -> RateLimitRequest {
    let (scope, command) = (Scope::User, Command::ChatMessage);
    RateLimitRequest { scope, key: "alice".into(), command, size: 1, connections: 1, recipients: 1 }
}

pub(crate) fn envelope() -> Envelope {
    Envelope { sender: "alice".into(), to: Conversation::Direct("bob".into()), size: 1, members: 2 }
}

pub(crate) fn audience() -> Audience {
    Audience { group: "g".into(), sender: "alice".into(), members: 3, online: 0 }
}

pub(crate) fn observation() -> Observation {
    let (event, previous) = (PresenceEvent::Active, Status::Away);
    Observation { user: "alice".into(), event, connections: 1, idle: 0, declared: None, previous }
}
