//! What librdkafka says, once instead of a hundred times.

use std::sync::atomic::{AtomicBool, Ordering};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::security::is_refusal;

/// A consumer that says little.
pub(crate) type Consumer = BaseConsumer<Quiet>;

/// All brokers are away, as far as this process knows.
static AWAY: AtomicBool = AtomicBool::new(false);
/// A broker did not let us in, and none has answered since.
static REFUSED: AtomicBool = AtomicBool::new(false);

/// Says that brokers are away when they go, and that they are back.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Quiet;

impl ConsumerContext for Quiet {}

impl ClientContext for Quiet {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(facility, message, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        said(&error, reason);
    }
}

/// An error that is of no one call.
pub(crate) fn said(error: &KafkaError, reason: &str) {
    tracing::debug!(%error, reason, "librdkafka");
    if is_refusal(error) && !REFUSED.swap(true, Ordering::Relaxed) {
        tracing::warn!(
            reason,
            "a Kafka broker does not let us in: section `kafka` or the brokers' certificates must change"
        );
    }
    if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) && !AWAY.swap(true, Ordering::Relaxed) {
        tracing::warn!("no Kafka broker answers; sends are refused, and what was accepted waits");
    }
}

/// A broker answered.
pub(crate) fn answered() {
    if REFUSED.load(Ordering::Relaxed) {
        REFUSED.store(false, Ordering::Relaxed);
    }
    if AWAY.load(Ordering::Relaxed) && AWAY.swap(false, Ordering::Relaxed) {
        tracing::info!("Kafka brokers answer again");
    }
}
