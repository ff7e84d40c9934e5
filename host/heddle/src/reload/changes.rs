//! What another configuration would change, at once or with a restart.

use std::path::Path;

use crate::config::{BackendFile, Config, KEYS, Key};

/// What a configuration would change.
#[derive(Default)]
pub(super) struct Changes {
    pub(super) applied: Vec<String>,
    pub(super) waiting: Vec<String>,
    /// Keys that wait for a restart because others do.
    pub(super) fixed: Vec<&'static str>,
    /// Keys of files of backends that are others now, and count.
    pub(super) files: Vec<&'static str>,
    /// Sections of backends whose clients must be told.
    pub(super) sections: Vec<&'static str>,
}

impl Changes {
    pub(super) fn between(in_force: &Config, found: &Config, known: &[BackendFile], files: &[BackendFile]) -> Self {
        let differing: Vec<(&Key, String, String)> = KEYS
            .iter()
            .zip(in_force.shown())
            .zip(found.shown())
            .filter(|((_, old), new)| old != new)
            .map(|((key, old), new)| (key, old, new))
            .collect();
        let differs = |path: &&str| differing.iter().any(|(key, ..)| key.path == *path);
        let mut changes = Self { fixed: fixed(in_force, found), ..Self::default() };
        for access in ACCESS.iter().filter(|access| access.of.iter().any(differs)) {
            changes.fixed.extend(access.keys);
        }
        for (key, old, new) in &differing {
            let change = if key.secret { key.path.to_owned() } else { format!("{}: {old} -> {new}", key.path) };
            let live = live(key) && !changes.fixed.contains(&key.path);
            if live {
                changes.applied.push(change)
            } else {
                changes.waiting.push(change + without_restart(key))
            }
            if let (true, Some(access)) = (live, ACCESS.iter().find(|access| access.keys.contains(&key.path))) {
                changes.tell(access.section);
            }
        }
        for (known, found) in known.iter().zip(files).filter(|(known, found)| known != found) {
            changes.file(known, found);
        }
        changes
    }

    /// A file of a backend that is another one, under the same name or under another.
    fn file(&mut self, known: &BackendFile, found: &BackendFile) {
        let same_name = found.path == known.path;
        if self.fixed.contains(&found.key) {
            if same_name {
                self.waiting.push(format!("{}: another {:?}", found.key, found.path));
            }
            return;
        }
        if same_name {
            self.applied.push(format!("{}: another {:?}, for new connections", found.key, found.path));
            self.tell(found.section);
        }
        // The name of a file of the store waits for a restart.
        if same_name || self.sections.contains(&found.section) {
            self.files.push(found.key);
        }
    }

    fn tell(&mut self, section: &'static str) {
        if !self.sections.contains(&section) {
            self.sections.push(section);
        }
    }
}

/// What changes it at once, if not in the configuration.
fn without_restart(key: &Key) -> &'static str {
    match key.path {
        "policies.config" => " (at once: heddle plugin set)",
        "policies.rate_limit" | "policies.routing" | "policies.fanout" | "policies.presence" => {
            " (at once: heddle plugin deploy, chain, remove)"
        }
        _ => "",
    }
}

/// What clients of a backend believe and prove.
struct Access {
    section: &'static str,
    keys: &'static [&'static str],
    /// Where the backend is, and which kind of proof it takes: these wait for a restart, and if one differs the others wait with it.
    of: &'static [&'static str],
}

const ACCESS: [Access; 2] = [
    Access {
        section: "kafka",
        keys: &[
            "kafka.tls_ca",
            "kafka.tls_certificate",
            "kafka.tls_key",
            "kafka.user",
            "kafka.password",
            "kafka.password_file",
        ],
        of: &["log.backend", "kafka.brokers", "kafka.tls", "kafka.sasl"],
    },
    Access {
        section: "registry",
        keys: &["registry.tls_ca", "registry.tls_certificate", "registry.tls_key"],
        of: &["registry.backend", "registry.url", "registry.mode"],
    },
];

/// Keys of policies that made what decides, or the engine and its pool of instances; all others are looked at anew.
const POLICIES_AT_START: [&str; 10] = [
    "policies.rate_limit",
    "policies.routing",
    "policies.fanout",
    "policies.presence",
    "policies.config",
    "policies.memory_max",
    "policies.stack_max",
    "policies.table_elements_max",
    "policies.instances_max",
    "policies.warm_instances_max",
];

/// Whether a listener speaks TLS is decided when it is bound; which certificate it has is not.
fn fixed(in_force: &Config, found: &Config) -> Vec<&'static str> {
    let turned = |old: &Path, new: &Path| old.as_os_str().is_empty() != new.as_os_str().is_empty();
    let mut fixed = Vec::new();
    if turned(&in_force.gateway.tls_certificate, &found.gateway.tls_certificate) {
        fixed.extend(["gateway.tls_certificate", "gateway.tls_key"]);
    }
    if turned(&in_force.admin.tls_certificate, &found.admin.tls_certificate) {
        fixed.extend(["admin.tls_certificate", "admin.tls_key"]);
    }
    fixed
}

/// Does it take effect while the server runs?
fn live(key: &Key) -> bool {
    let bound_at_start =
        ["gateway.listen", "gateway.sockets_max", "gateway.tls_handshakes_max", "auth.first_frame_connections_max"];
    let of_admin = ["admin.tls_certificate", "admin.tls_key"];
    (matches!(key.section, "gateway" | "auth") && !bound_at_start.contains(&key.path))
        || of_admin.contains(&key.path)
        || ACCESS.iter().any(|access| access.keys.contains(&key.path))
        || (key.section == "policies" && !POLICIES_AT_START.contains(&key.path))
}
