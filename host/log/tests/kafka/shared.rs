//! Two nodes on one log.

use std::time::Duration;

use heddle_log::{Appended, Derived, KafkaConfig, Log, Place};
use heddle_model::Partitioning;
use heddle_test_servers::{Kafka, or_skip};

use crate::fixture::{config, follow, log, open};
use crate::{P0, all, append, id, text};

/// The longest that a group of workers may take to agree.
const AGREE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_are_of_one_log_and_read_what_the_other_appends() {
    let Some(broker) = or_skip(Kafka::shared()) else { return };
    let config = config(broker, 2);
    let (a, b) = tokio::join!(log(&config), log(&config));
    assert_eq!(a.layout(), b.layout());
    let (a, b) = (follow(a), follow(b));
    append(&a, None, 0).await;
    let mut head = b.head(P0);
    tokio::time::timeout(AGREE, head.wait_for(|head| *head == 1)).await.unwrap().unwrap();
    append(&b, None, 1).await;
    assert_eq!(all(&b).await, [(0, "record 0".to_owned()), (1, "record 1".to_owned())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_two_nodes_appended_under_one_id_is_one_for_every_reader() {
    let Some(broker) = or_skip(Kafka::shared()) else { return };
    let config = config(broker, 2);
    let (a, b) = (follow(log(&config).await), log(&config).await);
    // B follows nothing yet, so it cannot know.
    append(&a, Some(id(1)), 0).await;
    append(&b, Some(id(1)), 0).await;
    append(&b, Some(id(2)), 1).await;
    let seen = [(0, "record 0".to_owned()), (2, "record 1".to_owned())];
    let b = follow(b);
    let mut head = a.head(P0);
    tokio::time::timeout(AGREE, head.wait_for(|head| *head == 3)).await.unwrap().unwrap();
    assert_eq!(all(&a).await, seen);
    assert_eq!(all(&b).await, seen);
    // One that comes later and begins behind both says the same: it reads so much earlier.
    let c = log(&config).await;
    c.follow(P0, 1);
    // What does not stand may be read over before the next has come.
    let mut batch = c.read(P0, 1, 1 << 10).await.unwrap();
    if batch.records.is_empty() {
        assert_eq!(batch.next, 2);
        batch = c.read(P0, 2, 1 << 10).await.unwrap();
    }
    assert_eq!((batch.records.len(), batch.records[0].offset, batch.next), (1, 2, 3));
    for node in [&a, &b, &c] {
        assert_eq!(node.lookup(&id(1), true).await.unwrap(), Some(Place { partition: P0, offset: 0 }));
        // The other one is told apart, for it may be another message.
        let repeats = node.read(P0, 1, 1 << 16).await.unwrap().repeats;
        let repeats: Vec<_> = repeats.iter().map(|repeat| (repeat.stored.offset, repeat.first)).collect();
        assert_eq!(repeats, [(1, 0)]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_older_than_the_window_is_found_until_its_record_is_archived() {
    let Some(broker) = or_skip(Kafka::shared()) else { return };
    let config = KafkaConfig { dedupe_ms: 500, ids_max: 400, ..config(broker, 2) };
    let log = follow(log(&config).await);
    append(&log, Some(id(1)), 0).await;
    let first = log.read(P0, 0, 1).await.unwrap().records[0].appended_at;
    let mut n = 1;
    let mut now = first;
    while now < first + 2 * config.dedupe_ms {
        let Appended::New(place) = append(&log, None, n).await else { panic!("it has no id") };
        now = log.read(P0, place.offset, 1).await.unwrap().records[0].appended_at;
        n += 1;
    }
    // Ids go when the reader meets one.
    append(&log, Some(id(2)), n).await;
    all(&log).await;
    assert_eq!(log.lookup(&id(1), true).await.unwrap(), Some(Place { partition: P0, offset: 0 }));
    log.archived(P0, 1);
    assert_eq!(log.lookup(&id(1), true).await.unwrap(), None);
    // More than there is room for, and no archive: who must be sure is told that nobody is.
    for n in 0..200u32 {
        let mut many = [7; 16];
        many[..4].copy_from_slice(&n.to_be_bytes());
        append(&log, Some(heddle_model::MessageId(many)), 0).await;
    }
    let unsure = log.lookup(&id(9), true).await.unwrap_err();
    assert!(unsure.reason.contains("kafka.ids_max"), "{unsure}");
    assert_eq!(log.lookup(&id(9), false).await.unwrap(), None, "first sends go on");
    log.archived(P0, *log.head(P0).borrow());
    assert_eq!(log.lookup(&id(9), true).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_of_another_node_is_found_at_once_by_who_asks_for_elsewhere() {
    let Some(broker) = or_skip(Kafka::shared()) else { return };
    let config = config(broker, 2);
    let (a, b) = (follow(log(&config).await), follow(log(&config).await));
    for n in 0..20 {
        let Appended::New(place) = append(&a, Some(id(n)), n.into()).await else { panic!("it is new") };
        assert_eq!(b.lookup(&id(n), true).await.unwrap(), Some(place));
    }
    assert_eq!(b.lookup(&id(99), true).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_are_shared_out_and_go_to_who_is_left() {
    let Some(broker) = or_skip(Kafka::shared()) else { return };
    let config = config(broker, 3);
    let a = log(&config).await;
    let every: Vec<_> = Partitioning { count: 3 }.all().collect();
    let mut of_a = a.assigned();
    tokio::time::timeout(AGREE, of_a.wait_for(|held| *held == every)).await.unwrap().unwrap();
    let mut watched = a.assigned();
    let first_change = tokio::spawn(async move {
        let fewer = watched.wait_for(|held| held.len() < 6).await.unwrap();
        fewer.len()
    });
    let b = log(&config).await;
    let mut of_b = b.assigned();
    tokio::time::timeout(AGREE, of_b.wait_for(|held| held.len() == 3)).await.unwrap().unwrap();
    tokio::time::timeout(AGREE, of_a.wait_for(|held| held.len() == 3)).await.unwrap().unwrap();
    let mut both = [of_a.borrow().clone(), of_b.borrow().clone()].concat();
    both.sort();
    assert_eq!(both, every);
    assert_eq!(first_change.await.unwrap(), 3, "it works on what it keeps without a break");
    let only_follows = log(&KafkaConfig { works: false, ..config.clone() }).await;
    assert!(only_follows.assigned().borrow().is_empty());
    tokio::task::spawn_blocking(move || b.close()).await.unwrap();
    tokio::time::timeout(AGREE, of_a.wait_for(|held| *held == every)).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_is_recalled_and_only_grows() {
    let Some(broker) = or_skip(Kafka::shared()) else { return };
    let log = follow(open(broker, 2).await);
    for n in 0..5 {
        append(&log, None, n).await;
    }
    log.recall(P0, 3);
    log.recall(P0, 2);
    assert_eq!(log.derived(P0), 3);
    let derived = Derived { source: P0, upto: 5, records: vec![(P0, text(5))], patient: false };
    assert_eq!(log.derive(derived).await, Ok(vec![5]));
    assert_eq!(log.derived(P0), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_memory_let_go_of_comes_from_a_broker_without_what_does_not_stand() {
    let Some(broker) = or_skip(Kafka::shared()) else { return };
    let small = KafkaConfig { cache_bytes: 0, ..config(broker, 2) };
    let (log, other) = (follow(log(&small).await), log(&small).await);
    append(&log, Some(id(1)), 0).await;
    append(&other, Some(id(1)), 0).await;
    let big = bytes::Bytes::from(vec![b'x'; 40 << 10]);
    let appends = (0..30).map(|_| log.append(P0, None, big.clone()));
    for appended in futures_util::future::join_all(appends).await {
        appended.unwrap();
    }
    // Whoever reads once makes place; the second finds the first records gone from memory.
    for _ in 0..2 {
        let seen = all(&log).await;
        let offsets: Vec<_> = seen.iter().map(|(offset, _)| *offset).collect();
        assert_eq!(offsets, [0].into_iter().chain(2..32).collect::<Vec<_>>());
        let again = log.read(P0, 0, 1 << 20).await.unwrap();
        assert_eq!(again.repeats.iter().map(|repeat| (repeat.stored.offset, repeat.first)).next(), Some((1, 0)));
        // What is archived is not forgotten at once: a worker that takes over begins below it.
        log.archived(P0, 32);
    }
}
