use heddle_model::Hook;
use heddle_wasm::Limits;

use super::*;
use crate::config::{KEYS, Sources};

fn set(assignments: &[&str]) -> Config {
    let assignments = assignments.iter().map(|text| (*text).to_owned()).collect();
    Sources { assignments, ..Sources::default() }.load().unwrap()
}

#[test]
fn what_is_not_configured_is_what_the_engine_has_by_default() {
    assert_eq!(engine(&set(&[])), Limits::default());
    assert_eq!(plugin_log(&set(&[])), (1_000, 100));
}

#[test]
fn each_limit_of_a_plugin_is_a_key() {
    let config = set(&[
        "policies.memory_max=32 MiB",
        "policies.deadline_max=7 ms",
        "policies.start_deadline=90 ms",
        "policies.stack_max=128 KiB",
        "policies.table_elements_max=500",
        "policies.instances_max=24",
        "policies.warm_instances_max=3",
        "policies.calls_per_instance_max=9",
        "policies.call_output_max=1 MiB",
        "policies.log_lines_per_call_max=5",
        "policies.log_lines_per_second_max=11",
        "policies.log_lines_kept=17",
    ]);
    let wanted = Limits {
        memory_bytes_max: 32 << 20,
        deadline_ms_max: 7,
        start_ms_max: 90,
        stack_bytes_max: 128 << 10,
        table_elements_max: 500,
        instances_max: 24,
        warm_max: 3,
        calls_per_instance_max: 9,
        hostcall_bytes_max: 1 << 20,
        log_lines_per_call_max: 5,
    };
    assert_eq!((engine(&config), plugin_log(&config)), (wanted, (17, 11)));
}

fn builtin(name: &str) -> Vec<u8> {
    let named = |bytes: &[u8]| heddle_pack::unpack(bytes).is_ok_and(|packed| packed.manifest.name == name);
    crate::server::builtins().into_iter().find(|(_, bytes)| named(bytes)).unwrap().1.to_vec()
}

#[test]
fn a_chain_names_built_in_policies_beside_files_and_each_has_its_own_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mine.wasm");
    std::fs::write(&path, builtin("inbox-routing")).unwrap();
    let mut config = set(&["policies.rate_limit=[\"token-bucket\"]"]);
    config.policies.routing = vec![path.to_str().unwrap().to_owned()];
    let table: toml::Table = "token-bucket = { burst = 3 }".parse().unwrap();
    config.policies.config.0 = table;
    let policies = policies(&config, &crate::server::builtins()).unwrap();
    let (hook, chain) = &policies.chains[0];
    assert_eq!((*hook, chain.len(), chain[0].builtin), (Hook::RateLimit, 1, true));
    assert_eq!((chain[0].bytes.to_vec(), &chain[0].config["burst"]), (builtin("token-bucket"), &3.into()));
    let (hook, chain) = &policies.chains[1];
    assert_eq!((*hook, chain.len(), chain[0].builtin), (Hook::Routing, 1, false));
}

/// All that is made of a configuration.
struct Made {
    node: NodeId,
    log: LogConfig,
    kafka: KafkaConfig,
    redis: Option<RedisConfig>,
    sqlite: StoreConfig,
    postgres: PostgresConfig,
    shards: Vec<PostgresConfig>,
    delivery: DeliveryConfig,
    gateway: GatewayConfig,
    engine: Limits,
    plugin_log: (usize, u32),
    policies: heddle_policy::PolicyConfig,
    compiler: String,
    native_bytes_max: u64,
}

fn made(assignments: &[&str]) -> Made {
    let secret = ["auth.secret=a secret of more than thirty-two bytes"];
    let config = set(&[&secret[..], assignments].concat());
    let node = node(&config).unwrap();
    Made {
        log: log(&config),
        kafka: kafka(&config, None).unwrap(),
        redis: redis(&config, &node),
        sqlite: sqlite(&config),
        postgres: postgres(&config),
        shards: shards(&config),
        delivery: delivery(&config),
        gateway: gateway(&config, "t", false).unwrap(),
        engine: engine(&config),
        plugin_log: plugin_log(&config),
        policies: policies(&config, &crate::server::builtins()).unwrap(),
        compiler: format!("{:?}", crate::compile::child(&config)),
        native_bytes_max: native_cache(&config).bytes_max,
        node,
    }
}

