//! Producers that are made anew after an error that no producer recovers from, when nothing comes of them any more, or with other certificates.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use heddle_model::{Millis, Offset};
use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::future_producer::OwnedDeliveryResult;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _, PurgeConfig};
use tokio::sync::{RwLock, RwLockReadGuard};

use super::context::{Quiet, answered};
use super::reach::Reach;

/// A producer of which nothing came for so long, although its brokers answer, is given up: after brokers were away, librdkafka's idempotent
/// producers may wait for ever (librdkafka issues 3189 and 3635 have the like).
pub(crate) const STUCK: Duration = Duration::from_secs(15);

/// The header with the moment at which a sender's record was handed in, big-endian milliseconds.
pub(crate) const AT_HEADER: &str = "at";

/// Where a record goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partition: i32,
}

/// A producer, the present one.
pub(crate) struct Producer {
    settings: Mutex<ClientConfig>,
    current: ArcSwap<FutureProducer<Quiet>>,
    /// Held while a record is handed in, and alone by whoever lets another producer succeed.
    door: RwLock<()>,
    /// Since when, on the monotonic clock, nobody said what became of anything that it sent.
    failing: Mutex<Option<Duration>>,
    /// Somebody looks whether it is stuck.
    looking: AtomicBool,
    reach: Arc<Reach>,
}

/// What became of a record that was handed in.
pub(crate) enum Sent {
    /// It stands there, since then by the brokers' clock.
    Stored(Offset, Millis),
    /// Nobody knows.
    Unknown(String),
    /// Certainly not.
    Refused(String),
}

/// A record under way.
pub(crate) type Sending = Pin<Box<dyn Future<Output = Sent> + Send>>;

impl Producer {
    pub(crate) fn new(settings: ClientConfig, reach: Arc<Reach>) -> Result<Self, KafkaError> {
        let current = ArcSwap::new(reach.watch(settings.create_with_context(Quiet)?));
        Ok(Self {
            settings: Mutex::new(settings),
            current,
            reach,
            door: RwLock::default(),
            failing: Mutex::default(),
            looking: AtomicBool::new(false),
        })
    }

    /// Must be held from [`current`](Self::current) until everything is handed in.
    pub(crate) async fn enter(&self) -> RwLockReadGuard<'_, ()> {
        // Where no other succeeds, without a chance for the runtime to let others go first: records land in the order of the calls.
        match self.door.try_read() {
            Ok(entered) => entered,
            Err(_) => self.door.read().await,
        }
    }

    /// The producer of this moment.
    pub(crate) fn current(&self) -> Arc<FutureProducer<Quiet>> {
        self.current.load_full()
    }

    /// Queues a record at one producer; those of one partition in the order of the calls.
    pub(crate) fn send(
        self: &Arc<Self>,
        producer: Arc<FutureProducer<Quiet>>,
        to: Target<'_>,
        key: Option<&[u8; 16]>,
        at: Option<Millis>,
        bytes: &Bytes,
    ) -> Result<Sending, String> {
        let mut record: FutureRecord<'_, [u8], [u8]> =
            FutureRecord::to(to.topic).partition(to.partition).payload(bytes);
        if let Some(key) = key {
            record = record.key(&key[..]);
        }
        if let Some(at) = at {
            let value = at.to_be_bytes();
            record = record.headers(OwnedHeaders::new().insert(Header { key: AT_HEADER, value: Some(&value[..]) }));
        }
        match producer.send_result(record) {
            Ok(delivery) => {
                let this = Arc::clone(self);
                Ok(Box::pin(async move {
                    let sent = match delivery.await {
                        Ok(result) => outcome(result),
                        Err(_) => Sent::Unknown("its producer ended".to_owned()),
                    };
                    if !matches!(sent, Sent::Stored(..)) {
                        this.renew_if_dead(&producer);
                    }
                    sent
                }))
            }
            Err((error, _)) => {
                self.renew_if_dead(&producer);
                Err(said(&error))
            }
        }
    }

    /// After a fatal error nothing is sent by it any more; its numbers begin anew with another one.
    fn renew_if_dead(&self, producer: &Arc<FutureProducer<Quiet>>) {
        if let Some((code, reason)) = producer.client().fatal_error() {
            self.replace(producer, &format!("it failed for good: {code}: {reason}"));
        }
    }

    /// Whether it is known what became of a record: true, once, when that was of none for so long that somebody should look.
    pub(crate) fn fared(&self, known: bool, now: Duration) -> bool {
        let mut failing = self.failing.lock();
        if known {
            *failing = None;
            return false;
        }
        let since = *failing.get_or_insert(now);
        now.saturating_sub(since) >= STUCK && !self.looking.swap(true, Ordering::AcqRel)
    }

    /// The look that [`fared`](Self::fared) asked for is over.
    pub(crate) fn looked(&self) {
        *self.failing.lock() = None;
        self.looking.store(false, Ordering::Release);
    }

    /// Another takes its place; of what it still has, nobody knows what becomes.
    pub(crate) fn replace(&self, producer: &Arc<FutureProducer<Quiet>>, why: &str) {
        if !Arc::ptr_eq(&self.current.load(), producer) {
            // Somebody may have handed it more while another took its place: that would wait for ever.
            producer.purge(PurgeConfig::default().queue().inflight());
            return;
        }
        let settings = self.settings.lock();
        match settings.create_with_context(Quiet) {
            Ok(fresh) => {
                let before = self.current.compare_and_swap(producer, self.reach.watch(fresh));
                if Arc::ptr_eq(&before, producer) {
                    tracing::warn!(why, "another Kafka producer takes the place of one");
                    metrics::counter!("heddle_kafka_producers_replaced_total").increment(1);
                    // What is queued must not land behind what its successor sends; what is under way lands in order, or not at all.
                    producer.purge(PurgeConfig::default().queue().inflight());
                }
            }
            Err(error) => tracing::error!(%error, why, "a Kafka producer cannot be replaced"),
        }
    }

    /// Another, made with these settings, takes its place when everything that it was given has an outcome: meanwhile nothing more is handed in, so
    /// that all lands in the order of the calls. What takes longer than `patience` ends as with [`replace`](Self::replace). Blocks.
    pub(crate) fn succeed(&self, settings: ClientConfig, fresh: FutureProducer<Quiet>, patience: Duration) {
        let _alone = self.door.blocking_write();
        self.flush(patience);
        let mut known = self.settings.lock();
        *known = settings;
        let before = self.current.swap(self.reach.watch(fresh));
        drop(known);
        before.purge(PurgeConfig::default().queue().inflight());
    }

    /// Waits until what is queued has its outcome. Blocks.
    pub(crate) fn flush(&self, patience: Duration) {
        if let Err(error) = self.current.load().flush(patience) {
            tracing::warn!(%error, "records were still on their way to Kafka");
        }
    }
}

