//! What nodes tell each other, as bytes. First byte: the version of what follows, which is postcard.
//!
//! Nodes of neighbouring versions run side by side during a rolling restart: what one cannot read it drops, and its stream tells it later.

use std::sync::Arc;

use bytes::Bytes;
use heddle_model::{ConnectionId, GroupId, Millis, Position, Record, UserId};
use heddle_presence::{Status, Visible};
use serde::{Deserialize, Serialize};

use crate::{Event, Kick, NodeMessage};

const VERSION: u8 = 1;

#[derive(Serialize, Deserialize)]
enum Wire {
    Push { position: Position, bytes: u64, record: Bytes, to: Vec<(ConnectionId, Position)> },
    GroupNotice { group: GroupId, head: Position, to: Vec<ConnectionId> },
    Typing { from: UserId, group: Option<GroupId>, started: bool, to: Vec<ConnectionId> },
    Presence { user: UserId, status: u8, last_seen: Option<Millis>, to: Vec<ConnectionId> },
    Kick { connection: ConnectionId, replaced: bool },
}

impl NodeMessage {
    /// As it travels.
    #[must_use]
    pub fn encode(&self) -> Option<Vec<u8>> {
        let wire = match self {
            Self::Push { event, to } => Wire::Push {
                position: event.position,
                bytes: event.bytes as u64,
                record: event.record.encode(),
                to: to.clone(),
            },
            Self::GroupNotice { group, head, to } => {
                Wire::GroupNotice { group: group.clone(), head: *head, to: to.clone() }
            }
            Self::Typing { from, group, started, to } => {
                Wire::Typing { from: from.clone(), group: group.clone(), started: *started, to: to.clone() }
            }
            Self::Presence { seen, to } => Wire::Presence {
                user: seen.user.clone(),
                status: status_number(seen.status),
                last_seen: seen.last_seen,
                to: to.clone(),
            },
            Self::Kick { connection, why } => Wire::Kick { connection: *connection, replaced: *why == Kick::Replaced },
        };
        postcard::to_extend(&wire, vec![VERSION]).ok()
    }

    /// Reads what [`encode`](Self::encode) wrote; none: another version, or broken.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let wire = postcard::from_bytes(bytes.strip_prefix(&[VERSION])?).ok()?;
        Some(match wire {
            Wire::Push { position, bytes, record, to } => {
                let record = Record::decode(&record).ok()?;
                Self::Push { event: Arc::new(Event::new(position, record, usize::try_from(bytes).ok()?)?), to }
            }
            Wire::GroupNotice { group, head, to } => Self::GroupNotice { group, head, to },
            Wire::Typing { from, group, started, to } => Self::Typing { from, group, started, to },
            Wire::Presence { user, status, last_seen, to } => {
                Self::Presence { seen: Visible { user, status: status_of(status)?, last_seen }, to }
            }
            Wire::Kick { connection, replaced } => {
                Self::Kick { connection, why: if replaced { Kick::Replaced } else { Kick::Revoked } }
            }
        })
    }
}

fn status_number(status: Status) -> u8 {
    match status {
        Status::Offline => 0,
        Status::Away => 1,
        Status::Online => 2,
    }
}

fn status_of(number: u8) -> Option<Status> {
    [Status::Offline, Status::Away, Status::Online].get(usize::from(number)).copied()
}

#[cfg(test)]
mod tests {
    use heddle_model::{Conversation, MessageId, ReceiptRecord, ReceiptStatus};
    use proptest::prelude::*;

    use super::*;

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    fn examples() -> Vec<NodeMessage> {
        let receipt = Record::Receipt(ReceiptRecord {
            to: user("alice"),
            conversation: Conversation::Direct(user("bob")),
            message_id: MessageId([7; 16]),
            by: user("bob"),
            status: ReceiptStatus::Read,
            order: Position(77),
            at: 5,
            count: None,
        });
        let event = Arc::new(Event::new(Position(99), receipt, 123).unwrap());
        let (to, group) = (vec![ConnectionId(1), ConnectionId(u64::MAX)], GroupId::new("g").unwrap());
        let seen = |status| Visible { user: user("bob"), status, last_seen: Some(9) };
        vec![
            NodeMessage::Push { event, to: vec![(ConnectionId(1), Position(3)), (ConnectionId(2), Position::START)] },
            NodeMessage::GroupNotice { group: group.clone(), head: Position(5), to: to.clone() },
            NodeMessage::Typing { from: user("bob"), group: Some(group), started: true, to: to.clone() },
            NodeMessage::Typing { from: user("bob"), group: None, started: false, to: vec![] },
            NodeMessage::Presence { seen: seen(Status::Offline), to: to.clone() },
            NodeMessage::Presence { seen: seen(Status::Away), to: to.clone() },
            NodeMessage::Presence { seen: seen(Status::Online), to },
            NodeMessage::Kick { connection: ConnectionId(4), why: Kick::Replaced },
            NodeMessage::Kick { connection: ConnectionId(4), why: Kick::Revoked },
        ]
    }

    #[test]
    fn every_message_says_on_another_node_what_it_said_here() {
        for message in examples() {
            let there = NodeMessage::decode(&message.encode().unwrap()).unwrap();
            assert_eq!(format!("{there:?}"), format!("{message:?}"));
        }
    }

    #[test]
    fn a_message_of_another_version_is_not_guessed_at() {
        let mut bytes = examples()[0].encode().unwrap();
        bytes[0] = VERSION + 1;
        assert!(NodeMessage::decode(&bytes).is_none());
        assert!(NodeMessage::decode(&[]).is_none());
    }

    proptest! {
        #[test]
        fn damaged_bytes_are_refused_and_never_a_panic(which in 0usize..9, at in 0usize..80, byte in any::<u8>(), cut in 0usize..80) {
            let mut bytes = examples()[which].encode().unwrap();
            let at = at % bytes.len();
            bytes[at] = byte;
            bytes.truncate(bytes.len() - cut % bytes.len());
            drop(NodeMessage::decode(&bytes));
        }
    }
}
