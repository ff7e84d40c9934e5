//! What every log does, run on each implementation.

#[path = "../kafka/fixture.rs"]
mod kafka;
mod outages;

use std::sync::{Arc, Once};
use std::time::Duration;

use bytes::Bytes;
use heddle_log::{AppendError, Appended, Derived, EmbeddedLog, Log, LogConfig, MemoryLog, Place, ReadError};
use heddle_model::{ManualClock, MessageId, TopicPartition};
use heddle_test_servers::{Kafka, or_skip, say};

use kafka::{follow, open};

const P0: TopicPartition = TopicPartition { topic: heddle_model::Topic::Messages, partition: 0 };
const P1: TopicPartition = TopicPartition { topic: heddle_model::Topic::Messages, partition: 1 };

/// Every implementation, empty, of two partitions; the directory lives as long as the log is used.
async fn logs() -> Vec<(&'static str, Arc<dyn Log>, Option<tempfile::TempDir>)> {
    let clock = Arc::new(ManualClock::at(1_000_000));
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig { partitions: 2, segment_bytes: 64 << 10, ..LogConfig::new(dir.path()) };
    let embedded = EmbeddedLog::open(config, clock.clone()).unwrap();
    let mut logs: Vec<(_, Arc<dyn Log>, _)> =
        vec![("embedded", embedded, Some(dir)), ("memory", MemoryLog::new(2, clock), None)];
    if let Some(broker) = or_skip(Kafka::shared()) {
        TOLD.call_once(|| say(&format!("Kafka {}", broker.version())));
        logs.push(("kafka", follow(open(broker, 2).await), None));
    }
    logs
}

static TOLD: Once = Once::new();

fn text(n: usize) -> Bytes {
    format!("record {n}").into()
}

async fn place(log: &dyn Log, at: TopicPartition, id: Option<MessageId>, bytes: Bytes) -> Place {
    match log.append(at, id, bytes).await.unwrap() {
        Appended::New(place) => place,
        Appended::Existing(place) => panic!("{place:?} was there"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_are_dense_per_partition_and_what_was_answered_is_readable() {
    for (name, log, _dir) in logs().await {
        for n in 0..20 {
            assert_eq!(place(&*log, P0, None, text(n)).await.offset, n as u64, "{name}");
            assert_eq!(*log.head(P0).borrow(), n as u64 + 1, "{name}");
        }
        assert_eq!((log.head_now(P0).await, log.head_now(P1).await), (Ok(20), Ok(0)), "{name}");
        assert_eq!(place(&*log, P1, None, text(0)).await.offset, 0, "{name}");
        let batch = log.read(P0, 5, 1 << 20).await.unwrap();
        assert_eq!((batch.records.len(), batch.next), (15, 20), "{name}");
        assert_eq!(batch.records[0].bytes, text(5), "{name}");
        // A broker has a clock of its own.
        if name != "kafka" {
            assert_eq!(batch.records[0].appended_at, 1_000_000, "{name}");
        }
        assert_eq!(log.read(P0, 3, 1).await.unwrap().next, 4, "{name}: one record always fits");
        assert!(log.read(P0, 20, 1).await.unwrap().records.is_empty(), "{name}");
        assert!(matches!(log.read(P0, 21, 1).await, Err(ReadError::Unavailable { .. })), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_is_appended_once() {
    for (name, log, _dir) in logs().await {
        let id = MessageId([7; 16]);
        assert_eq!(log.lookup(&id, false).await.unwrap(), None, "{name}");
        let first = place(&*log, P0, Some(id), text(1)).await;
        assert_eq!(log.append(P1, Some(id), text(2)).await, Ok(Appended::Existing(first)), "{name}");
        assert_eq!(log.lookup(&id, false).await.unwrap(), Some(first), "{name}");
        assert_eq!(*log.head(P1).borrow(), 0, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_appends_of_one_id_at_once_one_is_new() {
    for (name, log, _dir) in logs().await {
        let id = MessageId([9; 16]);
        let appends = (0..32).map(|n| log.append(P0, Some(id), text(n)));
        let answers = futures_util::future::join_all(appends).await;
        assert_eq!(answers.iter().filter(|a| matches!(a, Ok(Appended::New(_)))).count(), 1, "{name}");
        assert_eq!(*log.head(P0).borrow(), 1, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_started_one_after_the_other_stand_in_that_order() {
    for (name, log, _dir) in logs().await {
        let appends = (0..500).map(|n| log.append(P0, None, text(n)));
        for answer in futures_util::future::join_all(appends).await {
            answer.unwrap();
        }
        let (mut next, mut seen) = (0, 0);
        while next < 500 {
            let batch = log.read(P0, next, 1000).await.unwrap();
            for record in &batch.records {
                assert_eq!(record.bytes, text(seen), "{name}");
                seen += 1;
            }
            next = batch.next;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn derived_records_and_their_cursor_come_together_and_the_cursor_only_grows() {
    for (name, log, _dir) in logs().await {
        place(&*log, P0, None, text(0)).await;
        let derived = |upto| Derived {
            source: P0,
            upto,
            records: vec![(P1, text(1)), (P1, text(2)), (P0, text(3))],
            patient: false,
        };
        assert_eq!(log.derive(derived(1)).await, Ok(vec![0, 1, 1]), "{name}");
        assert_eq!(log.derived(P0), 1, "{name}");
        assert!(matches!(log.derive(derived(0)).await, Err(AppendError::Refused { .. })), "{name}");
        assert!(matches!(log.derive(derived(99)).await, Err(AppendError::Refused { .. })), "{name}");
        assert_eq!(*log.head(P1).borrow(), 2, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_is_not_there_is_refused() {
    for (name, log, _dir) in logs().await {
        let at = TopicPartition::messages(2);
        assert!(matches!(log.append(at, None, text(0)).await, Err(AppendError::Refused { .. })), "{name}");
        assert!(matches!(log.read(at, 0, 1).await, Err(ReadError::Unavailable { .. })), "{name}");
        let mut assigned = log.assigned();
        let all = assigned.wait_for(|all| all.len() == 4);
        tokio::time::timeout(Duration::from_secs(30), all).await.unwrap_or_else(|_| panic!("{name}")).unwrap();
    }
}
