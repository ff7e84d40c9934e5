//! Making the archive's rows of the retained log anew, while no server writes. (DELIVERY 12)

use async_trait::async_trait;
use heddle_model::{Conversation, GroupId, Millis, Position, TopicPartition, UserId};

use super::{ArchiveBatch, ArchivedRecord, GroupDelta, GroupLogRow, ReceiptRow, StoreError, StreamRow};

/// A part of a partition of the log: the positions above `after` up to `upto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// Of which partition.
    pub partition: TopicPartition,
    /// It begins above.
    pub after: Position,
    /// Its last position.
    pub upto: Position,
}

/// The rows of a stretch that the archive has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StretchRows {
    /// Records.
    pub records: Vec<ArchivedRecord>,
    /// Events. `lamport` is 0 for those of groups: what they are sorted by is their order.
    pub stream: Vec<StreamRow>,
    /// Messages that members pull.
    pub pulled: Vec<GroupLogRow>,
}

/// How far a reader has come, as the archive has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiptKept {
    /// Whose messages.
    pub sender: UserId,
    /// As the sender names it.
    pub conversation: Conversation,
    /// Who received or read.
    pub by: UserId,
    /// Received up to this order.
    pub delivered: Position,
    /// Read up to this order.
    pub read: Position,
    /// When the newest of both was said.
    pub at: Millis,
}

/// What of a row of receipts is made anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiptCut {
    /// The row as it is.
    pub row: ReceiptKept,
    /// Up to where `delivered` is believed.
    pub delivered: Position,
    /// Up to where `read` is believed, not above `delivered`.
    pub read: Position,
}

/// Repairs the archive from the log. Nobody else writes meanwhile; each call is one transaction, after which no row is worse than before.
#[async_trait]
pub trait Rebuild: Send + Sync + 'static {
    /// Makes what finds rows by their place in the log, which nothing else needs.
    ///
    /// # Errors
    /// The store does not answer.
    async fn prepare_rebuild(&self) -> Result<(), StoreError>;
    /// Removes it.
    ///
    /// # Errors
    /// The store does not answer.
    async fn end_rebuild(&self) -> Result<(), StoreError>;
    /// The rows of a stretch.
    ///
    /// # Errors
    /// The store does not answer, or holds a broken row.
    async fn stretch(&self, stretch: Stretch) -> Result<StretchRows, StoreError>;
    /// Removes the records, events and pulled messages of a stretch, and writes these.
    ///
    /// # Errors
    /// The store does not answer, or a row cannot be written: then nothing is.
    async fn replace(&self, stretch: Stretch, batch: ArchiveBatch) -> Result<(), StoreError>;
    /// At most `limit` records of a partition below a position, the newest first.
    ///
    /// # Errors
    /// The store does not answer, or holds a broken row.
    async fn records_below(
        &self,
        partition: TopicPartition,
        below: Position,
        limit: u32,
    ) -> Result<Vec<ArchivedRecord>, StoreError>;
    /// At most `limit` groups that the archive knows anything of, in the order of their ids, those above `after`; each with its head (0: none).
    ///
    /// # Errors
    /// The store does not answer, or holds a broken row.
    async fn groups_above(&self, after: Option<&GroupId>, limit: u32) -> Result<Vec<(GroupId, Position)>, StoreError>;
    /// Takes a group back to where it was at `after`, as far as that is known, and applies its changes above. Without `keep` nothing is written.
    /// Answers whether the group is another one after that.
    ///
    /// # Errors
    /// The store does not answer.
    async fn remake_group(
        &self,
        group: &GroupId,
        after: Position,
        changes: Vec<GroupDelta>,
        keep: bool,
    ) -> Result<bool, StoreError>;
    /// Sets a group's head, back too; 0: it has none.
    ///
    /// # Errors
    /// The store does not answer.
    async fn set_head(&self, group: &GroupId, head: Position) -> Result<(), StoreError>;
    /// At most `limit` rows of receipts, in the order of sender, conversation and reader, those above `after`.
    ///
    /// # Errors
    /// The store does not answer, or holds a broken row.
    async fn receipts_above(&self, after: Option<&ReceiptKept>, limit: u32) -> Result<Vec<ReceiptKept>, StoreError>;
    /// Cuts rows of receipts back, removes those of which nothing is left, and writes these rows.
    ///
    /// # Errors
    /// The store does not answer.
    async fn remake_receipts(&self, cuts: Vec<ReceiptCut>, rows: Vec<ReceiptRow>) -> Result<(), StoreError>;
    /// Points the conversations whose newest message would stand in one of these stretches, and is not in the user's stream, to the newest that is
    /// there. Without `keep` nothing is written. Answers how many there are, or at least some.
    ///
    /// # Errors
    /// The store does not answer.
    async fn remake_conversations(&self, stretches: &[Stretch], keep: bool) -> Result<u64, StoreError>;
}
