//! Streams, history, conversations.

use async_trait::async_trait;
use bytes::Bytes;
use heddle_model::{Conversation, MessageId, Millis, Position, ReceiptStatus, TopicPartition, UserId};

use super::{ArchiveBatch, ArchivedRecord, Cursor, DeadLetterRow, StoreError};

/// An event read back, with its record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamRowRead {
    /// The event's position.
    pub position: Position,
    /// The record, encoded.
    pub bytes: Bytes,
}

/// A part of a user's stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamPage {
    /// In order of position.
    pub rows: Vec<StreamRowRead>,
    /// The `archived` cursor of the user's home partition, in the same snapshot: with fewer rows than asked for, there are no events up to it that are not here.
    pub archived: Position,
}

/// Where a page of history starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistoryAnchor {
    /// The newest.
    Newest,
    /// Those shown before this message.
    Before(MessageId),
    /// Those shown after this message.
    After(MessageId),
}

/// What is asked of a conversation's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryQuery {
    /// Who asks.
    pub viewer: UserId,
    /// As the viewer names it.
    pub conversation: Conversation,
    /// The viewer's home partition, whose `archived` cursor is told.
    pub home: TopicPartition,
    /// For a group: its home partition, whose `archived` cursor is told.
    pub group_home: Option<TopicPartition>,
    /// From where.
    pub anchor: HistoryAnchor,
    /// At most this many.
    pub limit: u32,
}

/// One message of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryRow {
    /// The viewer's event, 0 for a pulled message.
    pub position: Position,
    /// The position of the message's first record.
    pub order: Position,
    /// The record, encoded.
    pub bytes: Bytes,
}

/// A page of a history, in the order in which it is shown: direct by (lamport, message id), groups by order; oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HistoryPage {
    /// The messages.
    pub rows: Vec<HistoryRow>,
    /// There are more beyond the far end.
    pub more: bool,
    /// The `archived` cursor of `home`, in the same snapshot.
    pub archived: Position,
    /// The `archived` cursor of `group_home`, in the same snapshot (0 without one).
    pub group_archived: Position,
    /// How far others have come with what the viewer sent here.
    pub receipts: Vec<ReceiptState>,
}

/// How far one reader has come; `0 <= read <= delivered`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiptState {
    /// The reader.
    pub by: UserId,
    /// Received up to this order.
    pub delivered: Position,
    /// Read up to this order.
    pub read: Position,
}

/// Unread messages of a conversation are counted up to this.
pub const UNREAD_MAX: u64 = 10_000;

/// A conversation that a user has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConversationRow {
    /// As the user names it.
    pub conversation: Conversation,
    /// The position of its newest message in the user's stream (0: none yet).
    pub position: Position,
    /// The record of its newest message, encoded.
    pub last: Option<Bytes>,
    /// That message's order.
    pub order: Position,
    /// Incoming messages beyond what the user has read, counted up to [`UNREAD_MAX`].
    pub unread: u64,
    /// Muted by the user.
    pub muted: bool,
    /// A group's name.
    pub name: Option<Box<str>>,
}

/// A point of a user's stream, as an operator names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamPoint {
    /// Behind the last event that was appended before this moment, by the log's clock.
    Time(Millis),
    /// Behind this position.
    Position(Position),
}

/// What a user's stream has above a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamSince {
    /// Where the point lies.
    pub after: Position,
    /// Events above it, counted up to [`UNREAD_MAX`].
    pub events: u64,
    /// When the oldest event that is kept was appended.
    pub oldest: Option<Millis>,
}

