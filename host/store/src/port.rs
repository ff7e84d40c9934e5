//! What a store promises: small traits, one per subject, all on one backend. One contract suite runs on every implementation.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use heddle_model::{
    Conversation, DeviceId, Digest, GroupId, MessageId, Millis, Position, ReceiptStatus, Role, TopicPartition, UserId,
};

/// Why the store did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Not now: try again later.
    #[error("store does not answer to {operation}: {reason}")]
    Unavailable {
        /// What was asked.
        operation: &'static str,
        /// What happened.
        reason: String,
    },
    /// What it holds is not what this build wrote.
    #[error("store has a broken row in {table}: {reason}")]
    Broken {
        /// Where.
        table: &'static str,
        /// What is wrong.
        reason: String,
    },
}

/// How far a partition has come. `upto` is the position of the last record covered; 0: none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// Which partition.
    pub partition: TopicPartition,
    /// The last record covered.
    pub upto: Position,
    /// What the reader must remember to judge the next record (DELIVERY rules 8, 11); opaque here.
    pub judge: Bytes,
}

/// A record as it stands in the log, kept once whatever the number of its readers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchivedRecord {
    /// In which partition.
    pub partition: TopicPartition,
    /// Where in it.
    pub position: Position,
    /// The log's clock.
    pub appended_at: Millis,
    /// The message that it is the first record of, if it is one (not copies, not chunks).
    pub message_id: Option<MessageId>,
    /// The record, encoded.
    pub bytes: Bytes,
}

/// One event of one user, pointing at its record in the user's home partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamRow {
    /// Whose.
    pub user: UserId,
    /// The event's position, also the record's.
    pub position: Position,
    /// If it is a message: the conversation as this user names it.
    pub conversation: Option<Conversation>,
    /// If it is a message: the position of its first record.
    pub order: Position,
    /// If it is a message: its clock.
    pub lamport: u64,
    /// If it is a message: its id.
    pub message_id: Option<MessageId>,
    /// If it is a message: somebody else sent it.
    pub incoming: bool,
}

/// How far somebody has received or read what `sender` sent in a conversation; only ever forward.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiptRow {
    /// Whose messages.
    pub sender: UserId,
    /// As the sender names it.
    pub conversation: Conversation,
    /// Who received or read.
    pub by: UserId,
    /// Which; `Read` also raises `Delivered`.
    pub status: ReceiptStatus,
    /// Up to this `order`.
    pub order: Position,
    /// When.
    pub at: Millis,
}

/// A change of a group, as the archiver applies it: in log order, in the transaction of its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDelta {
    /// Which group.
    pub group: GroupId,
    /// The position of the change: a row made from a larger one is left alone.
    pub order: Position,
    /// When.
    pub at: Millis,
    /// A new name.
    pub name: Option<Box<str>>,
    /// Set on the first: who made it.
    pub created_by: Option<UserId>,
    /// No longer is.
    pub deleted: bool,
    /// Members that came, went or changed, in order.
    pub members: Vec<MemberDelta>,
}

/// What a change does to one member. Intervals are [joined, left) by order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberDelta {
    /// Opens an interval at the change's order; nothing if one is open.
    Joined(UserId, Role),
    /// Closes the open interval at the change's order.
    Left(UserId),
    /// Sets the role.
    Role(UserId, Role),
}

/// A record that failed for its own sake. (DELIVERY rule 13.)
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Where it stands.
    pub partition: TopicPartition,
    /// Where it stands.
    pub position: Position,
    /// Who gave up: `worker` or `archiver`.
    pub by: &'static str,
    /// Why.
    pub error: String,
    /// When.
    pub at: Millis,
    /// The record.
    pub bytes: Bytes,
}

/// What the archiver writes in one transaction; idempotent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ArchiveBatch {
    /// Records, each once.
    pub records: Vec<ArchivedRecord>,
    /// Events.
    pub stream: Vec<StreamRow>,
    /// Receipts.
    pub receipts: Vec<ReceiptRow>,
    /// Group changes, in order.
    pub groups: Vec<GroupDelta>,
    /// Users seen, with the time of the record: the first stays as `since`.
    pub users: Vec<(UserId, Millis)>,
    /// Records given up.
    pub dead: Vec<DeadLetter>,
    /// The `archived` cursors that these rows reach.
    pub cursors: Vec<Cursor>,
}

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
    /// The viewer's home partition, where the rows' records stand.
    pub home: TopicPartition,
    /// For a group: its home partition, where pulled messages stand.
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

