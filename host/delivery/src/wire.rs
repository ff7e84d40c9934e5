//! What nodes tell each other, as bytes. First byte: the version of what follows, which is postcard.
//!
//! Nodes of neighbouring versions run side by side during a rolling restart: what one cannot read it drops, and its stream tells it later.

use std::sync::Arc;

use bytes::Bytes;
use heddle_model::{ConnectionId, GroupId, Millis, NodeId, Position, Record, UserId};
use heddle_presence::{Declared, Mark, Said, Status, Tidings, Told, Visible, Word};
use serde::{Deserialize, Serialize};

use crate::{Event, Kick, NodeMessage};

const VERSION: u8 = 2;

#[derive(Serialize, Deserialize)]
enum Wire {
    Push { position: Position, bytes: u64, record: Bytes, to: Vec<(ConnectionId, Position)> },
    GroupNotice { group: GroupId, head: Position, to: Vec<ConnectionId> },
    Typing { from: UserId, group: Option<GroupId>, started: bool, to: Vec<ConnectionId> },
    Presence { user: UserId, status: u8, last_seen: Option<Millis>, to: Vec<ConnectionId> },
    Kick { connection: ConnectionId, replaced: bool },
    Tidings { node: NodeId, life: u64, number: u64, told: WireTold },
    Denials,
    Replay { connection: ConnectionId },
    Hurry,
}

#[derive(Serialize, Deserialize)]
enum WireTold {
    Renewal,
    News(Vec<WireWord>),
    Whole { page: u32, pages: u32, words: Vec<WireWord> },
    Ask { whole: bool },
}

/// One word of a connection. Most are `Active`.
#[derive(Serialize, Deserialize)]
enum WireWord {
    Active(ConnectionId),
    Here(ConnectionId, UserId, Millis, Option<(Millis, u8)>, WireMark),
    Gone(ConnectionId),
    Declared(ConnectionId, (Millis, u8)),
}

/// Of the device, of the address.
type WireMark = ([u8; 8], [u8; 8]);

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
            Self::Kick { connection, why: Kick::Replay } => Wire::Replay { connection: *connection },
            Self::Kick { connection, why } => Wire::Kick { connection: *connection, replaced: *why == Kick::Replaced },
            Self::Denials => Wire::Denials,
            Self::Hurry => Wire::Hurry,
            Self::Tidings(Tidings { node, life, number, told }) => {
                let words = |words: &[Word]| words.iter().map(wire_word).collect();
                let told = match told {
                    Told::Renewal => WireTold::Renewal,
                    Told::News(news) => WireTold::News(words(news)),
                    Told::Whole { page, pages, words: whole } => {
                        WireTold::Whole { page: *page, pages: *pages, words: words(whole) }
                    }
                    Told::Ask { whole } => WireTold::Ask { whole: *whole },
                };
                Wire::Tidings { node: node.clone(), life: *life, number: *number, told }
            }
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
            Wire::Denials => Self::Denials,
            Wire::Hurry => Self::Hurry,
            Wire::Replay { connection } => Self::Kick { connection, why: Kick::Replay },
            Wire::Tidings { node, life, number, told } => {
                let words = |words: Vec<WireWord>| words.into_iter().map(word_of).collect::<Option<Vec<Word>>>();
                let told = match told {
                    WireTold::Renewal => Told::Renewal,
                    WireTold::News(news) => Told::News(words(news)?),
                    WireTold::Whole { page, pages, words: whole } => Told::Whole { page, pages, words: words(whole)? },
                    WireTold::Ask { whole } => Told::Ask { whole },
                };
                Self::Tidings(Tidings { node, life, number, told })
            }
        })
    }
}

fn wire_word(word: &Word) -> WireWord {
    let pair = |declared: &Declared| (declared.at, status_number(declared.status));
    match &word.said {
        Said::Active => WireWord::Active(word.connection),
        Said::Gone => WireWord::Gone(word.connection),
        Said::Declared(declared) => WireWord::Declared(word.connection, pair(declared)),
        Said::Here { user, idle_ms, declared, mark } => {
            let mark = (mark.device, mark.address);
            WireWord::Here(word.connection, user.clone(), *idle_ms, declared.as_ref().map(pair), mark)
        }
    }
}

fn word_of(word: WireWord) -> Option<Word> {
    let declared_of = |(at, status)| Some(Declared { at, status: status_of(status)? });
    Some(match word {
        WireWord::Active(connection) => Word { connection, said: Said::Active },
        WireWord::Gone(connection) => Word { connection, said: Said::Gone },
        WireWord::Declared(connection, declared) => Word { connection, said: Said::Declared(declared_of(declared)?) },
        WireWord::Here(connection, user, idle_ms, declared, (device, address)) => {
            let declared = match declared {
                Some(pair) => Some(declared_of(pair)?),
                None => None,
            };
            Word { connection, said: Said::Here { user, idle_ms, declared, mark: Mark { device, address } } }
        }
    })
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

    const MARK: Mark = Mark { device: [1; 8], address: [255; 8] };

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
        let declared = Declared { at: 12, status: Status::Away };
        let word = |said| Word { connection: ConnectionId(u64::MAX), said };
        let words = vec![
            word(Said::Active),
            word(Said::Gone),
            word(Said::Declared(declared)),
            word(Said::Here { user: user("bob"), idle_ms: 3, declared: Some(declared), mark: MARK }),
            word(Said::Here { user: user("bob"), idle_ms: 3, declared: None, mark: Mark::default() }),
        ];
        let tidings =
            |told| NodeMessage::Tidings(Tidings { node: NodeId::new("n1").unwrap(), life: 9, number: 77, told });
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
            NodeMessage::Denials,
            NodeMessage::Hurry,
            NodeMessage::Kick { connection: ConnectionId(4), why: Kick::Replay },
            tidings(Told::Renewal),
            tidings(Told::Ask { whole: true }),
            tidings(Told::News(words.clone())),
            tidings(Told::Whole { page: 2, pages: 7, words }),
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
    fn what_ten_thousand_connections_cost_is_what_the_documents_say() {
        let size = |told| {
            let node = NodeId::new("node-1").unwrap();
            let tidings = Tidings { node, life: 1_700_000_000_000, number: 1_000_000, told };
            NodeMessage::Tidings(tidings).encode().unwrap().len()
        };
        let connection = |n: u64| ConnectionId((1_700_000_000_000 << 20) + n);
        let words = |said: &dyn Fn(u64) -> Said| {
            (0..1_000).map(|n| Word { connection: connection(n), said: said(n) }).collect::<Vec<_>>()
        };
        let user = |n| user(&format!("somebody-{n:05}"));
        let here = |n| Said::Here { user: user(n), idle_ms: 100_000, declared: None, mark: MARK };
        let sizes = [Told::Renewal, Told::News(words(&|_| Said::Active)), Told::News(words(&here))].map(size);
        assert!(sizes[0] <= 24 && sizes[1] <= 11_000 && sizes[2] <= 47_000, "{sizes:?}");
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
        fn damaged_bytes_are_refused_and_never_a_panic(which in 0usize..15, at in 0usize..80, byte in any::<u8>(), cut in 0usize..80) {
            let mut bytes = examples()[which].encode().unwrap();
            let at = at % bytes.len();
            bytes[at] = byte;
            bytes.truncate(bytes.len() - cut % bytes.len());
            drop(NodeMessage::decode(&bytes));
        }
    }
}
