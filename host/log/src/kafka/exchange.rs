//! Other certificates, or another login, while the log is used. librdkafka reads them when a client is made, so each client gives way to another one.

use std::sync::atomic::Ordering;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::Consumer as _;
use rdkafka::producer::FutureProducer;

use super::context::{Consumer, Quiet};
use super::pem::KafkaTls;
use super::security::{self, ASK, KafkaLogin};
use super::{KafkaConfig, KafkaLog, KafkaOpenError};

/// Questions to brokers before they count as away.
const ASKS: usize = 8;
/// The longest that records on their way to brokers hold back those behind them; what is open then has an unknown outcome.
const DRAIN: Duration = Duration::from_secs(2);

impl KafkaLog {
    /// From now on all clients are made with these. They are tried first: if brokers do not take them, the old ones go on; brokers that are away are
    /// waited for, as ever. Records land once and in order, reading goes on where it stands, and the group of workers sees a member go and come. Blocks.
    ///
    /// # Errors
    /// Brokers answer, and not those who come with these; librdkafka refuses them. Nothing has changed.
    pub fn exchange(&self, tls: Option<KafkaTls>, login: Option<KafkaLogin>) -> Result<(), KafkaOpenError> {
        let config = KafkaConfig { tls, login, ..self.shared.config.clone() };
        match security::arrive(&config, ASKS) {
            Ok(()) => {}
            Err(KafkaOpenError::Unreachable { .. } | KafkaOpenError::Ended { .. })
                if self.asker.load().fetch_metadata(None, ASK).is_err() => {}
            Err(refused) => return Err(refused),
        }
        let producer = |settings: &ClientConfig| -> Result<FutureProducer<Quiet>, KafkaOpenError> {
            settings.create_with_context(Quiet).map_err(KafkaOpenError::Setting)
        };
        let (sender, deriver) = (config.sender(), config.deriver());
        let (sends, derives) = (producer(&sender)?, producer(&deriver)?);
        let asker: Consumer = config.reader().create_with_context(Quiet).map_err(KafkaOpenError::Setting)?;
        self.asker.store(self.shared.reach.watch(asker));
        self.shared.cold.exchange(&config);
        self.sender.succeed(sender, sends, DRAIN);
        self.deriver.succeed(deriver, derives, DRAIN);
        // The threads take it up.
        self.shared.clients.send_replace(config);
        self.shared.wake.store(true, Ordering::Release);
        Ok(())
    }
}
