//! What stands in the log.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    ClientId, Conversation, Decision, GroupId, Message, MessageId, Millis, Partitioning, Position, TopicPartition,
    UserId,
};

/// The version that this build writes; it reads all up to it.
pub(crate) const VERSION: u8 = 1;

/// A record of `messages` or `group_messages`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// `messages`, the recipient's home: a direct message, by its gateway.
    Direct(#[serde(deserialize_with = "shared")] Arc<Message>),
    /// `messages`, the sender's home: its own copy of a message to somebody else, or to a pulled group, by the worker.
    OwnCopy(OwnCopy),
    /// `group_messages`: a message to a group, by its gateway.
    Group(#[serde(deserialize_with = "shared")] Arc<Message>),
    /// `messages`: a group message for members of one home partition, by the worker.
    GroupChunk(GroupChunk),
    /// `messages`, the home of the one who sent what was received: by the reader's gateway.
    Receipt(ReceiptRecord),
    /// `group_messages`: a change of a group, by a gateway.
    GroupChange(GroupChange),
    /// `messages`: a change of a group, for members of one home partition, by the worker.
    Membership(MembershipNotice),
    /// `messages`, the sender's home: its accepted message does not stand, by the worker.
    Rejection(Rejection),
}

/// At once where it stays: serde would put it into a box first.
fn shared<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<Message>, D::Error> {
    Message::deserialize(from).map(Arc::new)
}

/// From what a derived record was made: a duplicate is one not above the largest seen from its partition. (DELIVERY rule 8.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Source {
    /// The partition of the record that it was made from.
    pub partition: TopicPartition,
    /// That record's position.
    pub position: Position,
    /// Which of the records that it makes, from 0.
    pub chunk: u32,
}

/// The sender's own copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnCopy {
    /// What was sent.
    #[serde(deserialize_with = "shared")]
    pub message: Arc<Message>,
    /// The position of its first record.
    pub order: Position,
    /// What it was made from.
    pub source: Source,
}

/// A group message for members of one home partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupChunk {
    /// What was sent.
    #[serde(deserialize_with = "shared")]
    pub message: Arc<Message>,
    /// The position of its record in `group_messages`.
    pub order: Position,
    /// Sorted by bytes of user id; those left out are not in it.
    pub members: Vec<ChunkMember>,
    /// Who sorted them.
    pub decisions: Vec<Decision>,
    /// What it was made from.
    pub source: Source,
}

/// One member of a chunk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkMember {
    /// Who.
    pub user: UserId,
    /// Push or quiet.
    pub delivery: Delivery,
}

/// How a member gets a group message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Delivery {
    /// Into the stream, and pushed.
    Push,
    /// Into the stream, marked: do not notify.
    Quiet,
    /// In neither the member's stream nor history; never in a record.
    LeaveOut,
}

/// How far a receipt says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReceiptStatus {
    /// A device of the reader has it.
    Delivered,
    /// The reader has read it.
    Read,
}

/// Somebody received or read what a user sent, and all before it in the conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptRecord {
    /// Whose stream it stands in: the sender of the message.
    pub to: UserId,
    /// As `to` names it.
    pub conversation: Conversation,
    /// The newest message that it covers.
    pub message_id: MessageId,
    /// Who received or read.
    pub by: UserId,
    /// Which.
    pub status: ReceiptStatus,
    /// The `order` of that message; cumulative.
    pub order: Position,
    /// The gateway's clock.
    pub at: Millis,
    /// In a large group: how many members so far; the receipt then stands for all of them.
    pub count: Option<u32>,
}

/// A member's role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// May send and leave.
    Member,
    /// May also add, remove and rename.
    Admin,
}

/// A change of a group, in the order of its log partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupChange {
    /// Which group.
    pub group: GroupId,
    /// By whom.
    pub by: UserId,
    /// The gateway's clock.
    pub at: Millis,
    /// What.
    pub kind: GroupChangeKind,
}

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupChangeKind {
    /// Made, with its first members; the one who made it is an admin.
    Created {
        /// Its name, as shown.
        name: Box<str>,
        /// Its first members, the one who made it included.
        members: Vec<UserId>,
    },
    /// These joined.
    Joined {
        /// Who.
        users: Vec<UserId>,
    },
    /// One left by itself (`user` = `by`) or was removed.
    Left {
        /// Who.
        user: UserId,
    },
    /// One has another role.
    Role {
        /// Who.
        user: UserId,
        /// Which.
        role: Role,
    },
    /// Has another name.
    Renamed {
        /// Which.
        name: Box<str>,
    },
    /// No longer is: all left.
    Deleted,
}

