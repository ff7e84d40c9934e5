//! How this node and others find each other: in process, or over Redis.

use std::sync::Arc;

use heddle_delivery::{BusMaker, NodeMessage};
use heddle_model::{Clock, NodeId};
use heddle_registry::{Codec, EmbeddedBus, EmbeddedRegistry, KeyedStates, Redis, Registry};

use super::settings;
use crate::config::Config;
use crate::failure::Failure;

/// The two ports that connect nodes.
pub(super) struct Nodes {
    pub(super) registry: Arc<dyn Registry>,
    pub(super) bus: BusMaker,
}

/// The way to other nodes; none: there is one.
pub(super) struct Way(Option<Redis>);

impl Way {
    /// As the configuration says. Redis need not be there: it is waited for in the background. Nobody sees this node there yet.
    pub(super) fn open(config: &Config, node: &NodeId, clock: &Arc<dyn Clock>) -> Result<Self, Failure> {
        let Some(redis) = settings::redis(config, node) else { return Ok(Self(None)) };
        let redis = Redis::connect(redis, Arc::clone(clock)).map_err(|wrong| Failure::usage(wrong.to_string()))?;
        let shown = redis.clone();
        tokio::spawn(async move { shown.announce().await });
        Ok(Self(Some(redis)))
    }

    /// For the exchange of what connections to it believe and prove.
    pub(super) fn redis(&self) -> Option<Redis> {
        self.0.clone()
    }

    /// What rate limits share with other nodes.
    pub(super) fn states(&self) -> Option<Arc<dyn KeyedStates>> {
        self.0.as_ref().map(|redis| Arc::new(redis.states()) as Arc<dyn KeyedStates>)
    }
}

impl Nodes {
    /// From here on this node is seen by others.
    pub(super) fn join(way: Way, node: &NodeId) -> Self {
        let Some(redis) = way.0 else {
            let at = node.clone();
            return Self {
                registry: Arc::new(EmbeddedRegistry::new(node.clone())),
                bus: Box::new(move |inbox| Arc::new(EmbeddedBus::new(at, inbox))),
            };
        };
        let registry = Arc::new(redis.registry());
        let codec = Codec { encode: NodeMessage::encode, decode: NodeMessage::decode };
        Self { registry, bus: Box::new(move |inbox| Arc::new(redis.bus(inbox, codec))) }
    }
}