const ON_KAFKA: &[&str] = &["log.backend=kafka", "kafka.brokers=one:9092"];
const WITH_LOGIN: &[&str] =
    &["log.backend=kafka", "kafka.brokers=one:9092", "kafka.sasl=scram-sha-256", "kafka.user=u", "kafka.password=p"];
const WITH_JWKS: &[&str] = &["auth.jwks_url=https://one/keys"];
const ON_REDIS: &[&str] = &["registry.backend=redis", "registry.url=redis://one:6379"];
const ON_POSTGRES: &[&str] = &["store.backend=postgres", "store.url=postgres://u:p@one/d"];

/// Sets one key beside those that it needs, and looks at one field.
macro_rules! each {
    ($($key:literal = $value:literal, $beside:expr => |$made:ident| $field:expr, $wanted:expr;)+) => {{
        $({
            let beside: &[&str] = $beside;
            let without = made(beside);
            let $made = &without;
            assert_ne!($field, $wanted, "{} is no other value than the default", $key);
            let assignment = concat!($key, "=", $value);
            let with = made(&[beside, &[assignment]].concat());
            let $made = &with;
            assert_eq!($field, $wanted, "{assignment}");
        })+
        [$($key),+]
    }};
}

/// Keys that reach no field of these: files whose content counts (tests of TLS and of secrets read them), and what the process itself takes.
const ELSEWHERE: &[&str] = &[
    "node.worker_threads",
    "gateway.tls_certificate",
    "gateway.tls_key",
    "auth.secret",
    "auth.secret_file",
    "auth.jwks_ca",
    "auth.keys",
    "kafka.tls_ca",
    "kafka.tls_certificate",
    "kafka.tls_key",
    "kafka.password_file",
    "store.backend",
    "store.url_file",
    "store.shards_file",
    "store.tls_ca",
    "store.tls_certificate",
    "store.tls_key",
    "registry.tls_ca",
    "registry.tls_certificate",
    "registry.tls_key",
    // Below.
    "log.backend",
    "registry.backend",
    "log.reopen_max",
    "log.reopen_window",
    "log.reopen_delay",
    "policies.trusted_keys",
    "policies.require_signature",
    "admin.tls_certificate",
    "admin.tls_key",
    "admin.token",
    "telemetry.format",
    "telemetry.filter",
];

