//! Clients that know no broker any more are told again where they are. A broker that has just started may know of no broker at all, itself included,
//! when it is asked for a topic: librdkafka then forgets all that it knew, the configured ones too, and may never ask anybody again (its issue 5301;
//! 2.12 has it). Nothing that such a client was given would ever get an outcome.

use std::ffi::CString;
use std::sync::{Arc, Weak};
use std::time::Duration;

use heddle_model::Topic;
use parking_lot::Mutex;
use rdkafka::ClientContext;
use rdkafka::client::Client;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::producer::{FutureProducer, Producer as _};

use super::Shared;
use super::context::{Consumer, Quiet};

/// Between two looks at all clients.
pub(crate) const LOOK: Duration = Duration::from_secs(3);
/// The longest that a broker may take to answer a client that knows one.
const ANSWER: Duration = Duration::from_secs(1);
/// The longest that closing waits for a look to begin.
const STOP: Duration = Duration::from_millis(50);

/// Something that asks brokers.
pub(crate) trait Asks: Send + Sync {
    /// Whether a broker answers it. Blocks.
    fn reaches(&self, topic: &str) -> Result<(), KafkaError>;
    /// These are brokers, `host:port` with commas. It knows those already, or asks them when it asks next.
    fn tell(&self, brokers: &CString);
}

impl<C: ClientContext> Asks for FutureProducer<C> {
    fn reaches(&self, topic: &str) -> Result<(), KafkaError> {
        ask(self.client(), topic)
    }

    fn tell(&self, brokers: &CString) {
        tell(self.client(), brokers);
    }
}

impl<C: ConsumerContext> Asks for BaseConsumer<C> {
    fn reaches(&self, topic: &str) -> Result<(), KafkaError> {
        ask(self.client(), topic)
    }

    fn tell(&self, brokers: &CString) {
        tell(self.client(), brokers);
    }
}

fn ask<C: ClientContext>(client: &Client<C>, topic: &str) -> Result<(), KafkaError> {
    client.fetch_metadata(Some(topic), ANSWER).map(drop)
}

#[allow(unsafe_code)]
fn tell<C: ClientContext>(client: &Client<C>, brokers: &CString) {
    // SAFETY: the client lives for as long as it is borrowed, and takes brokers from any thread at any time; the text ends with a zero byte, and is
    // copied before the call returns.
    unsafe { rdkafka::bindings::rd_kafka_brokers_add(client.native_ptr(), brokers.as_ptr()) };
}

/// All clients of a log that live for long.
#[derive(Default)]
pub(crate) struct Reach {
    clients: Mutex<Vec<Weak<dyn Asks>>>,
}

impl Reach {
    /// Looks after that client for as long as somebody has it.
    pub(crate) fn watch<A: Asks + 'static>(&self, client: A) -> Arc<A> {
        let client = Arc::new(client);
        let weak: Weak<A> = Arc::downgrade(&client);
        self.clients.lock().push(weak);
        client
    }

    /// Tells those that reach no broker although `fresh`, a client made for that, does: while brokers are away there is nothing to tell. Returns how many
    /// there were. Blocks.
    pub(crate) fn look(
        &self,
        brokers: &str,
        topic: &str,
        fresh: impl FnOnce() -> Result<Box<dyn Asks>, KafkaError>,
    ) -> usize {
        let clients: Vec<_> = {
            let mut known = self.clients.lock();
            known.retain(|client| client.strong_count() > 0);
            known.clone()
        };
        let mut lost = clients.iter().filter_map(Weak::upgrade).filter(|client| client.reaches(topic).is_err());
        let Some(first) = lost.next() else { return 0 };
        let (Ok(brokers), Ok(fresh)) = (CString::new(brokers), fresh()) else { return 0 };
        if fresh.reaches(topic).is_err() {
            return 0;
        }
        let told = std::iter::once(first).chain(lost).map(|client| client.tell(&brokers)).count();
        tracing::warn!(
            clients = told,
            "Kafka clients did not find the brokers that another one finds, and are told again"
        );
        metrics::counter!("heddle_kafka_clients_told_total").increment(u64::try_from(told).unwrap_or(u64::MAX));
        told
    }
}

/// Looks again and again until the log is closed.
pub(crate) fn run(shared: &Shared) {
    let topic = shared.config.topic(Topic::Control);
    let mut looked = shared.clock.monotonic();
    while !shared.stopped() {
        std::thread::park_timeout(STOP);
        if shared.clock.monotonic().saturating_sub(looked) >= LOOK {
            let config = shared.clients.borrow().clone();
            shared.reach.look(&config.brokers, &topic, || {
                let fresh: Consumer = config.reader().create_with_context(Quiet)?;
                Ok(Box::new(fresh))
            });
            looked = shared.clock.monotonic();
        }
    }
}

#[cfg(test)]
#[path = "reach_tests.rs"]
mod tests;
