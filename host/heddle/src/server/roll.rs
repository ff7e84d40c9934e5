//! The roll of nodes: this one renews its row in the store, and reads the others'.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use heddle_delivery::Delivery;
use heddle_gateway::Load;
use heddle_model::{Millis, NodeId};
use heddle_policy::Policies;
use heddle_store::{NodeReport, NodeRow, Nodes, StoreError};

use crate::config::Config;

/// How often a row is renewed.
const BEAT: Duration = Duration::from_secs(2);
/// A node whose row is older lives no more, as far as others can tell.
pub const LEASE_MS: Millis = 10_000;

/// This node among the others.
pub(super) struct Roll {
    node: NodeId,
    nodes: Arc<dyn Nodes>,
    /// Others share the store: without them nothing is written.
    shared: bool,
    start: NodeReport,
    parts: OnceLock<Parts>,
    /// It left, and renews nothing any more. Held while the row is written.
    left: tokio::sync::Mutex<bool>,
}

/// What its report is made of.
struct Parts {
    delivery: Delivery,
    policies: Policies,
    load: Load,
}

impl Roll {
    pub(super) fn new(config: &Config, node: &NodeId, nodes: Arc<dyn Nodes>, now: Millis, shared: bool) -> Arc<Self> {
        let start = NodeReport {
            state: "starting".to_owned(),
            roles: config.node.roles.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: now,
            clients: String::new(),
            admin: config.admin.listen.to_string(),
            generation: 0,
            connections: 0,
            partitions: 0,
            derive_lag: 0,
            archive_lag: 0,
        };
        Arc::new(Self {
            node: node.clone(),
            nodes,
            shared,
            start,
            parts: OnceLock::new(),
            left: tokio::sync::Mutex::default(),
        })
    }

    /// Renews the row until the roll is dropped. The first row stands when this returns: a policy set waits for this node too.
    ///
    /// # Errors
    /// The store does not answer.
    pub(super) async fn enter(self: &Arc<Self>) -> Result<(), StoreError> {
        if !self.shared {
            return Ok(());
        }
        self.nodes.beat(&self.node, &self.start).await?;
        let weak = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(BEAT).await;
                let Some(this) = weak.upgrade() else { return };
                let left = this.left.lock().await;
                if *left {
                    return;
                }
                if let Err(error) = this.nodes.beat(&this.node, &this.report()).await {
                    tracing::debug!(%error, "this node's row waits for the store");
                }
            }
        });
        Ok(())
    }

    /// From now on it says how it really is.
    pub(super) fn serves(&self, delivery: Delivery, policies: Policies, load: Load) {
        drop(self.parts.set(Parts { delivery, policies, load }));
    }

    /// It goes in order.
    pub(super) async fn leave(&self) {
        let mut left = self.left.lock().await;
        *left = true;
        if self.shared
            && let Err(error) = self.nodes.leave(&self.node).await
        {
            tracing::debug!(%error, "this node's row stays until it is too old");
        }
    }

    fn report(&self) -> NodeReport {
        let Some(Parts { delivery, policies, load }) = self.parts.get() else { return self.start.clone() };
        let owned = delivery.owned();
        NodeReport {
            state: state(load).to_owned(),
            clients: load.client_address().map(|address| address.to_string()).unwrap_or_default(),
            admin: load.admin_address().to_string(),
            generation: policies.current().number(),
            connections: load.connections(),
            partitions: owned.partitions,
            derive_lag: owned.derive_lag,
            archive_lag: delivery.archive_lag(),
            ..self.start.clone()
        }
    }

    /// Every node, this one as it is now.
    ///
    /// # Errors
    /// The store does not answer.
    pub(super) async fn call(&self) -> Result<Vec<NodeRow>, StoreError> {
        let mut rows = if self.shared { self.nodes.nodes().await? } else { Vec::new() };
        rows.retain(|row| row.node != self.node);
        rows.push(NodeRow { node: self.node.clone(), report: self.report(), age_ms: 0 });
        rows.sort_by(|a, b| a.node.as_str().cmp(b.node.as_str()));
        Ok(rows)
    }
}

fn state(load: &Load) -> &'static str {
    if load.draining() {
        return "draining";
    }
    if load.ready().is_ok() { "serving" } else { "not ready" }
}
