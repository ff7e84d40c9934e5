//! With librdkafka's own broker behind one that forgets.

use bytes::Bytes;
use heddle_test_servers::Forgetful;
use rdkafka::mocking::MockCluster;

use super::*;
use crate::KafkaConfig;
use crate::kafka::produce::{Producer, Sent, Target};

/// How often the broker knows of none: mostly librdkafka is lost by that, and not each time.
const ROUNDS: u32 = 4;
/// A record that has no outcome for so long waits for more than its broker.
const PATIENCE: Duration = Duration::from_millis(700);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_forgot_every_broker_is_told_again() {
    let brokers = MockCluster::new(1).unwrap();
    brokers.create_topic("t", 1, 1).unwrap();
    let broker = Forgetful::before(brokers.bootstrap_servers(), 1, vec![("t".to_owned(), 1)]).unwrap();
    let config = KafkaConfig::new(&broker.brokers(), "test");
    let reach = Arc::new(Reach::default());
    let producer = Arc::new(Producer::new(config.deriver(), Arc::clone(&reach)).unwrap());
    for round in 0..ROUNDS {
        let current = producer.current();
        broker.forget(true);
        drop(current.client().fetch_metadata(Some("t"), ANSWER));
        broker.forget(false);
        let to = Target { topic: "t", partition: 0 };
        let mut sending = producer.send(current, to, None, None, &Bytes::from_static(b"record")).unwrap();
        let mut looks = 0;
        let sent = loop {
            if let Ok(sent) = tokio::time::timeout(PATIENCE, &mut sending).await {
                break sent;
            }
            let (reach, config) = (Arc::clone(&reach), config.clone());
            let fresh = move || -> Result<Box<dyn Asks>, KafkaError> {
                Ok(Box::new(config.reader().create_with_context::<_, Consumer>(Quiet)?))
            };
            let brokers = broker.brokers();
            tokio::task::spawn_blocking(move || reach.look(&brokers, "t", fresh)).await.unwrap();
            looks += 1;
            assert!(looks < 20, "it waits for ever, in round {round}");
        };
        assert!(matches!(sent, Sent::Stored(..)), "round {round}");
    }
}

#[test]
fn while_brokers_are_away_nobody_is_told() {
    let reach = Arc::new(Reach::default());
    let config = KafkaConfig::new("127.0.0.1:1", "test");
    let _kept = reach.watch(config.reader().create_with_context::<_, Consumer>(Quiet).unwrap());
    let fresh = || -> Result<Box<dyn Asks>, KafkaError> {
        Ok(Box::new(config.reader().create_with_context::<_, Consumer>(Quiet)?))
    };
    assert_eq!(reach.look("127.0.0.1:1", "t", fresh), 0);
}
