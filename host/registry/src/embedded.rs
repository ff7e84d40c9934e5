//! Both in process: one node, or several in one process for tests.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use async_trait::async_trait;
use heddle_model::{ConnectionId, DeviceId, NodeId, UserId};
use parking_lot::RwLock;
use tokio::sync::watch;

use crate::{Bus, BusError, BusState, Inbox, Registry, RegistryError, Route};

/// Locks that the users are spread over.
const SHARDS: usize = 16;

#[derive(Debug)]
struct Table {
    hasher: RandomState,
    shards: [RwLock<HashMap<UserId, Vec<Route>>>; SHARDS],
    nodes: RwLock<BTreeSet<NodeId>>,
}

impl Table {
    fn shard(&self, user: &UserId) -> &RwLock<HashMap<UserId, Vec<Route>>> {
        &self.shards[self.hasher.hash_one(user) as usize % SHARDS]
    }
}

/// A map in memory. Bounded by the gateway's connection limits.
#[derive(Debug)]
pub struct EmbeddedRegistry {
    node: NodeId,
    table: Arc<Table>,
    /// Nobody ever forgets.
    found_again: watch::Sender<u64>,
}

impl EmbeddedRegistry {
    /// Empty, of a node that stands alone.
    #[must_use]
    pub fn new(node: NodeId) -> Self {
        let table = Table {
            hasher: RandomState::new(),
            shards: std::array::from_fn(|_| RwLock::new(HashMap::new())),
            nodes: RwLock::new(BTreeSet::from([node.clone()])),
        };
        Self { node, table: Arc::new(table), found_again: watch::Sender::new(0) }
    }

    /// One more node on the same map.
    #[must_use]
    pub fn beside(&self, node: NodeId) -> Self {
        self.table.nodes.write().insert(node.clone());
        Self { node, table: Arc::clone(&self.table), found_again: watch::Sender::new(0) }
    }
}

#[async_trait]
impl Registry for EmbeddedRegistry {
    async fn register(&self, user: &UserId, connection: ConnectionId, device: &DeviceId) -> Result<(), RegistryError> {
        let route = Route { node: self.node.clone(), connection, device: device.clone() };
        // Most users have one.
        self.table.shard(user).write().entry(user.clone()).or_insert_with(|| Vec::with_capacity(1)).push(route);
        Ok(())
    }

    async fn unregister(&self, user: &UserId, connection: ConnectionId) -> Result<(), RegistryError> {
        let mut shard = self.table.shard(user).write();
        if let Some(routes) = shard.get_mut(user) {
            routes.retain(|route| route.connection != connection || route.node != self.node);
            if routes.is_empty() {
                shard.remove(user);
            }
        }
        Ok(())
    }

    async fn routes(&self, users: &[UserId]) -> Result<Vec<Vec<Route>>, RegistryError> {
        let routes = |user| self.table.shard(user).read().get(user).cloned().unwrap_or_default();
        Ok(users.iter().map(routes).collect())
    }

    fn here(&self, user: &UserId) -> Vec<Route> {
        let shard = self.table.shard(user).read();
        let routes = shard.get(user).into_iter().flatten();
        routes.filter(|route| route.node == self.node).cloned().collect()
    }

    async fn online(&self, users: &[UserId]) -> Result<Vec<bool>, RegistryError> {
        Ok(users.iter().map(|user| self.table.shard(user).read().contains_key(user)).collect())
    }

    async fn nodes(&self) -> Result<Vec<NodeId>, RegistryError> {
        Ok(self.table.nodes.read().iter().cloned().collect())
    }

    fn found_again(&self) -> watch::Receiver<u64> {
        self.found_again.subscribe()
    }

    async fn leave(&self) {
        self.table.nodes.write().remove(&self.node);
        for shard in &self.table.shards {
            shard.write().retain(|_, routes| {
                routes.retain(|route| route.node != self.node);
                !routes.is_empty()
            });
        }
    }
}

type Inboxes<T> = Arc<RwLock<HashMap<NodeId, Inbox<T>>>>;

/// A call to the inbox of a node of this process.
pub struct EmbeddedBus<T> {
    node: NodeId,
    inboxes: Inboxes<T>,
    state: watch::Sender<BusState>,
}

impl<T> EmbeddedBus<T> {
    /// The bus of a node that stands alone.
    #[must_use]
    pub fn new(node: NodeId, inbox: Inbox<T>) -> Self {
        Self::over(Inboxes::default(), node, inbox)
    }

    /// One more node on the same bus.
    #[must_use]
    pub fn beside(&self, node: NodeId, inbox: Inbox<T>) -> Self {
        Self::over(Arc::clone(&self.inboxes), node, inbox)
    }

    fn over(inboxes: Inboxes<T>, node: NodeId, inbox: Inbox<T>) -> Self {
        inboxes.write().insert(node.clone(), inbox);
        Self { node, inboxes, state: watch::Sender::new(BusState { whole: true, lost: 0 }) }
    }
}

impl<T> Drop for EmbeddedBus<T> {
    fn drop(&mut self) {
        self.inboxes.write().remove(&self.node);
    }
}

#[async_trait]
impl<T: Send + Sync + 'static> Bus<T> for EmbeddedBus<T> {
    async fn send(&self, node: &NodeId, message: Arc<T>) -> Result<(), BusError> {
        let inbox = self.inboxes.read().get(node).cloned();
        let Some(inbox) = inbox else { return Err(BusError::Unreachable(node.clone())) };
        inbox(&message);
        Ok(())
    }

    async fn broadcast(&self, message: Arc<T>) {
        let inboxes: Vec<Inbox<T>> = self.inboxes.read().values().cloned().collect();
        for inbox in inboxes {
            inbox(&message);
        }
    }

    fn state(&self) -> watch::Receiver<BusState> {
        self.state.subscribe()
    }
}
