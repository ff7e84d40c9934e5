//! The configuration, read again while the server runs: what can take effect does, for the rest it is said that a restart is needed.

mod changes;

use heddle_gateway::{GatewayConfig, Reloaded};
use heddle_model::{Clock as _, SystemClock};
use parking_lot::Mutex;

use crate::config::{
    BackendFile, Config, KafkaSection, PoliciesSection, Problem, Problems, RegistrySection, Sources, backend_expired,
    backend_files, backend_warnings,
};
use crate::failure::Failure;
use crate::ready::RunFile;
use crate::server::sound::sound;
use crate::server::{Terms, settings};
use changes::Changes;
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

    /// Reads everything again, key files too. `outgrown`: what decides and would not be admitted with these limits. `exchange`: makes clients of the
    /// backends in these sections prove and believe what the configuration says, or says why that cannot be.
    ///
    /// # Errors
    /// All problems of the new configuration; nothing has changed.
    pub fn reload(
        &self,
        outgrown: impl FnOnce(&PolicyLimits) -> Vec<String>,
        exchange: impl FnOnce(&Config, &[&str]) -> Result<(), Failure>,
    ) -> Result<(GatewayConfig, Reloaded), Failure> {
        let found = sound(&self.sources, self.terms.dev)?;
        let mut in_force = self.in_force.lock();
        let mut known = self.files.lock();
        let files = backend_files(&found);
        let changes = Changes::between(&in_force, &found, &known, &files);
        let now = SystemClock::new().now();
        let expired = backend_expired(&found, &changes.files, now);
        if !expired.is_empty() {
            return Err(Problems(expired).into());
        }
        let warnings = backend_warnings(&found, now);
        let Changes { applied, waiting, fixed, files: exchanged, sections } = changes;
        let next = next(&in_force, found, &fixed);
        let config = settings::gateway(&next, &self.terms.admin_token, self.terms.dev)?;
        settings::trust(&next)?;
        let remedy = "leave the limit, or change the policy set first: see `heddle plugin list`";
        let outgrown = outgrown(&settings::limits(&next)).into_iter();
        let problems: Vec<Problem> = outgrown.map(|wrong| settings::problem("policies", wrong, remedy)).collect();
        if !problems.is_empty() {
            return Err(Problems(problems).into());
        }
        if !sections.is_empty() {
            exchange(&next, &sections)?;
        }
        for (known, found) in known.iter_mut().zip(files) {
            if exchanged.contains(&found.key) {
                *known = found;
            }
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

/// What of `found` may be in force beside what cannot change.
fn next(in_force: &Config, found: Config, fixed: &[&str]) -> Config {
    let Config { mut gateway, mut auth, admin, policies, kafka, registry, .. } = found;
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
    if !fixed.contains(&"kafka.tls_ca") {
        let KafkaSection { tls_ca, tls_certificate, tls_key, user, password, password_file, .. } = kafka;
        next.kafka =
            KafkaSection { tls_ca, tls_certificate, tls_key, user, password, password_file, ..in_force.kafka.clone() };
    }
    if !fixed.contains(&"registry.tls_ca") {
        let RegistrySection { tls_ca, tls_certificate, tls_key, .. } = registry;
        next.registry = RegistrySection { tls_ca, tls_certificate, tls_key, ..in_force.registry.clone() };
    }
    next
}

/// Those keys of policies that are read at start stay as they were.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn reload(reloader: &Reloader) -> Result<(GatewayConfig, Reloaded), Failure> {
        reloader.reload(|_| Vec::new(), |_, _| Ok(()))
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
        let (_, nothing) = reload(&reloader).unwrap();
        assert_eq!(nothing, Reloaded::default());
        write(&file, "gateway.connections_per_user = 7\nlog.partitions = 32\n");
        let (config, reloaded) = reload(&reloader).unwrap();
        assert_eq!(config.connections_per_user_max, 7);
        assert_eq!(reloaded.applied, ["gateway.connections_per_user: 5 -> 7"]);
        assert_eq!(reloaded.waiting, ["log.partitions: 16 -> 32"]);
        let (_, again) = reload(&reloader).unwrap();
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
        let (_, reloaded) = reload(&reloader).unwrap();
        assert_eq!(reloaded.applied.len(), 12, "{reloaded:?}");
        assert_eq!(reloaded.waiting, ["policies.memory_max: \"64 MiB\" -> \"32 MiB\""]);
        let limits = settings::limits(&reloader.in_force());
        assert_eq!((limits.deadline_ms_max, limits.draining_max, limits.memory_bytes_max), (9, 2, 64 << 20));
        write(&file, "policies.deadline_max = \"8 ms\"\n");
        let slow = |limits: &PolicyLimits| vec![format!("slow asks for more than {}", limits.deadline_ms_max)];
        let refused = reloader.reload(slow, |_, _| Ok(()));
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
        assert!(reload(&reloader).unwrap_err().to_string().contains("policies.trusted_keys"));
        assert!(!reloader.watched().unwrap().0.breaker, "what is wrong changes nothing");
    }

    /// A reload, and the sections whose clients were told.
    fn told(reloader: &Reloader, refuse: bool) -> (Result<Reloaded, String>, Vec<String>) {
        let mut sections = Vec::new();
        let reloaded = reloader.reload(
            |_| Vec::new(),
            |_, of| {
                sections.extend(of.iter().map(ToString::to_string));
                if refuse { Err(Failure::new("refused")) } else { Ok(()) }
            },
        );
        (reloaded.map(|(_, reloaded)| reloaded).map_err(|failure| failure.text), sections)
    }

    #[test]
    fn a_login_of_kafka_takes_effect_unless_it_is_refused_or_what_it_belongs_to_waits() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("heddle.toml");
        let kafka = |sasl: &str, user: &str| {
            let section = "log.backend = \"kafka\"\nkafka.brokers = \"one:9092\"\nkafka.password = \"p\"";
            write(&file, &format!("{section}\nkafka.sasl = \"{sasl}\"\nkafka.user = \"{user}\"\n"));
        };
        kafka("scram-sha-512", "a");
        let reloader = reloader(&file);
        kafka("scram-sha-512", "b");
        let (refused, sections) = told(&reloader, true);
        assert_eq!((refused.unwrap_err().as_str(), sections), ("refused", vec!["kafka".to_owned()]));
        assert_eq!(reloader.in_force().kafka.user, "a");
        let (reloaded, sections) = told(&reloader, false);
        assert_eq!((reloaded.unwrap().applied, sections.len()), (vec!["kafka.user: \"a\" -> \"b\"".to_owned()], 1));
        assert_eq!(reloader.in_force().kafka.user, "b");
        kafka("scram-sha-256", "c");
        let (reloaded, sections) = told(&reloader, false);
        let reloaded = reloaded.unwrap();
        assert_eq!((reloaded.applied.len(), reloaded.waiting.len(), sections.len()), (0, 2, 0));
        assert_eq!(reloader.in_force().kafka.user, "b");
    }

    #[test]
    fn what_is_wrong_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("heddle.toml");
        write(&file, "");
        let reloader = reloader(&file);
        write(&file, "gateway.connections_per_user = 0\ngateway.heartbeet = \"1 s\"\n");
        let wrong = reload(&reloader).unwrap_err().to_string();
        assert!(wrong.contains("connections_per_user") && wrong.contains("heartbeet"), "{wrong}");
        write(&file, "");
        assert_eq!(reload(&reloader).unwrap().1, Reloaded::default());
    }

    #[test]
    fn a_secret_is_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("heddle.toml");
        write(&file, "");
        let reloader = reloader(&file);
        std::fs::write(&file, "auth.secret = \"another secret of more than thirty-two bytes\"\n").unwrap();
        assert_eq!(reload(&reloader).unwrap().1.applied, ["auth.secret"]);
    }
}
