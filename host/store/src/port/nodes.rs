//! The nodes that share this store.

use async_trait::async_trait;
use heddle_model::{Millis, NodeId};
use serde::{Deserialize, Serialize};

use super::StoreError;

/// A row that was not renewed for so long is forgotten.
pub const NODE_FORGOTTEN_MS: Millis = 24 * 60 * 60 * 1_000;

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeReport {
    /// `starting`, `serving`, `not ready`, `draining`.
    pub state: String,
    /// `gateway`, `worker`.
    pub roles: Vec<String>,
    /// Of the build.
    pub version: String,
    /// When its process started, ms since 1970.
    pub started_at: Millis,
    /// Where clients connect; empty: not here, or not yet.
    pub clients: String,
    /// Where operators do.
    pub admin: String,
    /// The policy set that decides there.
    pub generation: u64,
    /// Open connections.
    pub connections: u64,
    /// Partitions that it works on.
    pub partitions: u32,
    /// Records of those that nobody has worked on yet.
    pub derive_lag: u64,
    /// Records of those that are not archived yet.
    pub archive_lag: u64,
}

/// A node, as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRow {
    /// Which.
    pub node: NodeId,
    /// What it said last.
    pub report: NodeReport,
    /// Since then, by the store's own clock.
    pub age_ms: Millis,
}

/// Who is there. A node lives as long as it renews its row.
#[async_trait]
pub trait Nodes: Send + Sync + 'static {
    /// Renews a node's row; forgets rows that nobody has renewed for [`NODE_FORGOTTEN_MS`].
    ///
    /// # Errors
    /// The store does not answer.
    async fn beat(&self, node: &NodeId, report: &NodeReport) -> Result<(), StoreError>;

    /// Every node on record, by name.
    ///
    /// # Errors
    /// The store does not answer, or holds a broken row.
    async fn nodes(&self) -> Result<Vec<NodeRow>, StoreError>;

    /// A node goes in order.
    ///
    /// # Errors
    /// The store does not answer.
    async fn leave(&self, node: &NodeId) -> Result<(), StoreError>;
}
