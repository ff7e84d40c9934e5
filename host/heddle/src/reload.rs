//! The configuration, read again while the server runs: what can take effect does, for the rest it is said that a restart is needed.

use std::path::Path;

use heddle_gateway::{GatewayConfig, Reloaded};
use heddle_model::{Clock as _, SystemClock};
use parking_lot::Mutex;

use crate::config::{
    BackendFile, Config, KEYS, Key, PoliciesSection, Problem, Problems, Sources, backend_files, backend_warnings,
};
use crate::failure::Failure;
use crate::ready::RunFile;
use crate::server::sound::sound;
use crate::server::{Terms, settings};
use heddle_pack::TrustList;
use heddle_policy::{PolicyLimits, WatchConfig};

/// Where the configuration came from, and what of it is in force.
pub struct Reloader {
    sources: Sources,
    terms: Terms,
    in_force: Mutex<Config>,
    /// What backends' clients have read, or will with their next connection.
    files: Mutex<Vec<BackendFile>>,
}

impl Reloader {
    /// `config`: as it was read from `sources` at start.
    #[must_use]
    pub fn new(sources: Sources, terms: Terms, config: Config) -> Self {
        let files = Mutex::new(backend_files(&config));
        Self { sources, terms, in_force: Mutex::new(config), files }
    }

    /// What is in force now.
    pub fn in_force(&self) -> Config {
        self.in_force.lock().clone()
    }

    /// How policies are watched, and whose signatures count, as it is in force now.
    ///
    /// # Errors
    /// A key that is none: it was checked before it came into force.
    pub fn watched(&self) -> Result<(WatchConfig, TrustList), Failure> {
        let config = self.in_force();
        Ok((settings::watch(&config), settings::trust(&config)?))
    }