fn keys_of_gateway() -> Vec<&'static str> {
    let jwks = |made: &Made| made.gateway.auth.jwks.clone().unwrap();
    each! {
        "node.roles" = "[\"worker\"]", ON_KAFKA => |made| made.gateway.listen.is_none(), true;
        "gateway.listen" = "127.0.0.9:1", &[] => |made| made.gateway.listen, Some("127.0.0.9:1".parse().unwrap());
        "gateway.connections_per_user" = "7", &[] => |made| made.gateway.connections_per_user_max, 7;
        "gateway.connections_per_ip" = "8", &[] => |made| made.gateway.connections_per_ip_max, 8;
        "gateway.loopback_exempt" = "true", &[] => |made| made.gateway.loopback_exempt, true;
        "gateway.sockets_max" = "900", &[] => |made| made.gateway.sockets_max, 900;
        "gateway.sockets_per_ip" = "10", &[] => |made| made.gateway.sockets_per_ip_max, 10;
        "gateway.tls_handshakes_max" = "11", &[] => |made| made.gateway.handshakes_max, 11;
        "gateway.trusted_proxies" = "[\"10.0.0.0/8\"]", &[] => |made| made.gateway.trusted_proxies.len(), 1;
        "gateway.proxy_protocol" = "trusted", &["gateway.trusted_proxies=[\"10.0.0.0/8\"]"] => |made| made.gateway.proxy_protocol, true;
        "gateway.allowed_origins" = "[\"https://a\"]", &[] => |made| made.gateway.allowed_origins.concat(), "https://a";
        "gateway.handshake_deadline" = "1001 ms", &[] => |made| made.gateway.hello_ms, 1_001;
        "gateway.heartbeat" = "1002 ms", &[] => |made| made.gateway.heartbeat_ms, 1_002;
        "gateway.write_timeout" = "1003 ms", &[] => |made| made.gateway.write_timeout_ms, 1_003;
        "gateway.rest_timeout" = "1004 ms", &[] => |made| (made.gateway.rest_timeout_ms, made.gateway.admin_timeout_ms), (1_004, 301_004);
        "gateway.frames_per_second_max" = "12", &[] => |made| (made.gateway.frames_per_second_max, made.gateway.frames_burst_max), (12, 24);
        "gateway.sends_in_flight_max" = "13", &[] => |made| made.gateway.appending_max, 13;
        "gateway.unsettled_max" = "14", &[] => |made| made.gateway.unsettled_max, 14;
        "gateway.typing_max" = "15", &[] => |made| made.gateway.typing_max, 15;
        "gateway.typing_timeout" = "1005 ms", &[] => |made| made.gateway.typing_ms, 1_005;
        "gateway.drain_pace" = "1006 ms", &[] => |made| made.gateway.drain_pace_ms, 1_006;
        "gateway.drain_reconnect_delay" = "1007 ms", &[] => |made| made.gateway.drain_reconnect_ms, 1_007;
        "gateway.drain_deadline" = "1008 ms", &[] => |made| made.gateway.drain_ms, 1_008;
        "auth.audience" = "them", &[] => |made| made.gateway.auth.audience.concat(), "them";
        "auth.issuer" = "us", &[] => |made| made.gateway.auth.issuer.concat(), "us";
        "auth.leeway" = "1009 ms", &[] => |made| made.gateway.auth.leeway_ms, 1_009;
        "auth.jwks_url" = "https://two/keys", WITH_JWKS => |made| jwks(made).url, "https://two/keys";
        "auth.jwks_refresh" = "61 s", WITH_JWKS => |made| jwks(made).refresh_ms, 61_000;
        "auth.jwks_unknown_interval" = "62 s", WITH_JWKS => |made| jwks(made).unknown_ms, 62_000;
        "auth.jwks_deadline" = "1063 ms", WITH_JWKS => |made| jwks(made).deadline_ms, 1_063;
        "auth.jwks_bytes_max" = "64 KiB", WITH_JWKS => |made| jwks(made).bytes_max, 64 << 10;
        "auth.first_frame" = "true", &[] => |made| made.gateway.auth.first_frame, true;
        "auth.first_frame_connections_max" = "16", &[] => |made| made.gateway.anonymous_max, 16;
        "admin.listen" = "127.0.0.9:2", &[] => |made| made.gateway.admin_listen, "127.0.0.9:2".parse().unwrap();
    }
    .to_vec()
}

