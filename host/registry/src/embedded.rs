//! Both in process: one node, no loss but by a full queue.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use async_trait::async_trait;
use heddle_model::{ConnectionId, NodeId, UserId};
use parking_lot::RwLock;
use tokio::sync::mpsc;

use crate::{Bus, BusError, Registry, RegistryError, Route};

/// Locks that the users are spread over.
const SHARDS: usize = 16;

/// A map in memory. Bounded by the gateway's connection limits.
#[derive(Debug)]
pub struct EmbeddedRegistry {
    hasher: RandomState,
    shards: [RwLock<HashMap<UserId, Vec<Route>>>; SHARDS],
}

impl EmbeddedRegistry {
    /// Empty.
    #[must_use]
    pub fn new() -> Self {
        Self { hasher: RandomState::new(), shards: std::array::from_fn(|_| RwLock::new(HashMap::new())) }
    }

    fn shard(&self, user: &UserId) -> &RwLock<HashMap<UserId, Vec<Route>>> {
        &self.shards[self.hasher.hash_one(user) as usize % SHARDS]
    }
}

impl Default for EmbeddedRegistry {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Registry for EmbeddedRegistry {
    async fn register(&self, user: &UserId, route: Route) -> Result<(), RegistryError> {
        self.shard(user).write().entry(user.clone()).or_default().push(route);
        Ok(())
    }

    async fn unregister(&self, user: &UserId, connection: ConnectionId, node: &NodeId) -> Result<(), RegistryError> {
        let mut shard = self.shard(user).write();
        if let Some(routes) = shard.get_mut(user) {
            routes.retain(|route| route.connection != connection || route.node != *node);
            if routes.is_empty() {
                shard.remove(user);
            }
        }
        Ok(())
    }

    async fn routes(&self, user: &UserId) -> Result<Vec<Route>, RegistryError> {
        Ok(self.shard(user).read().get(user).cloned().unwrap_or_default())
    }

    async fn online(&self, users: &[UserId]) -> Result<Vec<bool>, RegistryError> {
        Ok(users.iter().map(|user| self.shard(user).read().contains_key(user)).collect())
    }
}

/// A bounded queue to the one node that there is.
#[derive(Debug)]
pub struct EmbeddedBus<T> {
    node: NodeId,
    queue: mpsc::Sender<Arc<T>>,
}

impl<T> EmbeddedBus<T> {
    /// The bus and the node's end of it, holding at most `queue_max` messages.
    #[must_use]
    pub fn new(node: NodeId, queue_max: usize) -> (Self, mpsc::Receiver<Arc<T>>) {
        let (queue, inbox) = mpsc::channel(queue_max);
        (Self { node, queue }, inbox)
    }
}

#[async_trait]
impl<T: Send + Sync + 'static> Bus<T> for EmbeddedBus<T> {
    async fn send(&self, node: &NodeId, message: Arc<T>) -> Result<(), BusError> {
        if *node != self.node {
            return Err(BusError::Unreachable(node.clone()));
        }
        self.queue.try_send(message).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => BusError::Full(node.clone()),
            mpsc::error::TrySendError::Closed(_) => BusError::Unreachable(node.clone()),
        })
    }

    async fn broadcast(&self, message: Arc<T>) {
        // A full queue loses it, as a broken line would.
        drop(self.queue.try_send(message));
    }
}

#[cfg(test)]
mod tests {
    use heddle_model::DeviceId;

    use super::*;

    fn route(connection: u64) -> Route {
        Route {
            node: NodeId::new("n1").unwrap(),
            connection: ConnectionId(connection),
            device: DeviceId::new("phone").unwrap(),
        }
    }

    #[tokio::test]
    async fn one_connection_of_several_is_taken_away_by_its_id() {
        let registry = EmbeddedRegistry::new();
        let (alice, node) = (UserId::new("alice").unwrap(), NodeId::new("n1").unwrap());
        registry.register(&alice, route(1)).await.unwrap();
        registry.register(&alice, route(2)).await.unwrap();
        registry.unregister(&alice, ConnectionId(1), &node).await.unwrap();
        registry.unregister(&alice, ConnectionId(9), &node).await.unwrap();
        assert_eq!(registry.routes(&alice).await.unwrap(), [route(2)]);
        registry.unregister(&alice, ConnectionId(2), &node).await.unwrap();
        assert_eq!(registry.online(&[alice]).await.unwrap(), [false]);
    }

    #[tokio::test]
    async fn a_full_bus_says_so_and_keeps_what_it_has() {
        let node = NodeId::new("n1").unwrap();
        let (bus, mut inbox) = EmbeddedBus::new(node.clone(), 1);
        bus.send(&node, Arc::new(1)).await.unwrap();
        assert_eq!(bus.send(&node, Arc::new(2)).await, Err(BusError::Full(node)));
        assert_eq!(*inbox.recv().await.unwrap(), 1);
    }
}
