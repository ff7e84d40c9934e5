//! Topics that are there and not as they must be.

use std::collections::BTreeMap;
use std::sync::Arc;

use heddle_log::{KafkaConfig, KafkaLog, KafkaOpenError, Log};
use heddle_model::SystemClock;
use heddle_test_servers::{Kafka, or_skip};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;

use crate::fixture::{config, log};

/// As a log makes them.
fn good(config: &KafkaConfig, control: bool) -> BTreeMap<&'static str, String> {
    let retention = if control { "-1".to_owned() } else { config.retention_ms.to_string() };
    [
        ("cleanup.policy", "delete".to_owned()),
        ("retention.ms", retention),
        ("retention.bytes", "-1".to_owned()),
        ("message.timestamp.type", "LogAppendTime".to_owned()),
        ("min.insync.replicas", "1".to_owned()),
        ("unclean.leader.election.enable", "false".to_owned()),
        ("max.message.bytes", (config.record_bytes_max + 4_096).to_string()),
    ]
    .into()
}

/// Sets one topic up so, but for one setting.
async fn alter(config: &KafkaConfig, topic: &str, with: Option<(&'static str, &str)>) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &config.brokers).create().unwrap();
    let mut settings = good(config, topic == "control");
    settings.extend(with.map(|(key, value)| (key, value.to_owned())));
    let name = format!("{}.{topic}", config.prefix);
    let entries = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let alter = [AlterConfig { specifier: ResourceSpecifier::Topic(&name), entries }];
    for altered in admin.alter_configs(&alter, &AdminOptions::new()).await.unwrap() {
        altered.unwrap();
    }
}

async fn open(config: &KafkaConfig) -> Result<Arc<KafkaLog>, KafkaOpenError> {
    KafkaLog::open(config.clone(), Arc::new(SystemClock::new())).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_would_lose_records_is_refused_with_the_command_that_mends_it() {
    let Some(broker) = or_skip(Kafka::shared()) else { return };
    let config = config(broker, 1);
    log(&config).await;
    for (topic, key, value, mends) in [
        ("messages", "cleanup.policy", "compact", "delete"),
        ("group_messages", "cleanup.policy", "compact,delete", "delete"),
        ("messages", "max.message.bytes", "1000", "1052672"),
        ("messages", "retention.bytes", "1000000", "-1"),
        ("control", "retention.ms", "604800000", "-1"),
        ("messages", "message.timestamp.type", "CreateTime", "LogAppendTime"),
    ] {
        alter(&config, topic, Some((key, value))).await;
        let refused = open(&config).await.unwrap_err();
        assert!(matches!(refused, KafkaOpenError::Topic { .. }), "{refused}");
        let (said, name) = (refused.to_string(), format!("{}.{topic}", config.prefix));
        assert!(said.starts_with(&format!("Kafka topic {name} has {key}={value}, ")), "{said}");
        let command = format!("--alter --entity-type topics --entity-name {name} --add-config {key}={mends}`");
        assert!(said.contains(&command), "{said}");
        alter(&config, topic, None).await;
    }
    open(&config).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unclean_election_is_refused_unless_records_may_be_lost_with_a_broker() {
    let Some(broker) = or_skip(Kafka::shared()) else { return };
    let config = config(broker, 1);
    log(&config).await;
    alter(&config, "messages", Some(("unclean.leader.election.enable", "true"))).await;
    let strict = KafkaConfig { lenient: false, ..config.clone() };
    let said = open(&strict).await.unwrap_err().to_string();
    assert!(said.contains("has unclean.leader.election.enable=true, "), "{said}");
    assert!(said.contains("--add-config unclean.leader.election.enable=false`, or set kafka.lenient = true"), "{said}");
    open(&config).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_long_records_are_kept_is_what_the_topics_say_whatever_is_configured() {
    let Some(broker) = or_skip(Kafka::shared()) else { return };
    let config = KafkaConfig { retention_ms: 600_000, ..config(broker, 1) };
    assert_eq!(log(&config).await.kept_for(), Some(600_000));
    alter(&config, "group_messages", Some(("retention.ms", "90000"))).await;
    assert_eq!(log(&config).await.kept_for(), Some(90_000));
    let for_ever = Some(("retention.ms", "-1"));
    alter(&config, "group_messages", for_ever).await;
    assert_eq!(log(&config).await.kept_for(), Some(600_000));
    alter(&config, "messages", for_ever).await;
    assert_eq!(log(&config).await.kept_for(), None);
}