fn keys_of_delivery() -> Vec<&'static str> {
    each! {
        "users.unknown" = "reject", &[] => |made| made.delivery.reject_unknown_users, true;
        "users.devices_max" = "17", &[] => |made| made.delivery.devices_per_user, 17;
        "users.cached_max" = "1800", &[] => |made| made.delivery.users_cached, 1_800;
        "users.blocks_max" = "180", &[] => |made| made.delivery.blocks_max, 180;
        "users.blocks_cached_max" = "181", &[] => |made| made.delivery.blocks_cached, 181;
        "users.revoked_max" = "182", &[] => |made| made.delivery.revocations_max, 182;
        "groups.members_max" = "1900", &[] => |made| made.delivery.group_members_max, 1_900;
        "groups.chunk_members" = "20", &[] => |made| made.delivery.chunk_members, 20;
        "groups.receipts_members_max" = "21", &[] => |made| made.delivery.receipts_members_max, 21;
        "groups.cached_max" = "220", &[] => |made| made.delivery.groups_cached, 220;
        "groups.change_deadline" = "1010 ms", &[] => |made| made.delivery.group_wait_ms, 1_010;
        "store.archive_records_max" = "23", &[] => |made| made.delivery.archive_batch_records, 23;
        "store.archive_bytes_max" = "230 KiB", &[] => |made| made.delivery.archive_batch_bytes, 230 << 10;
        "store.archive_interval" = "24 ms", &[] => |made| made.delivery.archive_interval_ms, 24;
        "delivery.unacknowledged_max" = "25", &[] => |made| made.delivery.unacked_events_max, 25;
        "delivery.unacknowledged_bytes_max" = "260 KiB", &[] => |made| made.delivery.unacked_bytes_max, 260 << 10;
        "delivery.slow_timeout" = "1011 ms", &[] => |made| made.delivery.slow_ms, 1_011;
        "delivery.tail_events_max" = "2700", &[] => |made| made.delivery.tail_events_max, 2_700;
        "delivery.tail_bytes_max" = "27 MiB", &[] => |made| made.delivery.tail_bytes_max, 27 << 20;
        "delivery.page_events" = "28", &[] => |made| made.delivery.page_events, 28;
        "delivery.read_bytes" = "290 KiB", &[] => |made| made.delivery.read_bytes, 290 << 10;
        "delivery.mailbox_max" = "30", &[] => |made| made.delivery.mailbox_items, 30;
        "delivery.receipt_interval" = "1012 ms", &[] => |made| made.delivery.receipt_interval_ms, 1_012;
        "delivery.position_interval" = "1013 ms", &[] => |made| made.delivery.position_interval_ms, 1_013;
        "delivery.history_deadline" = "1014 ms", &[] => |made| made.delivery.history_wait_ms, 1_014;
        "delivery.poison_tries" = "4", &[] => |made| made.delivery.poison_tries, 4;
        "delivery.in_flight_max" = "3100", &[] => |made| made.delivery.in_flight_max, 3_100;
        "presence.lease" = "91 s", &[] => |made| made.delivery.presence.lease_ms, 91_000;
        "presence.users_max" = "3200", &[] => |made| made.delivery.presence.users_max, 3_200;
        "presence.watched_max" = "33", &[] => |made| made.delivery.presence.watched_per_connection_max, 33;
        "presence.watchers_max" = "34", &[] => |made| made.delivery.presence.watchers_per_user_max, 34;
        "presence.node_lease" = "16 s", &[] => |made| made.delivery.presence.node_lease_ms, 16_000;
        "presence.remote_max" = "3500", &[] => |made| made.delivery.presence.remote_connections_max, 3_500;
        "presence.pause" = "6 s", &[] => |made| made.delivery.presence.pause_ms, 6_000;
    }
    .to_vec()
}

fn keys_of_the_log() -> Vec<&'static str> {
    each! {
        "log.partitions" = "36", &[] => |made| made.log.partitions, 36;
        "log.retention" = "37 s", &[] => |made| made.log.retention_ms, 37_000;
        "log.retention_interval" = "38 s", &[] => |made| made.log.retention_interval_ms, 38_000;
        "log.segment_bytes" = "39 MiB", &[] => |made| made.log.segment_bytes, 39 << 20;
        "log.bytes_max" = "400 MiB", &[] => |made| made.log.bytes_max, Some(400 << 20);
        "log.dedupe_window" = "41 s", &[] => |made| made.log.dedupe_window_ms, 41_000;
        "log.queue_max" = "42", &[] => |made| made.log.queue_requests_max, 42;
        "log.queue_bytes_max" = "43 MiB", &[] => |made| made.log.queue_bytes_max, 43 << 20;
        "log.commit_bytes_max" = "44 MiB", &[] => |made| made.log.frame_bytes_max, 44 << 20;
        "log.commit_records_max" = "45", &[] => |made| made.log.frame_records_max, 45;
        "log.derive_linger" = "49 ms", &[] => |made| made.log.derive_linger_ms, 49;
        "log.cache_bytes_max" = "46 MiB", &[] => |made| made.log.cache_bytes_max, 46 << 20;
        "log.ids_cache_bytes" = "47 MiB", &[] => |made| made.log.ids_cache_bytes, 47 << 20;
        "node.data_dir" = "/d", &[] => |made| made.log.dir.starts_with("/d") && made.sqlite.path.starts_with("/d"), true;
    }
    .to_vec()
}