/// A conversation that a user has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConversationRow {
    /// As the user names it.
    pub conversation: Conversation,
    /// The position of its newest event in the user's stream (0: none yet).
    pub position: Position,
    /// The record of its newest message, encoded.
    pub last: Option<Bytes>,
    /// That message's order.
    pub order: Position,
    /// Incoming messages beyond what the user has read.
    pub unread: u64,
    /// Muted by the user.
    pub muted: bool,
    /// A group's name.
    pub name: Option<Box<str>>,
}

/// The archive: an idempotent function of the log.
#[async_trait]
pub trait Archive: Send + Sync + 'static {
    /// Writes a batch and its cursors in one transaction; a row that is there, or made from a larger order, stays. A cursor only grows.
    async fn write(&self, batch: ArchiveBatch) -> Result<(), StoreError>;
    /// Every `archived` cursor that was ever written.
    async fn cursors(&self) -> Result<Vec<Cursor>, StoreError>;
    /// At most `limit` events of the user above `after`, whose home partition is `home`; rows and cursor of one snapshot. Positions of older epochs are included.
    async fn stream(&self, user: &UserId, home: TopicPartition, after: Position, limit: u32) -> Result<StreamPage, StoreError>;
    /// The record of this message's first copy, with its partition and position.
    async fn message(&self, id: &MessageId) -> Result<Option<ArchivedRecord>, StoreError>;
    /// The record at this place.
    async fn record(&self, partition: TopicPartition, position: Position) -> Result<Option<ArchivedRecord>, StoreError>;
    /// A page of a conversation. Pulled group messages (records of `group_messages` with plan pull, marked by a stream row of nobody) within the viewer's intervals come too.
    async fn history(&self, query: HistoryQuery) -> Result<HistoryPage, StoreError>;
    /// The user's conversations, newest first.
    async fn conversations(&self, user: &UserId, home: TopicPartition, limit: u32) -> Result<Vec<ConversationRow>, StoreError>;
    /// How far `by` has come with what `sender` sent in `conversation` (as the sender names it).
    async fn receipt(&self, sender: &UserId, conversation: &Conversation, by: &UserId) -> Result<Option<ReceiptState>, StoreError>;
}

/// A device's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRow {
    /// Which.
    pub device: DeviceId,
    /// What it has acknowledged.
    pub position: Position,
    /// When it was last connected.
    pub seen_at: Millis,
}

/// Devices and their positions; how far a user has read.
#[async_trait]
pub trait Devices: Send + Sync + 'static {
    /// The user's devices, the most recently seen first.
    async fn devices(&self, user: &UserId) -> Result<Vec<DeviceRow>, StoreError>;
    /// Adds or updates devices in one transaction (newest wins; a position may go back only by `reset`); of each user at most `per_user_max` stay, the least recently seen are forgotten.
    async fn save_devices(&self, rows: Vec<(UserId, DeviceRow)>, per_user_max: u32) -> Result<(), StoreError>;
    /// Raises the order up to which `user` has read a conversation; smaller ones change nothing.
    async fn save_read(&self, user: &UserId, conversation: &Conversation, order: Position) -> Result<(), StoreError>;
    /// How far the user has read each conversation.
    async fn reads(&self, user: &UserId) -> Result<Vec<(Conversation, Position)>, StoreError>;
}

/// A contact of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contact {
    /// Whom the user listed.
    pub user: UserId,
    /// Since when.
    pub since: Millis,
}

/// Users, contacts, mutes.
#[async_trait]
pub trait Directory: Send + Sync + 'static {
    /// When the user was first seen.
    async fn user_since(&self, user: &UserId) -> Result<Option<Millis>, StoreError>;
    /// Notes that the user exists; the first time stays.
    async fn see_user(&self, user: &UserId, at: Millis) -> Result<(), StoreError>;
    /// Whom the user listed, by name.
    async fn contacts(&self, user: &UserId) -> Result<Vec<Contact>, StoreError>;
    /// Which of `viewers` the user has listed.
    async fn listed(&self, user: &UserId, viewers: &[UserId]) -> Result<Vec<bool>, StoreError>;
    /// Lists or unlists somebody; answers whether anything changed.
    async fn set_contact(&self, user: &UserId, other: &UserId, listed: bool, at: Millis) -> Result<bool, StoreError>;
    /// Mutes or unmutes a conversation.
    async fn set_mute(&self, user: &UserId, conversation: &Conversation, muted: bool) -> Result<(), StoreError>;
    /// What the user muted.
    async fn mutes(&self, user: &UserId) -> Result<Vec<Conversation>, StoreError>;
    /// Which members muted this group.
    async fn muted_members(&self, group: &GroupId) -> Result<Vec<UserId>, StoreError>;
}

