//! Three brokers, each with a copy: as strict as a log is by default. (DELIVERY 22)

use heddle_log::{AppendError, KafkaConfig, Log};
use heddle_test_servers::{Kafka, or_skip};

use crate::fixture::{config, follow, log};
use crate::{P0, all, append, append_again, id, text};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_one_of_three_brokers_may_go_and_without_two_of_them_nothing_counts() {
    let Some(mut brokers) = or_skip(Kafka::three()) else { return };
    let addresses = brokers.iter().map(Kafka::brokers).collect::<Vec<_>>().join(",");
    let strict =
        KafkaConfig { brokers: addresses, replication: 3, min_in_sync: 2, lenient: false, ..config(&brokers[0], 1) };
    let log = follow(log(&strict).await);
    append(&log, Some(id(0)), 0).await;
    brokers[0].kill();
    append_again(&log, 1).await;
    brokers[1].kill();
    let alone = log.append(P0, Some(id(2)), text(2)).await;
    assert!(matches!(alone, Err(AppendError::Unknown { .. })), "{alone:?}");
    let seen: Vec<_> = all(&log).await.into_iter().map(|(_, text)| text).collect();
    assert_eq!(seen, ["record 0", "record 1"]);
}