fn keys_of_kafka() -> Vec<&'static str> {
    each! {
        "node.id" = "n-2", &[] => |made| made.node.as_str(), "n-2";
        "kafka.brokers" = "two:9092", ON_KAFKA => |made| made.kafka.brokers, "two:9092";
        "kafka.tls" = "true", ON_KAFKA => |made| made.kafka.tls.is_some(), true;
        "kafka.sasl" = "scram-sha-512", WITH_LOGIN => |made| made.kafka.login.as_ref().unwrap().sasl, KafkaSasl::ScramSha512;
        "kafka.user" = "me", WITH_LOGIN => |made| made.kafka.login.as_ref().unwrap().user, "me";
        "kafka.password" = "mine", WITH_LOGIN => |made| made.kafka.login.as_ref().unwrap().password, "mine";
        "kafka.prefix" = "other", ON_KAFKA => |made| made.kafka.prefix, "other";
        "kafka.partitions" = "48", ON_KAFKA => |made| made.kafka.partitions, 48;
        "kafka.replication" = "5", ON_KAFKA => |made| made.kafka.replication, 5;
        "kafka.min_in_sync" = "1", ON_KAFKA => |made| made.kafka.min_in_sync, 1;
        "kafka.lenient" = "true", ON_KAFKA => |made| made.kafka.lenient, true;
        "kafka.retention" = "49 h", ON_KAFKA => |made| made.kafka.retention_ms, 49 * 3_600_000;
        "kafka.ids_max" = "5001", ON_KAFKA => |made| made.kafka.ids_max, 5_001;
        "kafka.skipped_max" = "5002", ON_KAFKA => |made| made.kafka.skipped_max, 5_002;
        "kafka.queue_max" = "5003", ON_KAFKA => |made| made.kafka.queue_max, 5_003;
        "kafka.queue_bytes_max" = "55 MiB", ON_KAFKA => |made| made.kafka.queue_bytes_max, 55 << 20;
        "kafka.dedupe_window" = "11 min", ON_KAFKA => |made| made.kafka.dedupe_ms, 660_000;
        "kafka.append_deadline" = "6 s", ON_KAFKA => |made| made.kafka.append_ms, 6_000;
        "kafka.session_timeout" = "12 s", ON_KAFKA => |made| made.kafka.session_ms, 12_000;
        "kafka.fetch_bytes" = "65 KiB", ON_KAFKA => |made| made.kafka.fetch_bytes, 65 << 10;
        "kafka.fetch_wait" = "11 ms", ON_KAFKA => |made| made.kafka.fetch_wait_ms, 11;
        "kafka.cache_bytes_max" = "50 MiB", ON_KAFKA => |made| made.kafka.cache_bytes, 50 << 20;
    }
    .to_vec()
}

#[test]
fn topics_are_made_with_100_partitions_3_copies_of_which_2_in_sync_and_keep_a_week() {
    let kafka = made(ON_KAFKA).kafka;
    assert_eq!((kafka.partitions, kafka.replication, kafka.min_in_sync), (100, 3, 2));
    assert_eq!(kafka.retention_ms, 7 * 24 * 60 * 60 * 1_000);
    assert!(!kafka.lenient);
}

