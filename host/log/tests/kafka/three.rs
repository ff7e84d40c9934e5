//! Three brokers, each with a copy: as strict as a log is by default. (DELIVERY 22)

use std::sync::Arc;

use heddle_log::{AppendError, KafkaConfig, KafkaLog, Log};
use heddle_test_servers::{Kafka, or_skip};

use crate::fixture::{config, follow, log};
use crate::{P0, RECOVER, all, append, append_again, id, text};

async fn texts(log: &KafkaLog) -> Vec<String> {
    all(log).await.into_iter().map(|(_, text)| text).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_one_of_three_brokers_may_go_and_without_two_of_them_nothing_counts_and_a_node_still_ends() {
    let Some(mut brokers) = or_skip(Kafka::three()) else { return };
    let addresses = brokers.iter().map(Kafka::brokers).collect::<Vec<_>>().join(",");
    let strict =
        KafkaConfig { brokers: addresses, replication: 3, min_in_sync: 2, lenient: false, ..config(&brokers[0], 1) };
    let log = follow(log(&strict).await);
    let mut assigned = log.assigned();
    let shared_out = assigned.wait_for(|all| !all.is_empty());
    tokio::time::timeout(RECOVER, shared_out).await.expect("it works on its partitions").unwrap();
    append(&log, Some(id(0)), 0).await;
    assert_eq!(texts(&log).await, ["record 0"]);
    brokers[0].kill();
    append_again(&log, 1).await;
    assert_eq!(texts(&log).await, ["record 0", "record 1"]);
    brokers[1].kill();
    let alone = log.append(P0, Some(id(2)), text(2)).await;
    assert!(matches!(alone, Err(AppendError::Unknown { .. })), "{alone:?}");
    assert_eq!(texts(&log).await, ["record 0", "record 1"], "what was read stays readable");
    // Whoever shares out the partitions may be among the dead: there is nobody to say goodbye to.
    let closing = Arc::clone(&log);
    let closed = tokio::task::spawn_blocking(move || closing.close());
    tokio::time::timeout(RECOVER, closed).await.expect("a node ends").unwrap();
}