    /// Reads everything again, key files too. `outgrown`: what decides and would not be admitted with these limits.
    ///
    /// # Errors
    /// All problems of the new configuration; nothing has changed.
    pub fn reload(
        &self,
        outgrown: impl FnOnce(&PolicyLimits) -> Vec<String>,
    ) -> Result<(GatewayConfig, Reloaded), Failure> {
        let found = sound(&self.sources, self.terms.dev)?;
        let mut in_force = self.in_force.lock();
        let fixed = fixed(&in_force, &found);
        let (mut applied, mut waiting) = (Vec::new(), Vec::new());
        for ((key, old), new) in KEYS.iter().zip(in_force.shown()).zip(found.shown()) {
            if old == new {
                continue;
            }
            let change = if key.secret { key.path.to_owned() } else { format!("{}: {old} -> {new}", key.path) };
            let live = live(key) && !fixed.contains(&key.path);
            if live { applied.push(change) } else { waiting.push(change + without_restart(key)) }
        }
        replaced(&mut self.files.lock(), backend_files(&found), &mut applied, &mut waiting);
        let warnings = backend_warnings(&found, SystemClock::new().now());
        let next = next(&in_force, found, &fixed);
        let config = settings::gateway(&next, &self.terms.admin_token, self.terms.dev)?;
        settings::trust(&next)?;
        let remedy = "leave the limit, or change the policy set first: see `heddle plugin list`";
        let outgrown = outgrown(&settings::limits(&next)).into_iter();
        let problems: Vec<Problem> = outgrown.map(|wrong| settings::problem("policies", wrong, remedy)).collect();
        if !problems.is_empty() {
            return Err(Problems(problems).into());
        }
        let data = &next.node.data_dir;
        // Before they serve: a command that comes in between believes them already.
        if let (Ok(mut run_file), true) = (RunFile::read(data), !config.certificates().is_empty()) {
            run_file.serving(config.certificates().iter().map(|(_, certificate)| certificate.leaf()));
            run_file.write(data)?;
        }
        *in_force = next;
        Ok((config, Reloaded { applied, waiting, warnings }))
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

/// Files of backends that have another content under the same name. Only some clients read them again.
fn replaced(known: &mut [BackendFile], found: Vec<BackendFile>, applied: &mut Vec<String>, waiting: &mut Vec<String>) {
    for (known, found) in known.iter_mut().zip(found) {
        if found.path != known.path || found == *known {
            continue;
        }
        if found.rereads {
            applied.push(format!("{}: another {:?}, for new connections", found.key, found.path));
            *known = found;
        } else {
            waiting.push(format!("{}: another {:?}", found.key, found.path));
        }
    }
}

/// What of `found` may be in force beside what cannot change.
fn next(in_force: &Config, found: Config, fixed: &[&str]) -> Config {
    let Config { mut gateway, mut auth, admin, policies, .. } = found;
    gateway.listen = in_force.gateway.listen;
    gateway.sockets_max = in_force.gateway.sockets_max;
    gateway.tls_handshakes_max = in_force.gateway.tls_handshakes_max;
    auth.first_frame_connections_max = in_force.auth.first_frame_connections_max;
    let policies = self::policies(&in_force.policies, policies);
    let mut next = Config { gateway, auth, policies, ..in_force.clone() };
    if fixed.contains(&"gateway.tls_certificate") {
        next.gateway.tls_certificate.clone_from(&in_force.gateway.tls_certificate);
        next.gateway.tls_key.clone_from(&in_force.gateway.tls_key);
    }
    if !fixed.contains(&"admin.tls_certificate") {
        next.admin.tls_certificate = admin.tls_certificate;
        next.admin.tls_key = admin.tls_key;
    }
    next
}

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

fn policies(in_force: &PoliciesSection, found: PoliciesSection) -> PoliciesSection {
    PoliciesSection {
        rate_limit: in_force.rate_limit.clone(),
        routing: in_force.routing.clone(),
        fanout: in_force.fanout.clone(),
        presence: in_force.presence.clone(),
        config: in_force.config.clone(),
        memory_max: in_force.memory_max,
        stack_max: in_force.stack_max,
        table_elements_max: in_force.table_elements_max,
        instances_max: in_force.instances_max,
        warm_instances_max: in_force.warm_instances_max,
        ..found
    }
}

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
        || (key.section == "policies" && !POLICIES_AT_START.contains(&key.path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(_: &PolicyLimits) -> Vec<String> {
        Vec::new()
    }

    fn reloader(file: &std::path::Path) -> Reloader {
        let sources = Sources { file: Some(file.to_owned()), ..Sources::default() };
        let config = sources.load().unwrap();
        Reloader::new(sources, Terms { admin_token: "t".to_owned(), dev: false }, config)
    }

    fn write(file: &std::path::Path, more: &str) {
        let secret = "a secret of more than thirty-two bytes";
        std::fs::write(file, format!("auth.secret = \"{secret}\"\n{more}")).unwrap();
    }

    #[test]
    fn limits_take_effect_and_the_rest_waits_for_a_restart_and_says_so_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("heddle.toml");
        write(&file, "");
        let reloader = reloader(&file);
        let (_, nothing) = reloader.reload(admitted).unwrap();
        assert_eq!(nothing, Reloaded::default());
        write(&file, "gateway.connections_per_user = 7\nlog.partitions = 32\n");
        let (config, reloaded) = reloader.reload(admitted).unwrap();
        assert_eq!(config.connections_per_user_max, 7);
        assert_eq!(reloaded.applied, ["gateway.connections_per_user: 5 -> 7"]);
        assert_eq!(reloaded.waiting, ["log.partitions: 16 -> 32"]);
        let (_, again) = reloader.reload(admitted).unwrap();
        assert_eq!((again.applied.len(), again.waiting.len()), (0, 1));
    }

    #[test]
    fn limits_of_policies_take_effect_and_what_the_engine_was_made_for_waits() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("heddle.toml");
        write(&file, "");
        let reloader = reloader(&file);
        let all = "[policies]\nbreaker = false\nrecord = [\"routing\"]\nrecord_one_in = 3\nrecord_bodies = true\n\
                   record_tags = [\"mark\"]\nrecord_calls_max = 5\nrecord_bytes_max = \"1 MiB\"\nrepeat_one_in = 7\n\
                   canary_band_percent = 9\ndeadline_max = \"9 ms\"\ndraining_max = 2\n\
                   compile_time = \"9 s\"\nmemory_max = \"32 MiB\"\n";
        write(&file, all);
        let (_, reloaded) = reloader.reload(admitted).unwrap();
        assert_eq!(reloaded.applied.len(), 12, "{reloaded:?}");
        assert_eq!(reloaded.waiting, ["policies.memory_max: \"64 MiB\" -> \"32 MiB\""]);
        let limits = settings::limits(&reloader.in_force());
        assert_eq!((limits.deadline_ms_max, limits.draining_max, limits.memory_bytes_max), (9, 2, 64 << 20));
        write(&file, "policies.deadline_max = \"8 ms\"\n");
        let refused = reloader.reload(|limits| vec![format!("slow asks for more than {}", limits.deadline_ms_max)]);
        assert!(refused.unwrap_err().to_string().contains("slow asks for more than 8"));
        assert_eq!(
            settings::limits(&reloader.in_force()).deadline_ms_max,
            9,
            "what would not start again changes nothing"
        );
        let (watch, trust) = reloader.watched().unwrap();
        assert!(!watch.breaker && watch.record.redaction.bodies && !trust.required());
        assert_eq!((watch.repeat_one_in, watch.canary_band_percent, watch.record.one_in), (7, 9, 3));
        write(&file, "policies.require_signature = true\n");
        assert!(reloader.reload(admitted).unwrap_err().to_string().contains("policies.trusted_keys"));
        assert!(!reloader.watched().unwrap().0.breaker, "what is wrong changes nothing");
    }

    #[test]
    fn what_is_wrong_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("heddle.toml");
        write(&file, "");
        let reloader = reloader(&file);
        write(&file, "gateway.connections_per_user = 0\ngateway.heartbeet = \"1 s\"\n");
        let wrong = reloader.reload(admitted).unwrap_err().to_string();
        assert!(wrong.contains("connections_per_user") && wrong.contains("heartbeet"), "{wrong}");
        write(&file, "");
        assert_eq!(reloader.reload(admitted).unwrap().1, Reloaded::default());
    }

    #[test]
    fn a_secret_is_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("heddle.toml");
        write(&file, "");
        let reloader = reloader(&file);
        std::fs::write(&file, "auth.secret = \"another secret of more than thirty-two bytes\"\n").unwrap();
        assert_eq!(reloader.reload(admitted).unwrap().1.applied, ["auth.secret"]);
    }
}
