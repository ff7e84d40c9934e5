//! From the configuration to what each crate is told: the only place where names of keys meet names of fields.

mod policies;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use heddle_delivery::DeliveryConfig;
use heddle_gateway::{AuthConfig, AuthKey, DevConfig, GatewayConfig, JwksConfig};
use heddle_log::{Identity, KafkaConfig, KafkaLogin, KafkaSasl, KafkaTls, LogConfig};
use heddle_model::NodeId;
use heddle_presence::PresenceConfig;
use heddle_registry::{RedisConfig, RedisMode, RedisTls};
use heddle_store::{PostgresConfig, PostgresTls, StoreConfig};

use crate::compile;
use crate::config::{
    Config, KafkaLogin as Sasl, LogBackend, Problem, Problems, ProxyProtocol, RedisKind, RegistryBackend, UnknownUsers,
    admin_certificate, client_certificate, shard_key,
};
use crate::failure::Failure;
use crate::log_cat::LOG_DIR;
use crate::token::{DEVELOPMENT_SECRET, DEVELOPMENT_TTL_S};

pub use policies::{engine, limits, native_cache, plugin_log, policies, trust, watch};

/// A number that its range keeps small.
fn small(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn file(path: &Path) -> Option<PathBuf> {
    (!path.as_os_str().is_empty()).then(|| path.to_owned())
}

/// Both are set or neither, which was checked.
fn identity(certificate: &Path, key: &Path) -> Option<(PathBuf, PathBuf)> {
    file(certificate).zip(file(key))
}

/// What this node is called.
///
/// # Errors
/// Never for a checked configuration.
pub fn node(config: &Config) -> Result<NodeId, Failure> {
    NodeId::new(&config.node.id).map_err(|error| Failure::usage(format!("node.id: {error}")))
}

/// For Redis, if the nodes find each other there.
pub fn redis(config: &Config, node: &NodeId) -> Option<RedisConfig> {
    let section = &config.registry;
    let mode = match section.mode {
        RedisKind::Standalone => RedisMode::Standalone,
        RedisKind::Sentinel => RedisMode::Sentinel,
        RedisKind::Cluster => RedisMode::Cluster,
    };
    (section.backend == RegistryBackend::Redis).then(|| RedisConfig {
        prefix: section.prefix.clone(),
        deadline_ms: section.deadline.millis(),
        queue_max: count(section.queue_max),
        queue_bytes_max: section.queue_bytes_max.bytes(),
        lease_ms: section.lease.millis(),
        tls: RedisTls { ca: file(&section.tls_ca), identity: identity(&section.tls_certificate, &section.tls_key) },
        ..RedisConfig::new(section.url.clone(), mode, node.clone())
    })
}

/// For the log.
pub fn log(config: &Config) -> LogConfig {
    let section = &config.log;
    LogConfig {
        partitions: small(section.partitions),
        segment_bytes: section.segment_bytes.0,
        frame_bytes_max: section.commit_bytes_max.bytes(),
        frame_records_max: count(section.commit_records_max),
        derive_linger_ms: section.derive_linger.millis(),
        queue_requests_max: count(section.queue_max),
        queue_bytes_max: section.queue_bytes_max.bytes(),
        cache_bytes_max: section.cache_bytes_max.bytes(),
        retention_ms: section.retention.millis(),
        retention_interval_ms: section.retention_interval.millis(),
        bytes_max: (section.bytes_max.0 > 0).then_some(section.bytes_max.0),
        dedupe_window_ms: section.dedupe_window.millis(),
        ids_cache_bytes: section.ids_cache_bytes.0,
        ..LogConfig::new(config.node.data_dir.join(LOG_DIR))
    }
}

/// For the log on brokers. Reads the files that prove this node to them.
/// `known`: the log that the store knows, and the partitions that it has.
///
/// # Errors
/// A file that cannot be read.
pub fn kafka(config: &Config, known: Option<(Identity, u32)>) -> Result<KafkaConfig, Failure> {
    let section = &config.kafka;
    let sasl = match section.sasl {
        Sasl::None => None,
        Sasl::Plain => Some(KafkaSasl::Plain),
        Sasl::ScramSha256 => Some(KafkaSasl::ScramSha256),
        Sasl::ScramSha512 => Some(KafkaSasl::ScramSha512),
    };
    let login = |sasl| KafkaLogin { sasl, user: section.user.clone(), password: section.password.clone() };
    let read = || KafkaTls::read(file(&section.tls_ca), identity(&section.tls_certificate, &section.tls_key));
    let tls = section.tls.then(read).transpose().map_err(|error| Failure::usage(error.to_string()))?;
    Ok(KafkaConfig {
        tls,
        login: sasl.map(login),
        prefix: section.prefix.clone(),
        partitions: small(section.partitions),
        known,
        replication: small(section.replication),
        min_in_sync: small(section.min_in_sync),
        lenient: section.lenient,
        retention_ms: section.retention.millis(),
        dedupe_ms: section.dedupe_window.millis(),
        append_ms: section.append_deadline.millis(),
        session_ms: section.session_timeout.millis(),
        fetch_bytes: section.fetch_bytes.bytes(),
        fetch_wait_ms: section.fetch_wait.millis(),
        cache_bytes: section.cache_bytes_max.bytes(),
        ids_max: count(section.ids_max),
        skipped_max: count(section.skipped_max),
        queue_max: count(section.queue_max),
        queue_bytes_max: section.queue_bytes_max.bytes(),
        works: has_role(config, "worker"),
        ..KafkaConfig::new(&section.brokers, &config.node.id)
    })
}

/// For the store in a file.
pub fn sqlite(config: &Config) -> StoreConfig {
    StoreConfig {
        readers: small(config.store.readers_max),
        queue_max: count(config.store.queue_max),
        ..StoreConfig::at(config.node.data_dir.join("store.sqlite"))
    }
}

/// For the store on a server.
pub fn postgres(config: &Config) -> PostgresConfig {
    let section = &config.store;
    PostgresConfig {
        connections_max: small(section.connections_max),
        deadline: section.deadline.0,
        range_positions: section.range_positions,
        // A log in this node's data directory is nobody else's.
        alone: config.log.backend == LogBackend::Embedded,
        tls: PostgresTls { ca: file(&section.tls_ca), identity: identity(&section.tls_certificate, &section.tls_key) },
        ..PostgresConfig::at(section.url.clone())
    }
}

/// For the databases over which its archive is spread; none where it is not.
pub fn shards(config: &Config) -> Vec<PostgresConfig> {
    let one =
        |(nth, url): (usize, &String)| PostgresConfig { url: url.clone(), key: shard_key(nth), ..postgres(config) };
    config.store.shards.iter().enumerate().map(one).collect()
}

/// For delivery.
pub fn delivery(config: &Config) -> DeliveryConfig {
    let (section, groups, users, archive) = (&config.delivery, &config.groups, &config.users, &config.store);
    DeliveryConfig {
        read_bytes: section.read_bytes.bytes(),
        tail_events_max: count(section.tail_events_max),
        tail_bytes_max: section.tail_bytes_max.bytes(),
        archive_batch_records: count(archive.archive_records_max),
        archive_batch_bytes: archive.archive_bytes_max.bytes(),
        archive_interval_ms: archive.archive_interval.millis(),
        unacked_events_max: count(section.unacknowledged_max),
        unacked_bytes_max: section.unacknowledged_bytes_max.bytes(),
        slow_ms: section.slow_timeout.millis(),
        page_events: small(section.page_events),
        mailbox_items: count(section.mailbox_max),
        devices_per_user: small(users.devices_max),
        group_members_max: count(groups.members_max),
        chunk_members: count(groups.chunk_members),
        groups_cached: count(groups.cached_max),
        receipts_members_max: count(groups.receipts_members_max),
        receipt_interval_ms: section.receipt_interval.millis(),
        position_interval_ms: section.position_interval.millis(),
        history_wait_ms: section.history_deadline.millis(),
        group_wait_ms: groups.change_deadline.millis(),
        poison_tries: small(section.poison_tries),
        reject_unknown_users: users.unknown == UnknownUsers::Reject,
        users_cached: count(users.cached_max),
        blocks_max: small(users.blocks_max),
        blocks_cached: count(users.blocks_cached_max),
        revocations_max: small(users.revoked_max),
        in_flight_max: count(section.in_flight_max),
        presence: presence(config),
    }
}

fn has_role(config: &Config, role: &str) -> bool {
    config.node.roles.iter().any(|it| it == role)
}

/// For presence.
fn presence(config: &Config) -> PresenceConfig {
    let section = &config.presence;
    PresenceConfig {
        lease_ms: section.lease.millis(),
        users_max: count(section.users_max),
        watched_per_connection_max: count(section.watched_max),
        watchers_per_user_max: count(section.watchers_max),
        pause_ms: section.pause.millis(),
        node_lease_ms: section.node_lease.millis(),
        remote_connections_max: count(section.remote_max),
        ..PresenceConfig::default()
    }
}

/// For the gateway. `admin_token` opens the admin listener.
///
/// # Errors
/// All files of `auth.keys` that cannot be read or are no keys, all certificates that cannot serve.
pub fn gateway(config: &Config, admin_token: &str, dev: bool) -> Result<GatewayConfig, Problems> {
    let section = &config.gateway;
    let compiling_ms = u64::try_from(compile::bounds(config).wall.as_millis()).unwrap_or(u64::MAX / 2);
    let dev = dev.then(|| DevConfig {
        secret: DEVELOPMENT_SECRET.to_owned(),
        users: vec!["alice".to_owned(), "bob".to_owned()],
        token_life_ms: DEVELOPMENT_TTL_S * 1_000,
    });
    let (tls, admin_tls, auth) = (client_certificate(config), admin_certificate(config), auth(config, admin_token));
    let (tls, admin_tls, auth) = match (tls, admin_tls, auth) {
        (Ok(tls), Ok(admin_tls), Ok(auth)) => (tls, admin_tls, auth),
        (tls, admin_tls, auth) => {
            let of_auth = auth.err().map(|problems| problems.0).unwrap_or_default();
            return Err(Problems([tls.err(), admin_tls.err()].into_iter().flatten().chain(of_auth).collect()));
        }
    };
    Ok(GatewayConfig {
        tls,
        admin_tls,
        handshakes_max: count(section.tls_handshakes_max),
        proxy_protocol: section.proxy_protocol == ProxyProtocol::Trusted,
        // Both have checked the form.
        trusted_proxies: section
            .trusted_proxies
            .iter()
            .filter_map(|network| network.to_string().parse().ok())
            .collect(),
        allowed_origins: section.allowed_origins.clone(),
        sockets_max: count(section.sockets_max),
        sockets_per_ip_max: small(section.sockets_per_ip),
        connections_per_ip_max: small(section.connections_per_ip),
        connections_per_user_max: small(section.connections_per_user),
        anonymous_max: count(config.auth.first_frame_connections_max),
        loopback_exempt: section.loopback_exempt,
        hello_ms: section.handshake_deadline.millis(),
        heartbeat_ms: section.heartbeat.millis(),
        write_timeout_ms: section.write_timeout.millis(),
        rest_timeout_ms: section.rest_timeout.millis(),
        admin_timeout_ms: section.rest_timeout.millis() + compiling_ms,
        frames_per_second_max: small(section.frames_per_second_max),
        frames_burst_max: small(section.frames_per_second_max * 2),
        // Brokers may lose one of two that are under way: only one at a time keeps a connection's order. (DELIVERY 22)
        appending_max: match config.log.backend {
            LogBackend::Embedded => count(section.sends_in_flight_max),
            LogBackend::Kafka => 1,
        },
        unsettled_max: count(section.unsettled_max),
        typing_max: count(section.typing_max),
        typing_ms: section.typing_timeout.millis(),
        drain_pace_ms: section.drain_pace.millis(),
        drain_reconnect_ms: section.drain_reconnect_delay.millis(),
        drain_ms: section.drain_deadline.millis(),
        dev,
        listen: has_role(config, "gateway").then_some(section.listen),
        ..GatewayConfig::new(section.listen, config.admin.listen, auth)
    })
}

fn auth(config: &Config, admin_token: &str) -> Result<AuthConfig, Problems> {
    let section = &config.auth;
    let (mut keys, mut problems) = (Vec::new(), Vec::new());
    if !section.secret.is_empty() {
        match AuthKey::secret(section.secret.as_bytes()) {
            Ok(key) => keys.push(("auth.secret".to_owned(), key)),
            Err(wrong) => {
                problems.push(problem("auth.secret", wrong, "make one with `openssl rand -base64 48`"));
            }
        }
    }
    for path in &section.keys {
        let read = std::fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}"));
        match read.and_then(|text| AuthKey::read(&text)) {
            Ok(key) => keys.push((path.clone(), key)),
            Err(wrong) => {
                problems.push(problem("auth.keys", format!("{path:?}: {wrong}"), "name files in PEM or JWKS form"));
            }
        }
    }
    let jwks = (!section.jwks_url.is_empty()).then(|| JwksConfig {
        url: section.jwks_url.clone(),
        ca: file(&section.jwks_ca),
        refresh_ms: section.jwks_refresh.millis(),
        unknown_ms: section.jwks_unknown_interval.millis(),
        deadline_ms: section.jwks_deadline.millis(),
        bytes_max: section.jwks_bytes_max.bytes(),
    });
    if let Some(Err(wrong)) = jwks.as_ref().map(JwksConfig::check) {
        problems.push(problem(
            "auth.jwks_url",
            wrong,
            "write https://HOST/PATH, or name its authority in auth.jwks_ca",
        ));
    }
    if !problems.is_empty() {
        return Err(Problems(problems));
    }
    let given = |text: &String| if text.is_empty() { Vec::new() } else { vec![text.clone()] };
    Ok(AuthConfig {
        keys,
        jwks,
        audience: given(&section.audience),
        issuer: given(&section.issuer),
        leeway_ms: section.leeway.millis(),
        first_frame: section.first_frame,
        admin_tokens: vec![admin_token.to_owned()],
    })
}

pub(crate) fn problem(key: &str, wrong: String, remedy: &str) -> Problem {
    Problem { key: key.to_owned(), origin: "checked".to_owned(), wrong, remedy: remedy.to_owned() }
}
