//! Brokers that die and stand still: what only this log does then. The rest is in the contract.

use std::time::Duration;

use heddle_log::{AppendError, Appended, Derived, KafkaConfig, KafkaLog, KafkaOpenError, Log, Place};
use heddle_model::{SystemClock, Topic};
use heddle_test_servers::{Forgetful, Kafka, or_skip};

use crate::fixture::{config, follow, log};
use crate::{P0, RECOVER, all, append, append_again, id, text};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_that_is_exchanged_while_a_broker_is_dead_is_used_when_it_is_back() {
    let Some(mut broker) = or_skip(Kafka::start()) else { return };
    let log = follow(log(&config(&broker, 1)).await);
    append(&log, Some(id(0)), 0).await;
    broker.kill();
    let failed = log.append(P0, Some(id(1)), text(1)).await;
    assert!(matches!(failed, Err(AppendError::Unknown { .. })), "{failed:?}");
    // Whether it would take another login is seen when it is back.
    let exchanging = std::sync::Arc::clone(&log);
    tokio::task::spawn_blocking(move || exchanging.exchange(None, None)).await.unwrap().unwrap();
    tokio::task::block_in_place(|| broker.restart());
    append_again(&log, 1).await;
    append_again(&log, 2).await;
    let seen: Vec<_> = all(&log).await.into_iter().map(|(_, text)| text).collect();
    assert_eq!(seen, ["record 0", "record 1", "record 2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_stands_still_is_waited_for_by_a_worker_and_nothing_is_left_out() {
    let Some(broker) = or_skip(Kafka::start()) else { return };
    let log = follow(log(&config(&broker, 1)).await);
    append(&log, Some(id(0)), 0).await;
    broker.freeze();
    let records = (1..50).map(|n| (P0, text(n))).collect();
    let deriving = {
        let log = std::sync::Arc::clone(&log);
        tokio::spawn(async move { log.derive(Derived { source: P0, upto: 1, records, patient: false }).await })
    };
    // Long after the deadline of a sender.
    assert!(matches!(log.append(P0, Some(id(1)), text(99)).await, Err(AppendError::Unknown { .. })));
    assert!(!deriving.is_finished());
    broker.thaw();
    let derived = tokio::time::timeout(RECOVER, deriving).await.unwrap().unwrap().unwrap();
    assert_eq!(derived.len(), 49);
    assert_eq!(log.derived(P0), 1);
    let seen: Vec<_> = all(&log).await.into_iter().map(|(_, text)| text).filter(|text| text != "record 99").collect();
    assert_eq!(seen, (0..50).map(|n| format!("record {n}")).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_nodes_that_wait_with_one_id_for_a_broker_both_are_told_which_of_their_records_stands() {
    let Some(broker) = or_skip(Kafka::start()) else { return };
    let config = KafkaConfig { append_ms: 20_000, ..config(&broker, 1) };
    let (one, other) = (follow(log(&config).await), follow(log(&config).await));
    append(&one, Some(id(0)), 0).await;
    append(&other, Some(id(1)), 1).await;
    broker.freeze();
    let mut appending = Vec::new();
    for node in [&one, &other] {
        let node = std::sync::Arc::clone(node);
        appending.push(tokio::spawn(async move { node.append(P0, Some(id(2)), text(2)).await.unwrap() }));
    }
    tokio::time::sleep(Duration::from_millis(600)).await;
    broker.thaw();
    let mut told = Vec::new();
    for answer in appending {
        told.push(tokio::time::timeout(RECOVER, answer).await.unwrap().unwrap());
    }
    let stands = Place { partition: P0, offset: 2 };
    told.sort_by_key(|told| matches!(told, Appended::Existing(_)));
    assert_eq!(told, [Appended::New(stands), Appended::Existing(stands)]);
    assert_eq!(all(&one).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_broker_stands_still_as_many_records_wait_as_may_and_the_others_are_refused_at_once() {
    let Some(broker) = or_skip(Kafka::start()) else { return };
    let config = KafkaConfig { queue_max: 16, ..config(&broker, 1) };
    let log = follow(log(&config).await);
    append(&log, Some(id(0)), 0).await;
    broker.freeze();
    let clock = SystemClock::new();
    let began = heddle_model::Clock::monotonic(&clock);
    let failures = (1_000..2_000).map(|n| {
        let (log, clock) = (std::sync::Arc::clone(&log), &clock);
        async move { (log.append(P0, None, text(n)).await.unwrap_err(), heddle_model::Clock::monotonic(clock) - began) }
    });
    let failures = futures_util::future::join_all(failures).await;
    let (mut unknown, mut refused) = (0, 0);
    for (failed, took) in &failures {
        let deadline = Duration::from_millis(config.append_ms);
        match failed {
            AppendError::Unknown { .. } => {
                unknown += 1;
                assert!(*took >= deadline / 2 && *took < deadline * 10, "{took:?}");
            }
            AppendError::Refused { .. } => {
                refused += 1;
                assert!(failed.to_string().contains("the queue to Kafka is full"), "{failed}");
                assert!(*took < deadline / 2, "{took:?}");
            }
        }
    }
    assert!((1..=config.queue_max).contains(&unknown), "{unknown} waited");
    assert_eq!(unknown + refused, 1_000);
    // What waited has gone, and there is room again.
    broker.thaw();
    append_again(&log, 1).await;
    append(&log, Some(id(2)), 2).await;
    let seen: Vec<_> = all(&log).await.into_iter().map(|(_, text)| text).collect();
    assert!(seen.iter().any(|text| text == "record 2"), "{} records", seen.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_broker_stands_still_as_many_bytes_wait_as_may() {
    const RECORD: usize = 16 << 10;
    let Some(broker) = or_skip(Kafka::start()) else { return };
    let config = KafkaConfig { queue_bytes_max: 8 * RECORD, ..config(&broker, 1) };
    let log = follow(log(&config).await);
    append(&log, Some(id(0)), 0).await;
    broker.freeze();
    let appends = (0..100).map(|_| log.append(P0, None, vec![b'x'; RECORD].into()));
    let failed = futures_util::future::join_all(appends).await.into_iter().map(Result::unwrap_err);
    let (waited, refused): (Vec<_>, Vec<_>) = failed.partition(|failed| matches!(failed, AppendError::Unknown { .. }));
    assert!((1..=8).contains(&waited.len()), "{} waited", waited.len());
    assert!(refused.iter().all(|failed| failed.to_string().contains("the queue to Kafka is full")), "{refused:?}");
    broker.thaw();
    append_again(&log, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_cannot_be_used_says_what_mends_it() {
    let Some(broker) = or_skip(Kafka::shared()) else { return };
    let config = config(broker, 2);
    log(&config).await;
    let open = |config| KafkaLog::open(config, std::sync::Arc::new(SystemClock::new()));
    let strict = open(heddle_log::KafkaConfig { lenient: false, ..config.clone() }).await.unwrap_err();
    assert!(matches!(strict, KafkaOpenError::Topic { .. }), "{strict}");
    assert!(strict.to_string().contains("1 copies and min.insync.replicas=1"), "{strict}");
    let more = open(heddle_log::KafkaConfig { partitions: 3, ..config.clone() }).await.unwrap_err();
    assert!(more.to_string().contains("has 2 partitions, kafka.partitions is 3"), "{more}");
    let copies = open(heddle_log::KafkaConfig { prefix: "three".into(), replication: 3, ..config.clone() }).await;
    assert!(copies.unwrap_err().to_string().contains("cannot have 3 copies"));
    let nobody = heddle_log::KafkaConfig { brokers: "127.0.0.1:1".into(), ..config };
    let nobody = open(nobody).await.unwrap_err();
    assert!(nobody.to_string().contains("no broker of \"127.0.0.1:1\" answers"), "{nobody}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_heard_from_a_broker_that_it_knows_of_none_go_on() {
    let Some(broker) = or_skip(Kafka::shared()) else { return };
    let own = config(broker, 2);
    let topics = [(Topic::Messages, 2), (Topic::GroupMessages, 2), (Topic::Control, 1)];
    let topics = topics.map(|(topic, partitions)| (format!("{}.{topic}", own.prefix), partitions));
    let between = Forgetful::before(broker.brokers(), 1, topics.into()).unwrap();
    let config = KafkaConfig { brokers: between.brokers(), ..own };
    let log = follow(log(&config).await);
    append(&log, Some(id(0)), 0).await;
    for round in 1..3 {
        // Everybody comes again, as to a broker that was started anew, and asks it who leads what.
        between.forget(true);
        between.cut();
        tokio::time::sleep(Duration::from_secs(1)).await;
        between.forget(false);
        append_again(&log, 2 * round).await;
        let text = text(usize::from(2 * round + 1));
        let derived = Derived { source: P0, upto: u64::from(round), records: vec![(P0, text.clone())], patient: false };
        tokio::time::timeout(RECOVER, log.derive(derived)).await.unwrap().unwrap();
        let goes_on = async {
            // Who asks where a partition ends; and who reads.
            while log.head_now(P0).await.is_err() {}
            while !log
                .read(P0, 0, 1 << 16)
                .await
                .is_ok_and(|batch| batch.records.last().is_some_and(|last| last.bytes == text))
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(RECOVER, goes_on).await.unwrap();
        // Who is in the group of workers.
        let mut assigned = log.assigned();
        tokio::time::timeout(RECOVER, assigned.wait_for(|assigned| assigned.len() == 4)).await.unwrap().unwrap();
    }
    let seen: Vec<_> = all(&log).await.into_iter().map(|(_, text)| text).collect();
    assert_eq!(seen, [0, 2, 3, 4, 5].map(|n| format!("record {n}")));
}