/// An interval of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMember {
    /// Who.
    pub user: UserId,
    /// The role now, or the last one.
    pub role: Role,
    /// From this order.
    pub joined: Position,
    /// Up to before this order; none: still a member.
    pub left: Option<Position>,
}

/// A group as of `order`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupRow {
    /// Which.
    pub group: GroupId,
    /// Its name.
    pub name: Box<str>,
    /// Who made it.
    pub created_by: UserId,
    /// When.
    pub created_at: Millis,
    /// No longer is.
    pub deleted: bool,
    /// The position of the newest change in it.
    pub order: Position,
    /// All intervals, past ones too.
    pub members: Vec<GroupMember>,
    /// The position of the newest message in the archive (0: none).
    pub head: Position,
}

/// Groups, as the archive has them.
#[async_trait]
pub trait Groups: Send + Sync + 'static {
    /// One group with all its intervals.
    async fn group(&self, group: &GroupId) -> Result<Option<GroupRow>, StoreError>;
    /// The groups that the user is a member of now, with their heads.
    async fn groups_of(&self, user: &UserId) -> Result<Vec<(GroupId, Position)>, StoreError>;
    /// Do these two share a group now, for each of `others`?
    async fn share_a_group(&self, user: &UserId, others: &[UserId]) -> Result<Vec<bool>, StoreError>;
}

/// A plugin file in the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogPlugin {
    /// SHA-256 of the file.
    pub digest: Digest,
    /// The manifest's name.
    pub name: Box<str>,
    /// The manifest's version.
    pub version: Box<str>,
    /// The file.
    pub bytes: Bytes,
    /// When it came.
    pub added_at: Millis,
}

/// A policy set in the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogGeneration {
    /// Its number; numbers only grow.
    pub number: u64,
    /// SHA-256 of its content.
    pub content: Digest,
    /// The content: chains, digests, configuration, fallbacks, limits, as JSON.
    pub json: String,
    /// When it was made.
    pub at: Millis,
    /// Why, in the operator's words.
    pub why: String,
}

/// Who did what, when and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// When.
    pub at: Millis,
    /// Who.
    pub who: String,
    /// What, in a word: `start`, `deploy`, `rollback`.
    pub what: String,
    /// Why.
    pub why: String,
    /// Before and after, as JSON.
    pub detail: String,
}

/// Plugins and generations.
#[async_trait]
pub trait Catalog: Send + Sync + 'static {
    /// Adds a plugin; nothing happens if its digest is there.
    async fn add_plugin(&self, plugin: CatalogPlugin) -> Result<(), StoreError>;
    /// The plugin of this digest.
    async fn plugin(&self, digest: Digest) -> Result<Option<CatalogPlugin>, StoreError>;
    /// The newest generation.
    async fn newest_generation(&self) -> Result<Option<CatalogGeneration>, StoreError>;
    /// The generation of this number.
    async fn generation(&self, number: u64) -> Result<Option<CatalogGeneration>, StoreError>;
    /// Adds a generation and its audit row in one transaction; false if its number is taken.
    async fn add_generation(&self, generation: CatalogGeneration, audit: AuditEntry) -> Result<bool, StoreError>;
    /// The newest audit rows.
    async fn audit(&self, limit: u32) -> Result<Vec<AuditEntry>, StoreError>;
}

/// Which life of a log has which epoch. (DELIVERY rule 2.)
#[async_trait]
pub trait Epochs: Send + Sync + 'static {
    /// The epoch of the log with this identity and partition count: the one on record; a new pair gets the largest plus one (the very first: 0).
    /// `heads` are the positions' log offsets that the log has (next offsets): if, for the epoch on record, one lies below a stored cursor, the pair gets a new epoch too.
    async fn epoch(&self, identity: [u8; 16], partitions: u32, heads: &[(TopicPartition, u64)]) -> Result<u32, StoreError>;
}

/// All of a store.
#[derive(Clone)]
pub struct Store {
    /// Streams and history.
    pub archive: Arc<dyn Archive>,
    /// Devices and reads.
    pub devices: Arc<dyn Devices>,
    /// Users, contacts, mutes.
    pub directory: Arc<dyn Directory>,
    /// Groups.
    pub groups: Arc<dyn Groups>,
    /// Plugins and generations.
    pub catalog: Arc<dyn Catalog>,
    /// Lives of the log.
    pub epochs: Arc<dyn Epochs>,
}
