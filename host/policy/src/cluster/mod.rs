//! One policy set for all nodes: what is prepared, ready, activated and abandoned stands in one log that every node reads. (DESIGN 3, DELIVERY 27)
//!
//! Of several `prepare` records the first in the log wins its number; every node loads it and says `ready`; whoever proposed it writes `activate`
//! when all nodes that live are. The first of `activate` and `abandon` counts, and any node may write either. [`ledger`] says what a sequence of
//! records means, the same on every node; [`follow`] reads and obeys it; [`propose`] writes.

mod follow;
mod ledger;
mod propose;
mod repartition;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use heddle_model::NodeId;

pub(crate) use follow::{Following, confirm, obey, tidy};
pub use ledger::Cut;
pub(crate) use ledger::{Agreed, Entry, Proposal};

/// The log that all nodes read, and who they are.
#[async_trait]
pub trait Control: Send + Sync + 'static {
    /// Appends a record.
    ///
    /// # Errors
    /// In words. The record may stand all the same.
    async fn write(&self, record: Bytes) -> Result<(), String>;

    /// The offset after the last record, as whoever keeps the log says now.
    ///
    /// # Errors
    /// In words.
    async fn head(&self) -> Result<u64, String>;

    /// Waits until there is a record at `from` or behind it. Answers some of them, in order, and where to read on.
    ///
    /// # Errors
    /// In words.
    async fn read(&self, from: u64) -> Result<(Vec<Bytes>, u64), String>;

    /// The nodes that live, this one perhaps among them.
    ///
    /// # Errors
    /// In words.
    async fn members(&self) -> Result<Vec<NodeId>, String>;
}

/// That this node is one of several.
#[derive(Clone)]
pub struct Cluster {
    /// Which.
    pub node: NodeId,
    /// What they agree through.
    pub control: Arc<dyn Control>,
    /// Into how many partitions this node takes the log to be cut.
    pub partitions: u32,
    /// How long every node that lives may take to load a set before it is abandoned.
    pub ready_within: Duration,
}
