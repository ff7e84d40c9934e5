//! What a registry and a bus promise.

use std::sync::Arc;

use async_trait::async_trait;
use heddle_model::{ConnectionId, DeviceId, NodeId, UserId};

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
    /// The node's queue is full; the receiver finds out by itself.
    #[error("bus queue to node {0} is full")]
    Full(NodeId),
    /// No such node, or no way there now.
    #[error("node {0} cannot be reached over the bus")]
    Unreachable(NodeId),
}

/// Who is connected where: several connections a user, deleted by connection id. A hint.
#[async_trait]
pub trait Registry: Send + Sync + 'static {
    /// Adds a connection.
    ///
    /// # Errors
    /// If the backend is away; the connection goes on without.
    async fn register(&self, user: &UserId, route: Route) -> Result<(), RegistryError>;

    /// Takes a connection away; nothing happens if it is not there.
    ///
    /// # Errors
    /// If the backend is away; its lease ends by itself.
    async fn unregister(&self, user: &UserId, connection: ConnectionId, node: &NodeId) -> Result<(), RegistryError>;

    /// The user's connections.
    ///
    /// # Errors
    /// If the backend is away.
    async fn routes(&self, user: &UserId) -> Result<Vec<Route>, RegistryError>;

    /// For each user, whether a connection is known: one call for a page of members.
    ///
    /// # Errors
    /// If the backend is away.
    async fn online(&self, users: &[UserId]) -> Result<Vec<bool>, RegistryError>;
}

/// Messages from node to node; each may be lost. `T` is what the delivery floor sends.
#[async_trait]
pub trait Bus<T: Send + Sync + 'static>: Send + Sync + 'static {
    /// Hands something to a node; returning `Ok` is no promise that it arrives.
    ///
    /// # Errors
    /// If it certainly does not.
    async fn send(&self, node: &NodeId, message: Arc<T>) -> Result<(), BusError>;

    /// Hands something to every node that lives, this one included.
    async fn broadcast(&self, message: Arc<T>);
}
