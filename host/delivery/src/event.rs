//! What a user's stream has at a position, shared by all who have it.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use heddle_model::{Delivery, Message, Position, Record, UserId};

/// A record as an event of the streams that it stands in. One per record, whatever the number of its readers.
#[derive(Debug)]
pub struct Event {
    /// Where it stands.
    pub position: Position,
    /// The position of the message's first record, if it is a message.
    pub order: Position,
    /// What it says.
    pub record: Record,
    /// Bytes of the record in the log.
    pub bytes: usize,
    encoded: [OnceLock<Bytes>; Variant::COUNT],
}

/// How the same event looks to different readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Variant {
    /// To a recipient.
    Plain,
    /// To a member who should not be notified.
    Quiet,
    /// To the sender's own devices.
    Own,
}

impl Variant {
    const COUNT: usize = 3;
}

/// What is particular to one reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flags {
    /// How it looks.
    pub variant: Variant,
    /// It happened before the session began.
    pub missed: bool,
}

impl Event {
    /// The event that a record is at `position`; none if it is nobody's.
    #[must_use]
    pub fn new(position: Position, record: Record, bytes: usize) -> Option<Self> {
        let order = match &record {
            Record::Direct(_) => position,
            Record::OwnCopy(copy) => copy.order,
            Record::GroupChunk(chunk) => chunk.order,
            Record::Receipt(receipt) => receipt.order,
            Record::Rejection(rejection) => rejection.order,
            Record::Membership(notice) => notice.source.position,
            Record::Group(_) | Record::GroupChange(_) => return None,
        };
        Some(Self { position, order, record, bytes, encoded: Default::default() })
    }

    /// The message, if it is one.
    #[must_use]
    pub fn message(&self) -> Option<&Arc<Message>> {
        self.record.message()
    }

    /// The message, if somebody else sent it.
    #[must_use]
    pub fn incoming(&self, reader: &UserId) -> Option<&Arc<Message>> {
        self.message().filter(|message| message.sender != *reader)
    }

    /// How it looks to `reader`.
    #[must_use]
    pub fn variant(&self, reader: &UserId) -> Variant {
        match &self.record {
            Record::OwnCopy(_) => Variant::Own,
            Record::Direct(message) if message.sender == *reader => Variant::Own,
            Record::Direct(message) if message.quiet => Variant::Quiet,
            Record::GroupChunk(chunk) => {
                if chunk.message.sender == *reader {
                    return Variant::Own;
                }
                let member = chunk.members.binary_search_by(|member| member.user.cmp(reader)).ok();
                match member.map(|at| chunk.members[at].delivery) {
                    Some(Delivery::Quiet) => Variant::Quiet,
                    _ => Variant::Plain,
                }
            }
            _ => Variant::Plain,
        }
    }

    /// The live frame of this variant, made by `encode` the first time.
    pub fn encoded(&self, variant: Variant, encode: impl FnOnce() -> Bytes) -> Bytes {
        self.encoded[variant as usize].get_or_init(encode).clone()
    }
}
