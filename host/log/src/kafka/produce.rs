//! Producers that are made anew after an error that no producer recovers from.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use heddle_model::{Millis, Offset};
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::future_producer::OwnedDeliveryResult;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};

use super::context::{Quiet, answered};

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
    settings: ClientConfig,
    current: ArcSwap<FutureProducer<Quiet>>,
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
    pub(crate) fn new(settings: ClientConfig) -> Result<Self, KafkaError> {
        let current = ArcSwap::from_pointee(settings.create_with_context(Quiet)?);
        Ok(Self { settings, current })
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
        let Some((code, reason)) = producer.client().fatal_error() else { return };
        if !Arc::ptr_eq(&self.current.load(), producer) {
            return;
        }
        match self.settings.create_with_context(Quiet) {
            Ok(fresh) => {
                let before = self.current.compare_and_swap(producer, Arc::new(fresh));
                if Arc::ptr_eq(&before, producer) {
                    tracing::warn!(%code, reason, "a Kafka producer failed for good, another takes its place");
                    metrics::counter!("heddle_kafka_producers_replaced_total").increment(1);
                }
            }
            Err(error) => tracing::error!(%error, "a Kafka producer failed for good, and another cannot be made"),
        }
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