fn said(error: &KafkaError) -> String {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::QueueFull) => "the queue to Kafka is full, its brokers do not follow".to_owned(),
        Some(code) => code.to_string(),
        None => error.to_string(),
    }
}

fn outcome(result: OwnedDeliveryResult) -> Sent {
    match result {
        Ok(delivery) => {
            answered();
            let at = delivery.timestamp.to_millis().and_then(|at| u64::try_from(at).ok()).unwrap_or(0);
            match Offset::try_from(delivery.offset) {
                Ok(offset) => Sent::Stored(offset, at),
                Err(_) => Sent::Unknown(format!("Kafka answered offset {}", delivery.offset)),
            }
        }
        Err((error, _)) => match error.rdkafka_error_code() {
            Some(
                code @ (RDKafkaErrorCode::MessageSizeTooLarge
                | RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::InvalidRecord),
            ) => Sent::Refused(code.to_string()),
            _ => Sent::Unknown(said(&error)),
        },
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::mocking::MockCluster;
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

    use super::*;
    use crate::KafkaConfig;

    /// Of brokers that are not there: what it is given waits for ever.
    fn waits() -> Arc<Producer> {
        Arc::new(Producer::new(KafkaConfig::new("127.0.0.1:1", "test").deriver(), Arc::default()).unwrap())
    }

    #[test]
    fn somebody_looks_once_after_nothing_was_known_for_a_while() {
        let (producer, second) = (waits(), Duration::from_secs(1));
        assert!(!producer.fared(false, second));
        assert!(!producer.fared(false, STUCK));
        assert!(producer.fared(false, second + STUCK));
        assert!(!producer.fared(false, second + STUCK), "somebody looks already");
        producer.looked();
        assert!(!producer.fared(false, second + STUCK));
        assert!(!producer.fared(true, second + STUCK * 2), "one came through");
        assert!(!producer.fared(false, second + STUCK * 3));
        assert!(producer.fared(false, second + STUCK * 4));
    }

    #[tokio::test]
    async fn what_a_replaced_producer_still_had_has_an_unknown_outcome() {
        let (producer, bytes) = (waits(), Bytes::from_static(b"record"));
        let (first, to) = (producer.current(), Target { topic: "t", partition: 0 });
        let sending = producer.send(Arc::clone(&first), to, None, None, &bytes).unwrap();
        producer.replace(&first, "a test");
        assert!(matches!(sending.await, Sent::Unknown(_)));
        let second = producer.current();
        assert!(!Arc::ptr_eq(&first, &second));
        // Who was late with the first does not end the second.
        producer.replace(&first, "a test");
        assert!(Arc::ptr_eq(&second, &producer.current()));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_handed_in_around_a_succession_lands_once_and_in_order() {
        let brokers = MockCluster::new(1).unwrap();
        brokers.create_topic("t", 1, 1).unwrap();
        let settings = KafkaConfig::new(&brokers.bootstrap_servers(), "test").sender();
        let producer = Arc::new(Producer::new(settings.clone(), Arc::default()).unwrap());
        let first = producer.current();
        let succession = || {
            let (producer, settings) = (Arc::clone(&producer), settings.clone());
            tokio::task::spawn_blocking(move || {
                let fresh = settings.create_with_context(Quiet).unwrap();
                producer.succeed(settings, fresh, STUCK);
            })
        };
        let (mut under_way, mut successions, mut landed) = (Vec::new(), Vec::new(), Vec::new());
        for n in 0..400 {
            if n % 100 == 50 {
                successions.push(succession());
            }
            let entered = producer.enter().await;
            let to = Target { topic: "t", partition: 0 };
            under_way.push(producer.send(producer.current(), to, None, None, &Bytes::from_static(b"record")).unwrap());
            drop(entered);
            if n % 20 == 0 {
                tokio::task::yield_now().await;
            }
        }
        for succeeded in successions {
            succeeded.await.unwrap();
        }
        assert!(!Arc::ptr_eq(&first, &producer.current()));
        for sending in under_way {
            match sending.await {
                Sent::Stored(offset, _) => landed.push(offset),
                Sent::Unknown(reason) | Sent::Refused(reason) => panic!("{reason}"),
            }
        }
        assert_eq!(landed, (0..400).collect::<Vec<_>>());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_succession_does_not_wait_for_ever_and_leaves_no_outcome_open() {
        let producer = waits();
        let to = Target { topic: "t", partition: 0 };
        let sending = producer.send(producer.current(), to, None, None, &Bytes::from_static(b"record")).unwrap();
        let succeeding = Arc::clone(&producer);
        let settings = KafkaConfig::new("127.0.0.1:1", "test").deriver();
        let fresh = settings.create_with_context(Quiet).unwrap();
        tokio::task::spawn_blocking(move || succeeding.succeed(settings, fresh, Duration::from_millis(50)))
            .await
            .unwrap();
        assert!(matches!(sending.await, Sent::Unknown(_)));
    }

    /// What became of one record.
    async fn fate(producer: &Arc<Producer>, through: Arc<FutureProducer<Quiet>>) -> Sent {
        let to = Target { topic: "t", partition: 0 };
        producer.send(through, to, None, None, &Bytes::from_static(b"record")).unwrap().await
    }

    #[tokio::test]
    async fn a_producer_that_failed_for_good_gives_way_to_one_that_works() {
        // librdkafka's own brokers, within this process. A number that is not the next, of the first record under way, is what no producer recovers
        // from, whether it has a deadline or, as the workers', none.
        let brokers = MockCluster::new(1).unwrap();
        brokers.create_topic("t", 1, 1).unwrap();
        let config = KafkaConfig::new(&brokers.bootstrap_servers(), "test");
        for settings in [config.sender(), config.deriver()] {
            let producer = Arc::new(Producer::new(settings, Arc::default()).unwrap());
            let first = producer.current();
            assert!(matches!(fate(&producer, Arc::clone(&first)).await, Sent::Stored(..)));
            let code = RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
            brokers.request_errors(RDKafkaApiKey::Produce, &[code]);
            assert!(matches!(fate(&producer, Arc::clone(&first)).await, Sent::Unknown(_)));
            assert!(first.client().fatal_error().is_some());
            let second = producer.current();
            assert!(!Arc::ptr_eq(&first, &second), "another has taken its place");
            assert!(matches!(fate(&producer, second).await, Sent::Stored(..)));
            // Who still has the first one is refused, and no third is made of that.
            let to = Target { topic: "t", partition: 0 };
            let second = producer.current();
            assert!(producer.send(first, to, None, None, &Bytes::from_static(b"late")).is_err());
            assert!(Arc::ptr_eq(&second, &producer.current()));
        }
    }

    #[tokio::test]
    async fn what_is_handed_to_one_that_was_replaced_meanwhile_does_not_wait_for_ever() {
        let brokers = MockCluster::new(1).unwrap();
        brokers.create_topic("t", 1, 1).unwrap();
        let producer = Arc::new(
            Producer::new(KafkaConfig::new(&brokers.bootstrap_servers(), "test").deriver(), Arc::default()).unwrap(),
        );
        let first = producer.current();
        assert!(matches!(fate(&producer, Arc::clone(&first)).await, Sent::Stored(..)));
        brokers.broker_down(1).unwrap();
        producer.replace(&first, "nothing came of it");
        let to = Target { topic: "t", partition: 0 };
        let late = producer.send(Arc::clone(&first), to, None, None, &Bytes::from_static(b"late")).unwrap();
        let second = producer.current();
        producer.replace(&first, "nothing came of it");
        let late = tokio::time::timeout(Duration::from_secs(10), late).await;
        assert!(matches!(late, Ok(Sent::Unknown(_))), "it waits");
        assert!(Arc::ptr_eq(&second, &producer.current()), "no third is made of that");
    }
}
