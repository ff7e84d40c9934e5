//! Names of keys and channels. deploy/redis.md shows them to operators.

use heddle_model::{ConnectionId, NodeId, UserId};

use super::Life;

pub(super) struct Keys {
    prefix: String,
    /// Channels are sharded.
    pub(super) sharded: bool,
}

impl Keys {
    pub(super) fn new(prefix: &str, sharded: bool) -> Self {
        Self { prefix: prefix.to_owned(), sharded }
    }

    /// A hash: route to device.
    pub(super) fn user(&self, user: &UserId) -> String {
        format!("{}:user:{user}", self.prefix)
    }

    /// A string: the life that holds the lease.
    pub(super) fn node(&self, node: &NodeId) -> String {
        format!("{}:node:{node}", self.prefix)
    }

    /// A sorted set: node to when its lease was last renewed, in milliseconds since 1970.
    pub(super) fn nodes(&self) -> String {
        format!("{}:nodes", self.prefix)
    }

    /// A hash: bytes and version.
    pub(super) fn state(&self, key: &str) -> String {
        format!("{}:state:{key}", self.prefix)
    }

    /// Channel of a node.
    pub(super) fn channel(&self, node: &NodeId) -> String {
        format!("{}:bus:{node}", self.prefix)
    }

    /// Channel of all nodes.
    pub(super) fn channel_all(&self) -> String {
        format!("{}:bus", self.prefix)
    }
}

/// A route as a field of its user's hash: `node/life/connection`. A node's name may have slashes.
pub(super) fn field(node: &NodeId, life: Life, connection: ConnectionId) -> String {
    format!("{node}/{life}/{}", connection.0)
}

pub(super) fn parse_field(field: &str) -> Option<(NodeId, Life, ConnectionId)> {
    let mut parts = field.rsplitn(3, '/');
    let connection = parts.next()?.parse().ok()?;
    let life = parse_life(parts.next()?)?;
    let node = NodeId::new(parts.next()?).ok()?;
    Some((node, life, ConnectionId(connection)))
}

pub(super) fn parse_life(text: &str) -> Option<Life> {
    u64::from_str_radix(text, 16).ok().map(Life)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_route_survives_its_field_whatever_the_node_is_called(
            name in "[a-z/:{}0-9]{1,64}", life in any::<u64>(), connection in any::<u64>(),
        ) {
            let node = NodeId::new(&name).unwrap();
            let text = field(&node, Life(life), ConnectionId(connection));
            prop_assert_eq!(parse_field(&text), Some((node, Life(life), ConnectionId(connection))));
        }

        #[test]
        fn what_others_wrote_into_a_hash_is_no_route_and_no_panic(text in ".{0,40}") {
            if let Some((node, life, connection)) = parse_field(&text) {
                prop_assert!(parse_field(&field(&node, life, connection)).is_some());
            }
        }
    }
}