fn keys_of_store_and_registry() -> Vec<&'static str> {
    let prefix = |redis: &Option<RedisConfig>| redis.as_ref().unwrap().prefix.clone();
    each! {
        "store.shards" = "postgres://u:p@one/a,postgres://u:p@two/a", ON_POSTGRES =>
            |made| made.shards.iter().map(|shard| (&*shard.key, &*shard.url)).collect::<Vec<_>>(),
            [("store.shards[0]", "postgres://u:p@one/a"), ("store.shards[1]", "postgres://u:p@two/a")];
        "store.url" = "postgres://u:p@two/d", ON_POSTGRES => |made| made.postgres.url, "postgres://u:p@two/d";
        "store.connections_max" = "9", ON_POSTGRES => |made| made.postgres.connections_max, 9;
        "store.deadline" = "6 s", ON_POSTGRES => |made| made.postgres.deadline.as_secs(), 6;
        "store.range_positions" = "65536", ON_POSTGRES => |made| made.postgres.range_positions, 65_536;
        "store.readers_max" = "5", &[] => |made| made.sqlite.readers, 5;
        "store.queue_max" = "51", &[] => |made| made.sqlite.queue_max, 51;
        "registry.url" = "redis://two:6379", ON_REDIS => |made| made.redis.as_ref().unwrap().url, "redis://two:6379";
        "registry.mode" = "cluster", ON_REDIS => |made| made.redis.as_ref().unwrap().mode, RedisMode::Cluster;
        "registry.prefix" = "other", ON_REDIS => |made| prefix(&made.redis), "other";
        "registry.deadline" = "101 ms", ON_REDIS => |made| made.redis.as_ref().unwrap().deadline_ms, 101;
        "registry.queue_max" = "52", ON_REDIS => |made| made.redis.as_ref().unwrap().queue_max, 52;
        "registry.queue_bytes_max" = "53 MiB", ON_REDIS => |made| made.redis.as_ref().unwrap().queue_bytes_max, 53 << 20;
        "registry.lease" = "11 s", ON_REDIS => |made| made.redis.as_ref().unwrap().lease_ms, 11_000;
    }
    .to_vec()
}

