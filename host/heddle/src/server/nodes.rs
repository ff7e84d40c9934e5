//! How this node and others find each other: in process, or over Redis.

use std::sync::Arc;

use heddle_delivery::{BusMaker, NodeMessage};
use heddle_model::{Clock, NodeId};
use heddle_registry::{Codec, EmbeddedBus, EmbeddedRegistry, Redis, Registry};

use super::settings;
use crate::config::Config;
use crate::failure::Failure;

/// The two ports that connect nodes.
pub(super) struct Nodes {
    pub(super) registry: Arc<dyn Registry>,
    pub(super) bus: BusMaker,
}

impl Nodes {
    /// As the configuration says. Redis need not be there: it is waited for in the background.
    pub(super) fn build(config: &Config, node: &NodeId, clock: &Arc<dyn Clock>) -> Result<Self, Failure> {
        let Some(redis) = settings::redis(config, node) else {
            let at = node.clone();
            return Ok(Self {
                registry: Arc::new(EmbeddedRegistry::new(node.clone())),
                bus: Box::new(move |inbox| Arc::new(EmbeddedBus::new(at, inbox))),
            });
        };
        let redis = Redis::connect(redis, Arc::clone(clock)).map_err(|wrong| Failure::usage(wrong.to_string()))?;
        let shown = redis.clone();
        tokio::spawn(async move { shown.announce().await });
        let maker = redis.clone();
        let codec = Codec { encode: NodeMessage::encode, decode: NodeMessage::decode };
        Ok(Self { registry: Arc::new(redis.registry()), bus: Box::new(move |inbox| Arc::new(maker.bus(inbox, codec))) })
    }
}
