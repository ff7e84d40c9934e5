//! Records that brokers took long after they were handed in, or before. (DELIVERY 23)

use std::time::Duration;

use heddle_log::{Appended, Log, Place};
use heddle_model::{Clock as _, Millis, Offset, SystemClock};
use heddle_test_servers::{Kafka, or_skip};
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};

use crate::fixture::{config, follow, log};
use crate::{P0, RECOVER, all, append, id, text};

/// Hands a record in as a node did whose clock said so then.
async fn produce(config: &heddle_log::KafkaConfig, n: u8, handed_in: Millis) -> Offset {
    let producer: FutureProducer = ClientConfig::new().set("bootstrap.servers", &config.brokers).create().unwrap();
    let (topic, key, payload) = (format!("{}.messages", config.prefix), id(n).0, text(n.into()));
    let moment = handed_in.to_be_bytes();
    let header = Header { key: "at", value: Some(&moment[..]) };
    let record = FutureRecord::to(&topic)
        .partition(0)
        .key(&key[..])
        .payload(&payload[..])
        .headers(OwnedHeaders::new().insert(header));
    Offset::try_from(producer.send(record, Duration::from_secs(10)).await.unwrap().offset).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_that_a_broker_took_too_late_or_too_early_does_not_stand_and_its_id_is_free() {
    let Some(broker) = or_skip(Kafka::shared()) else { return };
    let config = config(broker, 1);
    let node = follow(log(&config).await);
    let now = SystemClock::new().now();
    // The last has the header that these tests write, and stands: the others are void for their moment alone.
    for (offset, (n, handed_in)) in [(1, now - 31_000), (2, now + 60_000), (3, now - 1_000)].into_iter().enumerate() {
        assert_eq!(produce(&config, n, handed_in).await, offset as Offset);
    }
    let mut head = node.head(P0);
    tokio::time::timeout(RECOVER, head.wait_for(|head| *head == 3)).await.unwrap().unwrap();
    let stands = [(2, "record 3".to_owned())];
    assert_eq!(all(&node).await, stands);
    assert!(node.read(P0, 0, 1 << 16).await.unwrap().repeats.is_empty(), "it is nobody's message, and repeats none");
    assert_eq!(node.lookup(&id(1), true).await.unwrap(), None);
    // Sent again it is new, and the void one takes nothing from it.
    for (n, offset) in [(1, 3), (2, 4)] {
        assert_eq!(append(&node, Some(id(n)), n.into()).await, Appended::New(Place { partition: P0, offset }));
    }
    let stands = [(2, "record 3".to_owned()), (3, "record 1".to_owned()), (4, "record 2".to_owned())];
    assert_eq!(all(&node).await, stands);
    // Whoever reads later says the same.
    assert_eq!(all(&follow(log(&config).await)).await, stands);
}