fn keys_of_policies() -> Vec<&'static str> {
    let chained = |made: &Made, hook| made.policies.chains.iter().any(|(of, _)| *of == hook);
    each! {
        "policies.rate_limit" = "[\"token-bucket\"]", &[] => |made| chained(made, Hook::RateLimit), true;
        "policies.routing" = "[\"inbox-routing\"]", &[] => |made| chained(made, Hook::Routing), true;
        "policies.fanout" = "[\"group-fanout\"]", &[] => |made| chained(made, Hook::Fanout), true;
        "policies.presence" = "[\"last-seen\"]", &[] => |made| chained(made, Hook::Presence), true;
        "policies.config" = "{ group-fanout = { push_up_to = 3 } }", &[] => |made| made.policies.builtin_config.iter().any(|(hook, set)| *hook == Hook::Fanout && set.get("push_up_to") == Some(&3.into())), true;
        "policies.chain_max" = "9", &[] => |made| made.policies.limits.chain_max, 9;
        "policies.memory_max" = "32 MiB", &[] => |made| (made.engine.memory_bytes_max, made.policies.limits.memory_bytes_max), (32 << 20, 32 << 20);
        "policies.deadline_max" = "7 ms", &[] => |made| (made.engine.deadline_ms_max, made.policies.limits.deadline_ms_max), (7, 7);
        "policies.start_deadline" = "90 ms", &[] => |made| made.engine.start_ms_max, 90;
        "policies.stack_max" = "128 KiB", &[] => |made| made.engine.stack_bytes_max, 128 << 10;
        "policies.table_elements_max" = "500", &[] => |made| made.engine.table_elements_max, 500;
        "policies.instances_max" = "24", &["policies.warm_instances_max=2"] => |made| made.engine.instances_max, 24;
        "policies.warm_instances_max" = "3", &[] => |made| made.engine.warm_max, 3;
        "policies.calls_per_instance_max" = "9", &[] => |made| made.engine.calls_per_instance_max, 9;
        "policies.call_output_max" = "1 MiB", &[] => |made| made.engine.hostcall_bytes_max, 1 << 20;
        "policies.log_lines_per_call_max" = "5", &[] => |made| made.engine.log_lines_per_call_max, 5;
        "policies.log_lines_per_second_max" = "11", &[] => |made| made.plugin_log.1, 11;
        "policies.log_lines_kept" = "17", &[] => |made| made.plugin_log.0, 17;
        "policies.compile_time" = "54 s", &[] => |made| made.compiler.contains("54"), true;
        "policies.compile_memory" = "1 GiB", &[] => |made| made.compiler.contains("1073741824"), true;
        "policies.states_max" = "5500", &[] => |made| made.policies.limits.states_max, 5_500;
        "policies.generations_max" = "5", &[] => |made| made.policies.limits.generations_max, 5;
        "policies.breaker" = "false", &[] => |made| made.policies.watch.breaker, false;
        "policies.repeat_one_in" = "56", &[] => |made| made.policies.watch.repeat_one_in, 56;
        "policies.canary_band_percent" = "6", &[] => |made| made.policies.watch.canary_band_percent, 6;
        "policies.record" = "[\"routing\"]", &[] => |made| made.policies.watch.record.hooks.len(), 1;
        "policies.record_one_in" = "57", &[] => |made| made.policies.watch.record.one_in, 57;
        "policies.record_calls_max" = "58", &[] => |made| made.policies.watch.record.calls_max, 58;
        "policies.record_bytes_max" = "59 MiB", &[] => |made| made.policies.watch.record.bytes_max, 59 << 20;
        "policies.record_bodies" = "true", &[] => |made| made.policies.watch.record.redaction.bodies, true;
        "policies.record_tags" = "[\"topic\"]", &[] => |made| made.policies.watch.record.redaction.tags_kept.len(), 1;
        "policies.native_cache_max" = "60 MiB", &[] => |made| made.native_bytes_max, 60 << 20;
        "policies.plugin_files_max" = "61 MiB", &[] => |made| made.policies.mirror.as_ref().unwrap().bytes_max, 61 << 20;
        "policies.catalog_max" = "62 MiB", &[] => |made| made.policies.limits.catalog_bytes_max, 62 << 20;
        "policies.catalog_plugins_max" = "6300", &[] => |made| made.policies.limits.catalog_plugins_max, 6_300;
        "policies.catalog_generations_max" = "640", &[] => |made| made.policies.limits.catalog_generations_max, 640;
        "policies.audit_max" = "6500", &[] => |made| made.policies.limits.audit_max, 6_500;
        "policies.draining_max" = "7", &[] => |made| made.policies.limits.draining_max, 7;
    }
    .to_vec()
}

#[test]
fn every_key_reaches_its_field() {
    let mut met = [keys_of_gateway(), keys_of_delivery(), keys_of_the_log(), keys_of_kafka()].concat();
    met.extend([keys_of_store_and_registry(), keys_of_policies()].concat());
    for key in KEYS {
        let known = usize::from(met.contains(&key.path)) + usize::from(ELSEWHERE.contains(&key.path));
        assert_eq!(known, 1, "{} is set by no row above, or said to be of elsewhere too", key.path);
    }
    assert_eq!(made(&[]).postgres.alone, !made(ON_KAFKA).postgres.alone, "log.backend");
    assert_eq!((made(&[]).gateway.appending_max, made(ON_KAFKA).gateway.appending_max), (256, 1), "log.backend");
    assert_eq!((made(&[]).redis.is_some(), made(ON_REDIS).redis.is_some()), (false, true), "registry.backend");
    assert_eq!(met.len() + ELSEWHERE.len(), KEYS.len(), "a row for a key that is not there");
}
