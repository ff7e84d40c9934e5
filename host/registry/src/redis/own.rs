//! What this node holds itself: the routes that Redis should know, whatever it knows now.

use std::collections::{HashMap, HashSet};

use heddle_model::{ConnectionId, DeviceId, NodeId, UserId};
use parking_lot::Mutex;

use super::Life;
use crate::Route;

/// Connections that ended while Redis was away and are to be taken out of it. What does not fit goes with the expiry of its key.
const GONE_MAX: usize = 65_536;

pub(super) struct Own {
    pub(super) node: NodeId,
    pub(super) life: Life,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Bounded by the gateway's connection limits.
    routes: HashMap<UserId, Vec<(ConnectionId, DeviceId)>>,
    gone: HashSet<(UserId, ConnectionId)>,
}

impl Own {
    pub(super) fn new(node: NodeId, life: Life) -> Self {
        Self { node, life, inner: Mutex::default() }
    }

    pub(super) fn add(&self, user: &UserId, connection: ConnectionId, device: &DeviceId) {
        let mut inner = self.inner.lock();
        inner.routes.entry(user.clone()).or_insert_with(|| Vec::with_capacity(1)).push((connection, device.clone()));
    }

    pub(super) fn remove(&self, user: &UserId, connection: ConnectionId) {
        let mut inner = self.inner.lock();
        if let Some(routes) = inner.routes.get_mut(user) {
            routes.retain(|(known, _)| *known != connection);
            if routes.is_empty() {
                inner.routes.remove(user);
            }
        }
    }

    pub(super) fn here(&self, user: &UserId) -> Vec<Route> {
        let inner = self.inner.lock();
        let routes = inner.routes.get(user).into_iter().flatten();
        let route = |(connection, device): &(ConnectionId, DeviceId)| Route {
            node: self.node.clone(),
            connection: *connection,
            device: device.clone(),
        };
        routes.map(route).collect()
    }

    pub(super) fn has(&self, user: &UserId, connection: ConnectionId) -> bool {
        self.inner.lock().routes.get(user).is_some_and(|routes| routes.iter().any(|(known, _)| *known == connection))
    }

    pub(super) fn users(&self) -> Vec<UserId> {
        self.inner.lock().routes.keys().cloned().collect()
    }

    /// A connection that is to be taken out of Redis later.
    pub(super) fn forget_later(&self, user: &UserId, connection: ConnectionId) {
        let mut inner = self.inner.lock();
        if inner.gone.len() < GONE_MAX {
            inner.gone.insert((user.clone(), connection));
        }
    }

    /// Those, to be tried now.
    pub(super) fn take_gone(&self) -> Vec<(UserId, ConnectionId)> {
        self.inner.lock().gone.drain().collect()
    }

    pub(super) fn clear(&self) {
        *self.inner.lock() = Inner::default();
    }
}
