//! What a registry and a bus promise.

use std::sync::Arc;

use async_trait::async_trait;
use heddle_model::{ConnectionId, DeviceId, NodeId, UserId};
use tokio::sync::watch;

/// One connection of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The node that holds the socket.
    pub node: NodeId,
    /// Which socket.
    pub connection: ConnectionId,
    /// Which device.
    pub device: DeviceId,
}

/// Why the registry did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// Not now; go on without.
    #[error("registry does not answer: {0}")]
    Unavailable(String),
}

/// Why something was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// The queue to other nodes is full; the receiver finds out by itself.
    #[error("bus queue to node {0} is full")]
    Full(NodeId),
    /// No such node, or no way there now.
    #[error("node {0} cannot be reached over the bus")]
    Unreachable(NodeId),
    /// It cannot be written, or is larger than the bus carries.
    #[error("message for node {0} is not one that the bus carries")]
    Unfit(NodeId),
}

/// What a node knows of its own end of the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BusState {
    /// What this node sends itself arrives.
    pub whole: bool,
    /// Messages to this node that are known to be lost, since its start. That it stands still is no promise that none was.
    pub lost: u64,
}

/// Who is connected where: several connections a user, deleted by connection id. A hint.
///
/// A handle is one node's: it adds and removes that node's connections, and reads everybody's. A route counts only while its node lives:
/// a node that dies takes its routes with it, at the latest when its lease ends.
#[async_trait]
pub trait Registry: Send + Sync + 'static {
    /// Adds a connection of this node. Also if this fails: it is remembered, and made known when the backend is back.
    ///
    /// # Errors
    /// If the backend is away; the connection goes on without.
    async fn register(&self, user: &UserId, connection: ConnectionId, device: &DeviceId) -> Result<(), RegistryError>;

    /// Takes a connection of this node away; nothing happens if it is not there.
    ///
    /// # Errors
    /// If the backend is away; it is taken away later, or its lease ends by itself.
    async fn unregister(&self, user: &UserId, connection: ConnectionId) -> Result<(), RegistryError>;

    /// Each user's connections, on all nodes: one call for a page of users. Those of this node are always among them.
    ///
    /// # Errors
    /// If the backend is away; [`Registry::here`] still answers.
    async fn routes(&self, users: &[UserId]) -> Result<Vec<Vec<Route>>, RegistryError>;

    /// The user's connections on this node, from memory: whatever else is away.
    fn here(&self, user: &UserId) -> Vec<Route>;

    /// For each user, whether a connection is known: one call for a page of members.
    ///
    /// # Errors
    /// If the backend is away.
    async fn online(&self, users: &[UserId]) -> Result<Vec<bool>, RegistryError>;

    /// The nodes that live, sorted.
    ///
    /// # Errors
    /// If the backend is away.
    async fn nodes(&self) -> Result<Vec<NodeId>, RegistryError>;

    /// Changes when this node's connections are known again after they may have been unknown to others, who then pushed nothing to them.
    fn found_again(&self) -> watch::Receiver<u64>;

    /// This node goes: it and its routes count no more. A backend that is away finds out when the lease ends.
    async fn leave(&self);
}

/// Messages from node to node; each may be lost, none comes twice, and what one node sends another comes in order.
/// `T` is what the delivery floor sends.
#[async_trait]
pub trait Bus<T: Send + Sync + 'static>: Send + Sync + 'static {
    /// Hands something to a node; returning `Ok` is no promise that it arrives. To itself: it arrives, whatever is away.
    ///
    /// # Errors
    /// If it certainly does not.
    async fn send(&self, node: &NodeId, message: Arc<T>) -> Result<(), BusError>;

    /// Hands something to every node that lives, this one included.
    async fn broadcast(&self, message: Arc<T>);

    /// Tells when messages to this node may have been lost.
    fn state(&self) -> watch::Receiver<BusState>;
}

/// What takes in what the bus brings to a node. Quick: it runs on the sender's or the receiver's time.
pub type Inbox<T> = Arc<dyn Fn(&T) + Send + Sync>;