/// A change of a group as its members hear of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembershipNotice {
    /// In whose streams: members of one home partition, sorted by bytes of id.
    pub targets: Vec<UserId>,
    /// Which group.
    pub group: GroupId,
    /// Whom it is about.
    pub user: UserId,
    /// What happened.
    pub change: MembershipChange,
    /// By whom.
    pub by: UserId,
    /// The gateway's clock.
    pub at: Millis,
    /// The group's name after the change.
    pub name: Box<str>,
    /// What it was made from.
    pub source: Source,
}

/// As the wire names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MembershipChange {
    /// Is a member from here.
    Joined,
    /// Went.
    Left,
    /// Was removed.
    Removed,
    /// Has another role.
    Role,
    /// The group has another name.
    Renamed,
}

/// An accepted message that does not stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// Its sender, in whose stream this stands.
    pub to: UserId,
    /// The sender's name for it.
    pub client_id: ClientId,
    /// `not_member` or `conflict`.
    pub code: Box<str>,
    /// In words.
    pub reason: Box<str>,
    /// The `order` of the send that it concerns.
    pub order: Position,
    /// What it was made from.
    pub source: Source,
}

/// Why bytes are not a record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Written by a newer build: stop, never skip.
    #[error("record version {0} is newer than {VERSION}, run a newer heddle")]
    Newer(u8),
    /// Not what a record looks like.
    #[error("record of {bytes} bytes does not decode: {source}")]
    Decode {
        /// How long it is.
        bytes: usize,
        /// What the decoder said.
        source: postcard::Error,
    },
    /// No bytes.
    #[error("record is empty")]
    Empty,
}

impl Record {
    /// A version byte, then postcard (postcard.jamesmunns.com, wire format 1).
    ///
    /// # Panics
    /// Never: every field has a postcard form.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let out = postcard::to_extend(self, vec![VERSION]).expect("a record has a postcard form");
        out.into()
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// Empty, of a newer version, or broken.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        match bytes.split_first() {
            None => Err(RecordError::Empty),
            Some((&version, _)) if version > VERSION => Err(RecordError::Newer(version)),
            Some((_, body)) => {
                postcard::from_bytes(body).map_err(|source| RecordError::Decode { bytes: bytes.len(), source })
            }
        }
    }

    /// The id under which the log must not hold it twice.
    #[must_use]
    pub fn message_id(&self) -> Option<MessageId> {
        match self {
            Self::Direct(message) | Self::Group(message) => Some(message.id),
            _ => None,
        }
    }

    /// What it was derived from, if it was.
    #[must_use]
    pub fn source(&self) -> Option<Source> {
        match self {
            Self::OwnCopy(copy) => Some(copy.source),
            Self::GroupChunk(chunk) => Some(chunk.source),
            Self::Membership(notice) => Some(notice.source),
            Self::Rejection(rejection) => Some(rejection.source),
            Self::Direct(_) | Self::Group(_) | Self::Receipt(_) | Self::GroupChange(_) => None,
        }
    }

    /// The message that it carries.
    #[must_use]
    pub fn message(&self) -> Option<&Arc<Message>> {
        match self {
            Self::Direct(message) | Self::Group(message) => Some(message),
            Self::OwnCopy(copy) => Some(&copy.message),
            Self::GroupChunk(chunk) => Some(&chunk.message),
            _ => None,
        }
    }

    /// In whose streams it is an event.
    #[must_use]
    pub fn audience(&self) -> Vec<&UserId> {
        match self {
            Self::Direct(message) if message.discarded => Vec::new(),
            Self::Direct(message) => match &message.to {
                Conversation::Direct(user) => vec![user],
                Conversation::Group(_) => Vec::new(),
            },
            Self::OwnCopy(copy) => vec![&copy.message.sender],
            Self::GroupChunk(chunk) => chunk.members.iter().map(|member| &member.user).collect(),
            Self::Receipt(receipt) => vec![&receipt.to],
            Self::Membership(notice) => notice.targets.iter().collect(),
            Self::Rejection(rejection) => vec![&rejection.to],
            Self::Group(_) | Self::GroupChange(_) => Vec::new(),
        }
    }

    /// The partition that it belongs in.
    ///
    /// # Panics
    /// A chunk or a notice without members, which nobody makes.
    #[must_use]
    pub fn home(&self, partitioning: Partitioning) -> TopicPartition {
        match self {
            Self::Direct(message) => match &message.to {
                Conversation::Direct(user) => partitioning.home(user),
                Conversation::Group(group) => partitioning.group_home(group),
            },
            Self::Group(message) => match &message.to {
                Conversation::Group(group) => partitioning.group_home(group),
                Conversation::Direct(user) => partitioning.home(user),
            },
            Self::GroupChange(change) => partitioning.group_home(&change.group),
            other => partitioning.home(other.audience().first().expect("a derived record has an audience")),
        }
    }
}