/// The archive: an idempotent function of the log.
#[async_trait]
pub trait Archive: Send + Sync + 'static {
    /// Writes a batch and its cursors in one transaction; a row that is there, or made from a larger order, stays. A cursor only grows.
    ///
    /// # Errors
    /// The store does not answer, or holds a broken row. Where several nodes write: a cursor that it has is of a later epoch, which the node that
    /// hands this in does not know yet; nothing is written.
    async fn write(&self, batch: ArchiveBatch) -> Result<(), StoreError>;
    /// Every `archived` cursor that was ever written.
    ///
    /// # Errors
    /// The store does not answer, or holds a broken row.
    async fn cursors(&self) -> Result<Vec<Cursor>, StoreError>;

    /// In how many databases the archive lies, each of which may be away by itself. A batch that touches several may be written in some of them and
    /// not in others, where this fails; rows and cursors of one partition come together always.
    fn shards(&self) -> u32 {
        1
    }

    /// Which of them has a partition, from 0.
    fn shard(&self, _partition: TopicPartition) -> u32 {
        0
    }

    /// The cursors of one shard's partitions.
    ///
    /// # Errors
    /// That shard does not answer, or holds a broken row.
    async fn cursors_of(&self, _shard: u32) -> Result<Vec<Cursor>, StoreError> {
        self.cursors().await
    }

    /// Keeps `derived` cursors, for a log that keeps none: below each everything was worked on. A cursor only grows.
    ///
    /// # Errors
    /// The store does not answer.
    async fn keep_derived(&self, cursors: &[(TopicPartition, Position)]) -> Result<(), StoreError>;

    /// The `derived` cursors that were kept.
    ///
    /// # Errors
    /// The store does not answer, or holds a broken row.
    async fn derived(&self) -> Result<Vec<(TopicPartition, Position)>, StoreError>;

    /// At most `limit` events of the user above `after`, whose home partition is `home`; rows and cursor of one snapshot. Positions of older epochs are included.
    ///
    /// # Errors
    /// The store does not answer, or holds a broken row.
    async fn stream(
        &self,
        user: &UserId,
        home: TopicPartition,
        after: Position,
        limit: u32,
    ) -> Result<StreamPage, StoreError>;
    /// Where a point of the user's stream lies, and how much is above it.
    ///
    /// # Errors
    /// The store does not answer, or holds a broken row.
    async fn stream_since(&self, user: &UserId, point: StreamPoint) -> Result<StreamSince, StoreError>;
    /// The record of this message's first copy, with its partition and position.
    ///
    /// # Errors
    /// The store does not answer, or holds a broken row.
    async fn message(&self, id: &MessageId) -> Result<Option<ArchivedRecord>, StoreError>;
    /// The record at this place.
    ///
    /// # Errors
    /// The store does not answer, or holds a broken row.
    async fn record(&self, partition: TopicPartition, position: Position)
    -> Result<Option<ArchivedRecord>, StoreError>;
    /// The records that were given up, those of last first, at most `limit`.
    ///
    /// # Errors
    /// The store does not answer, or holds a broken row.
    async fn dead_letters(&self, limit: u32) -> Result<Vec<DeadLetterRow>, StoreError>;
    /// A page of a conversation. Pulled group messages ([`GroupLogRow`]) within the viewer's intervals come too.
    /// A message is there once, by its stream row where there is one. An anchor that the viewer does not have gives an empty page.
    ///
    /// # Errors
    /// The store does not answer, or holds a broken row.
    async fn history(&self, query: HistoryQuery) -> Result<HistoryPage, StoreError>;
    /// The user's conversations, the most recently appended to first; those of groups that the user is a member of come without a message too.
    ///
    /// # Errors
    /// The store does not answer, or holds a broken row.
    async fn conversations(
        &self,
        user: &UserId,
        home: TopicPartition,
        limit: u32,
    ) -> Result<Vec<ConversationRow>, StoreError>;
    /// How far `by` has come with what `sender` sent in `conversation` (as the sender names it).
    ///
    /// # Errors
    /// The store does not answer, or holds a broken row.
    async fn receipt(
        &self,
        sender: &UserId,
        conversation: &Conversation,
        by: &UserId,
    ) -> Result<Option<ReceiptState>, StoreError>;
    /// How many readers have come with what `sender` sent in `conversation` (as the sender names it) at least to `order`.
    ///
    /// # Errors
    /// The store does not answer.
    async fn reached(
        &self,
        sender: &UserId,
        conversation: &Conversation,
        status: ReceiptStatus,
        order: Position,
    ) -> Result<u64, StoreError>;
}
