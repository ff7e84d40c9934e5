//! Where a user and a group live.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{GroupId, UserId};

/// A stream of records, cut in partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Topic {
    /// Users' streams, by the user's home partition.
    Messages,
    /// Groups' messages and changes, by the group's home partition.
    GroupMessages,
    /// Policy activations: one partition.
    Control,
}

impl Topic {
    /// All of them, in the order of their codes.
    pub const ALL: [Self; 3] = [Self::Messages, Self::GroupMessages, Self::Control];

    /// Its name, as an operator types it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::GroupMessages => "group_messages",
            Self::Control => "control",
        }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One partition of one topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TopicPartition {
    /// Of which topic.
    pub topic: Topic,
    /// Which one, from 0.
    pub partition: u32,
}

impl TopicPartition {
    /// Of `messages`.
    #[must_use]
    pub fn messages(partition: u32) -> Self {
        Self { topic: Topic::Messages, partition }
    }

    /// Of `group_messages`.
    #[must_use]
    pub fn groups(partition: u32) -> Self {
        Self { topic: Topic::GroupMessages, partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// How many partitions there are, the same for users and groups, and so where each lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partitioning {
    /// Partitions of `messages` and of `group_messages`, at least 1.
    pub count: u32,
}

impl Partitioning {
    /// The user's home: first 8 bytes, big-endian, of SHA-256 of the id, modulo the count. (DELIVERY rule 3.)
    #[must_use]
    pub fn home(self, user: &UserId) -> TopicPartition {
        TopicPartition::messages(self.slot(user.as_str()))
    }

    /// The group's home.
    #[must_use]
    pub fn group_home(self, group: &GroupId) -> TopicPartition {
        TopicPartition::groups(self.slot(group.as_str()))
    }

    /// Every partition that has a worker: all of `messages`, then all of `group_messages`.
    pub fn all(self) -> impl Iterator<Item = TopicPartition> {
        (0..self.count).map(TopicPartition::messages).chain((0..self.count).map(TopicPartition::groups))
    }

    fn slot(self, id: &str) -> u32 {
        (u64::from_be_bytes(brief_hash(id.as_bytes())) % u64::from(self.count.max(1))) as u32
    }
}

/// The first 8 bytes of SHA-256: by which nodes name what they need not know.
#[must_use]
pub fn brief_hash(bytes: &[u8]) -> [u8; 8] {
    let mut head = [0; 8];
    head.copy_from_slice(&Sha256::digest(bytes)[..8]);
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homes_are_those_that_every_version_has_used() {
        let partitioning = Partitioning { count: 16 };
        let homes: Vec<u32> =
            ["alice", "bob", "carol"].iter().map(|u| partitioning.home(&UserId::new(u).unwrap()).partition).collect();
        // sha256("alice") starts 2bd806c97f0e00af, "bob" 81b637d8fcd2c6da, "carol" 4c26d9074c27d89e.
        assert_eq!(homes, [0xf, 0xa, 0xe]);
    }
}
