//! Clients that give way to others with another login while the log is used.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use heddle_log::{Appended, Derived, KafkaConfig, KafkaLog, KafkaOpenError, KafkaTls, Log, Place};
use heddle_model::{Offset, Topic, TopicPartition};
use heddle_test_servers::{Kafka, or_skip};

use crate::fixture::{config, follow, log};
use crate::{P0, id};

/// The longest that anything may take.
const SOON: Duration = Duration::from_secs(30);
/// Where the worker of these tests derives to.
const TARGET: TopicPartition = TopicPartition { topic: Topic::GroupMessages, partition: 0 };

/// So long that a few hundred are more than a partition keeps in memory.
fn long(n: u32) -> Bytes {
    format!("{n:01024}").into()
}

async fn exchanged(log: &Arc<KafkaLog>, tls: Option<KafkaTls>) -> Result<(), KafkaOpenError> {
    let log = Arc::clone(log);
    tokio::task::spawn_blocking(move || log.exchange(tls, None)).await.unwrap()
}

/// Appends one after the other; each must have its outcome.
async fn append(log: Arc<KafkaLog>, from: u32, to: u32) {
    for n in from..to {
        let appended = log.append(P0, Some(id_of(n)), long(n)).await.unwrap();
        assert_eq!(appended, Appended::New(Place { partition: P0, offset: Offset::from(n) }));
    }
}

fn id_of(n: u32) -> heddle_model::MessageId {
    let mut bytes = id(1).0;
    bytes[..4].copy_from_slice(&n.to_be_bytes());
    heddle_model::MessageId(bytes)
}

async fn derive(log: Arc<KafkaLog>, rounds: u32) {
    for round in 0..rounds {
        let records = (0..10).map(|n| (TARGET, long(round * 10 + n))).collect();
        let derived = Derived { source: P0, upto: Offset::from(round), records, patient: false };
        let from = Offset::from(round) * 10;
        assert_eq!(log.derive(derived).await.unwrap(), (from..from + 10).collect::<Vec<_>>());
    }
}

/// Reads so many records from the beginning: each once and in order.
async fn read(log: &KafkaLog, partition: TopicPartition, count: u32) {
    let mut seen = Vec::new();
    let mut next = 0;
    while seen.len() < count as usize {
        let batch = log.read(partition, next, 1 << 16).await.unwrap();
        next = batch.next;
        seen.extend(batch.records.into_iter().map(|record| record.bytes));
        if next == *log.head(partition).borrow() {
            tokio::task::yield_now().await;
        }
    }
    assert!(seen == (0..count).map(long).collect::<Vec<_>>(), "{} came, in another order", seen.len());
}

async fn works_on_it(log: &KafkaLog) {
    let mut assigned = log.assigned();
    let held = assigned.wait_for(|held| held.contains(&P0));
    tokio::time::timeout(SOON, held).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_give_way_to_others_lose_nothing_double_nothing_and_keep_the_order() {
    let Some(broker) = or_skip(Kafka::shared()) else { return };
    let config = KafkaConfig { cache_bytes: 0, ..config(broker, 1) };
    let log = follow(log(&config).await);
    works_on_it(&log).await;
    // More than is kept in memory, so that its partition is paused when the reader gives way.
    append(Arc::clone(&log), 0, 300).await;
    let mut assigned = log.assigned();
    assigned.mark_unchanged();
    let appending = tokio::spawn(append(Arc::clone(&log), 300, 900));
    let deriving = tokio::spawn(derive(Arc::clone(&log), 60));
    for _ in 0..3 {
        exchanged(&log, None).await.unwrap();
    }
    appending.await.unwrap();
    deriving.await.unwrap();
    read(&log, P0, 900).await;
    read(&log, TARGET, 600).await;
    // From a broker again.
    read(&log, P0, 900).await;
    assert!(assigned.has_changed().unwrap(), "the member went and came");
    works_on_it(&log).await;
    log.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_brokers_do_not_take_changes_nothing() {
    let Some(broker) = or_skip(Kafka::shared()) else { return };
    let log = follow(log(&config(broker, 1)).await);
    append(Arc::clone(&log), 0, 1).await;
    let refused = exchanged(&log, Some(KafkaTls::default())).await.unwrap_err().to_string();
    assert!(refused.contains("this port does not speak TLS"), "{refused}");
    append(Arc::clone(&log), 1, 3).await;
    read(&log, P0, 3).await;
}
