//! Lives of the log.

use async_trait::async_trait;
use heddle_model::{Position, TopicPartition, UserId};

use super::StoreError;

/// Records that neither log nor archive has: those above `after` up to `upto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hole {
    /// Of which partition.
    pub partition: TopicPartition,
    /// The archive's end when the hole was found.
    pub after: Position,
    /// Where the partition goes on.
    pub upto: Position,
}

impl Hole {
    /// Were records seen to be gone? A log that was made anew may have ended just where the archive did: then only what somebody had of it is a proof.
    #[must_use]
    pub fn certain(&self) -> bool {
        self.after.epoch() == self.upto.epoch()
    }

    /// Does a record at `position` lie in it?
    #[must_use]
    pub fn contains(&self, position: Position) -> bool {
        self.after < position && position <= self.upto
    }
}

/// Which life of a log has which epoch. (DELIVERY rule 2.)
#[async_trait]
pub trait Epochs: Send + Sync + 'static {
    /// The epoch of the log with this identity and partition count: the one on record; a new pair gets the largest plus one (the very first: 0).
    /// `heads` are the positions' log offsets that the log has (next offsets): if, for the epoch on record, one lies below a stored cursor, the pair gets a new epoch too.
    ///
    /// # Errors
    /// The store does not answer, or holds a broken row.
    async fn epoch(
        &self,
        identity: [u8; 16],
        partitions: u32,
        heads: &[(TopicPartition, u64)],
    ) -> Result<u32, StoreError>;

    /// The log whose epoch is the newest, and in how many partitions it is cut.
    ///
    /// # Errors
    /// The store does not answer, or holds a broken row.
    async fn newest(&self) -> Result<Option<([u8; 16], u32)>, StoreError>;

    /// Cuts the log into another number of partitions: opens the next epoch, in which each of these partitions goes on at that offset and all others
    /// begin at 0, and moves all cursors to the end of the epoch before. Where that is the newest epoch already, nothing changes.
    /// None, and nothing changes: a cursor does not cover everything below such a start.
    ///
    /// # Errors
    /// The store does not answer, or holds a broken row.
    async fn repartition(
        &self,
        identity: [u8; 16],
        partitions: u32,
        starts: &[(TopicPartition, u64)],
    ) -> Result<Option<u32>, StoreError>;

    /// Where the partitions of an epoch begin; those that are not named, at 0.
    ///
    /// # Errors
    /// The store does not answer, or holds a broken row.
    async fn starts(&self, epoch: u32) -> Result<Vec<(TopicPartition, u64)>, StoreError>;

    /// All holes on record. Those between two epochs with the same partition count are noted by [`epoch`](Self::epoch).
    ///
    /// # Errors
    /// The store does not answer, or holds a broken row.
    async fn holes(&self) -> Result<Vec<Hole>, StoreError>;

    /// Notes a hole.
    ///
    /// # Errors
    /// The store does not answer.
    async fn add_hole(&self, hole: Hole) -> Result<(), StoreError>;

    /// Notes that the user had something in the hole that ends at `upto`.
    ///
    /// # Errors
    /// The store does not answer.
    async fn add_loss(&self, user: &UserId, upto: Position) -> Result<(), StoreError>;

    /// The ends of the holes in which the user had something.
    ///
    /// # Errors
    /// The store does not answer, or holds a broken row.
    async fn losses(&self, user: &UserId) -> Result<Vec<Position>, StoreError>;
}
