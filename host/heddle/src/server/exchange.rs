//! What clients of backends believe and prove, exchanged while they are used.

use heddle_model::NodeId;
use heddle_registry::Redis;

use super::log::OpenLog;
use super::settings;
use crate::config::Config;
use crate::failure::Failure;

/// The backends that are told. New connections to Postgres read its files by themselves.
pub(super) struct Exchange {
    pub(super) log: OpenLog,
    pub(super) redis: Option<Redis>,
    pub(super) node: NodeId,
}

impl Exchange {
    /// Exchanges them in these sections. Blocks.
    ///
    /// # Errors
    /// A file that cannot be used, or brokers that answer and refuse. Nothing has changed.
    pub(super) fn make(&self, config: &Config, sections: &[&str]) -> Result<(), Failure> {
        let of_redis = self.redis.as_ref().filter(|_| sections.contains(&"registry"));
        let ready = match of_redis.zip(settings::redis(config, &self.node)) {
            Some((redis, found)) => {
                Some(redis.exchange(&found.tls).map_err(|wrong| Failure::usage(wrong.to_string()))?)
            }
            None => None,
        };
        if sections.contains(&"kafka") {
            self.log.exchange(config)?;
        }
        // Nothing refuses it any more.
        if let Some(exchange) = ready {
            exchange();
        }
        Ok(())
    }
}
