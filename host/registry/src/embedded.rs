//! Both in process: one node.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use async_trait::async_trait;
use heddle_model::{ConnectionId, NodeId, UserId};
use parking_lot::RwLock;

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
        // Most users have one.
        self.shard(user).write().entry(user.clone()).or_insert_with(|| Vec::with_capacity(1)).push(route);
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

/// What takes in what the bus brings to a node. Quick: it runs on the sender's time.
pub type Inbox<T> = Arc<dyn Fn(&T) + Send + Sync>;

/// A call to the one node that there is.
pub struct EmbeddedBus<T> {
    node: NodeId,
    inbox: Inbox<T>,
}

impl<T> EmbeddedBus<T> {
    /// The bus of a node that stands alone.
    #[must_use]
    pub fn new(node: NodeId, inbox: Inbox<T>) -> Self {
        Self { node, inbox }
    }
}

#[async_trait]
impl<T: Send + Sync + 'static> Bus<T> for EmbeddedBus<T> {
    async fn send(&self, node: &NodeId, message: Arc<T>) -> Result<(), BusError> {
        if *node != self.node {
            return Err(BusError::Unreachable(node.clone()));
        }
        (self.inbox)(&message);
        Ok(())
    }

    async fn broadcast(&self, message: Arc<T>) {
        (self.inbox)(&message);
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
    async fn a_bus_reaches_its_node_and_no_other() {
        let got = Arc::new(parking_lot::Mutex::new(Vec::new()));
        let (node, other) = (NodeId::new("n1").unwrap(), NodeId::new("n2").unwrap());
        let inbox = Arc::clone(&got);
        let bus = EmbeddedBus::new(node.clone(), Arc::new(move |message: &u32| inbox.lock().push(*message)));
        bus.send(&node, Arc::new(1)).await.unwrap();
        assert_eq!(bus.send(&other, Arc::new(2)).await, Err(BusError::Unreachable(other)));
        bus.broadcast(Arc::new(3)).await;
        assert_eq!(*got.lock(), [1, 3]);
    }
}
