//! The words that every part of Heddle speaks: ids, positions, records, partitions, time, limits.
//!
//! This crate does no IO, knows no broker, no database, no socket and no component; it depends on nothing of ours.
//! Read [`Position`] first (what a device resumes from), then [`Record`] (what stands in the log).

mod clock;
mod glance;
mod ids;
mod message;
mod partition;
mod position;
mod record;
mod stamp;

pub use clock::{Clock, ManualClock, Millis, SystemClock};
pub use glance::Glance;
pub use ids::{BodyHash, ClientId, ConnectionId, Conversation, DeviceId, GroupId, IdError, MessageId, NodeId, UserId};
pub use message::{Message, Plan, Tag};
pub use partition::{Partitioning, Topic, TopicPartition, brief_hash};
pub use position::{Offset, POSITION_MAX, Position};
pub use record::{
    ChunkMember, Delivery, GroupChange, GroupChangeKind, GroupChunk, MembershipChange, MembershipNotice, OwnCopy,
    ReceiptRecord, ReceiptStatus, Record, RecordError, Rejection, Role, Source,
};
pub use stamp::{Decision, Digest, Fallback, Hook, Stamp};
