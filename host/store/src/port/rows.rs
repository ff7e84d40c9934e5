//! What the archiver writes.

use bytes::Bytes;
use heddle_model::{Conversation, GroupId, MessageId, Millis, Position, ReceiptStatus, Role, TopicPartition, UserId};

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
    /// The partition of its record: the user's home when it was appended.
    pub partition: TopicPartition,
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
///
/// One that is not above the group's row changes nothing, nor does one of a group that is not there and that names no `created_by`.
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
    /// No longer is: closes every open interval.
    pub deleted: bool,
    /// Members that came, went or changed, in order.
    pub members: Vec<MemberDelta>,
}

/// A standing message of a group, as its log partition has it: what `heads` and the history of pulled messages are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupLogRow {
    /// The group's partition, where the record stands.
    pub partition: TopicPartition,
    /// Which group.
    pub group: GroupId,
    /// The record's position.
    pub order: Position,
    /// Who sent it.
    pub sender: UserId,
    /// Planned as pull: it is in no stream but its sender's.
    pub pulled: bool,
    /// Discarded by a policy: nobody but its sender sees it, and it is no news.
    pub discarded: bool,
    /// If set, only these members may see it.
    pub only: Option<Vec<UserId>>,
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

/// A dead letter as it is listed: of the record itself only the size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterRow {
    /// Where the record stands.
    pub partition: TopicPartition,
    /// Where the record stands.
    pub position: Position,
    /// Who gave up: `worker` or `archiver`.
    pub by: Box<str>,
    /// Why.
    pub error: Box<str>,
    /// When.
    pub at: Millis,
    /// Of the record.
    pub bytes: u64,
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
    /// Messages of groups.
    pub group_log: Vec<GroupLogRow>,
    /// Users seen, with the time of the record: the earliest stays as `since`.
    pub users: Vec<(UserId, Millis)>,
    /// Records given up.
    pub dead: Vec<DeadLetter>,
    /// The `archived` cursors that these rows reach.
    pub cursors: Vec<Cursor>,
}
