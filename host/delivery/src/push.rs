//! What becomes of a record that is somebody's event: the tail has it, and who is connected is told. (DELIVERY 14)

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use heddle_model::{ConnectionId, Glance, NodeId, Position, TopicPartition, UserId};
use heddle_registry::Route;

use crate::delivery::Shared;
use crate::judge::{Judge, Standing};
use crate::tail::unfold;
use crate::{Event, NodeMessage};

/// Puts the event in the tail, and tells the connections of its readers.
pub(crate) async fn push(shared: &Shared, partition: TopicPartition, event: Arc<Event>, live: bool) {
    let readers = shared.partition(partition).tail.push(&event);
    if live {
        hand_out(shared, &event, readers).await;
    }
}

/// Passes a record by that makes nothing here and whose only reader is connected to other nodes: then it is not taken apart, only kept for whoever comes.
/// In a cluster most records are such, at every node. Whether it was; else it must be taken in.
pub(crate) async fn pass(
    shared: &Shared,
    partition: TopicPartition,
    judge: &mut Judge,
    owns: bool,
    position: Position,
    bytes: &Bytes,
) -> bool {
    if !shared.follows || shared.numbering.cut {
        return false;
    }
    let Some(glance) = Glance::at(bytes).filter(|glance| !(owns && glance.makes)) else { return false };
    let Ok(reader) = UserId::new(glance.reader) else { return false };
    if !shared.registry.here(&reader).is_empty() {
        return false;
    }
    if judge.made_of(glance.source) != Standing::Stands {
        return true;
    }
    shared.groups.reached(partition, position);
    let after = shared.partition(partition).tail.pass(position, &reader, bytes.clone());
    // Who came before it was kept may have read the stream before, too.
    if let Some(after) = after
        && !shared.registry.here(&reader).is_empty()
        && let Some(event) = unfold(position, bytes)
    {
        hand_out(shared, &event, vec![(reader, after)]).await;
    }
    true
}

async fn hand_out(shared: &Shared, event: &Arc<Event>, readers: Vec<(UserId, Position)>) {
    let (users, afters): (Vec<UserId>, Vec<Position>) = readers.into_iter().unzip();
    let mut nodes: HashMap<NodeId, Vec<(ConnectionId, Position)>> = HashMap::new();
    for (routes, after) in shared.routes_for(&users, shared.follows).await.into_iter().zip(afters) {
        for route in routes {
            nodes.entry(route.node).or_default().push((route.connection, after));
        }
    }
    for (node, to) in nodes {
        let message = NodeMessage::Push { event: Arc::clone(event), to };
        if let Err(error) = shared.bus.send(&node, Arc::new(message)).await {
            tracing::debug!(%node, %error, "push lost, the gateway finds it");
        }
    }
}

impl Shared {
    /// The connections of each of these users; where nobody can tell, those of this node.
    pub(crate) async fn routes(&self, users: &[UserId]) -> Vec<Vec<Route>> {
        if users.is_empty() {
            return Vec::new();
        }
        match self.registry.routes(users).await {
            Ok(routes) => routes,
            Err(error) => {
                tracing::debug!(%error, "other nodes' connections find out by themselves");
                users.iter().map(|user| self.registry.here(user)).collect()
            }
        }
    }

    /// As [`routes`](Self::routes); `here`: of this node only, for every other node sees the same record itself.
    async fn routes_for(&self, users: &[UserId], here: bool) -> Vec<Vec<Route>> {
        if here { users.iter().map(|user| self.registry.here(user)).collect() } else { self.routes(users).await }
    }

    /// Sends a hint to every connection of these users, or to those of this node. Lossy.
    pub(crate) async fn tell(&self, users: &[UserId], here: bool, message: impl Fn(Vec<ConnectionId>) -> NodeMessage) {
        let mut nodes: HashMap<NodeId, Vec<ConnectionId>> = HashMap::new();
        for route in self.routes_for(users, here).await.into_iter().flatten() {
            nodes.entry(route.node).or_default().push(route.connection);
        }
        for (node, to) in nodes {
            if let Err(error) = self.bus.send(&node, Arc::new(message(to))).await {
                tracing::debug!(%node, %error, "hint lost");
            }
        }
    }
}
