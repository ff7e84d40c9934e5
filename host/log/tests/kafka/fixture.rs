//! Logs on a real broker, each with topics of its own.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use heddle_log::{KafkaConfig, KafkaLog, Log};
use heddle_model::{Partitioning, SystemClock};
use heddle_test_servers::Kafka;

/// For topics that nobody has, with one copy of each.
pub(crate) fn config(broker: &Kafka, partitions: u32) -> KafkaConfig {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let prefix = format!("t{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    KafkaConfig {
        prefix,
        partitions,
        replication: 1,
        min_in_sync: 1,
        lenient: true,
        append_ms: 2_000,
        session_ms: 3_000,
        ..KafkaConfig::new(&broker.brokers(), "test")
    }
}

/// The log of a configuration; the same again is another node of it.
pub(crate) async fn log(config: &KafkaConfig) -> Arc<KafkaLog> {
    KafkaLog::open(config.clone(), Arc::new(SystemClock::new())).await.unwrap()
}

/// A new log.
pub(crate) async fn open(broker: &Kafka, partitions: u32) -> Arc<KafkaLog> {
    log(&config(broker, partitions)).await
}

/// Follows all partitions from their beginning.
pub(crate) fn follow(log: Arc<KafkaLog>) -> Arc<KafkaLog> {
    for partition in (Partitioning { count: log.layout().partitions }).all() {
        log.follow(partition, 0);
    }
    log
}
