//! A record as one sees it who only passes by: for whom it is, without a copy of anything in it.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::record::VERSION;
use crate::{
    BodyHash, ClientId, Digest, Fallback, GroupId, Hook, MessageId, Millis, Plan, Position, ReceiptStatus, Source,
    UserId,
};

/// Of a record that is an event of exactly one user.
#[derive(Debug, PartialEq, Eq)]
pub struct Glance<'a> {
    /// In whose stream. An id that [`UserId::new`] takes.
    pub reader: &'a str,
    /// From what it was derived, if it was.
    pub source: Option<Source>,
    /// Something is made of it, or may be.
    pub makes: bool,
}

/// As [`Record`](crate::Record) numbers them.
const DIRECT: u8 = 0;
const OWN_COPY: u8 = 1;
const RECEIPT: u8 = 4;

impl<'a> Glance<'a> {
    /// None: look at it closely. That may be any record; one that has a glance is one that [`Record::decode`](crate::Record::decode) takes.
    #[must_use]
    pub fn at(bytes: &'a [u8]) -> Option<Self> {
        let [VERSION, kind, body @ ..] = bytes else { return None };
        match *kind {
            DIRECT => {
                let message: Seen<'_> = postcard::from_bytes(body).ok()?;
                let SeenConversation::Direct(reader) = message.to else { return None };
                (message.plain() && !message.discarded).then_some(Self { reader, source: None, makes: true })
            }
            OWN_COPY => {
                let copy: SeenCopy<'_> = postcard::from_bytes(body).ok()?;
                let glance = Self { reader: copy.message.sender, source: Some(copy.source), makes: false };
                copy.message.plain().then_some(glance)
            }
            RECEIPT => {
                let receipt: SeenReceipt<'_> = postcard::from_bytes(body).ok()?;
                let users = [receipt.to, receipt.by].iter().all(|user| UserId::check(user).is_ok());
                let plain = users && receipt.conversation.plain();
                plain.then_some(Self { reader: receipt.to, source: None, makes: false })
            }
            _ => None,
        }
    }
}

// Field by field as `Message`, `OwnCopy`, `ReceiptRecord`, `Conversation` and `Decision`: the format is theirs.

#[derive(Deserialize)]
struct Seen<'a> {
    _id: MessageId,
    sender: &'a str,
    client_id: &'a str,
    #[serde(borrow)]
    addressed: SeenConversation<'a>,
    #[serde(borrow)]
    to: SeenConversation<'a>,
    #[serde(borrow)]
    _text: Option<&'a str>,
    #[serde(borrow)]
    _data: Option<&'a [u8]>,
    #[serde(borrow)]
    _tags: Passed<(&'a str, &'a str)>,
    #[serde(borrow)]
    mentions: Passed<&'a str>,
    _sent_at: Millis,
    _lamport: u64,
    _body: BodyHash,
    _rewritten: bool,
    #[serde(borrow)]
    only: Option<Passed<&'a str>>,
    discarded: bool,
    _quiet: bool,
    _outsider: bool,
    _plan: Plan,
    _generation: u64,
    #[serde(borrow)]
    _decisions: Passed<SeenDecision<'a>>,
}

impl Seen<'_> {
    /// Its names are names, and it has no others than every message has.
    fn plain(&self) -> bool {
        let names = UserId::check(self.sender).is_ok() && ClientId::check(self.client_id).is_ok();
        names && self.addressed.plain() && self.to.plain() && self.mentions.count == 0 && self.only.is_none()
    }
}

#[derive(Deserialize)]
enum SeenConversation<'a> {
    Direct(&'a str),
    Group(&'a str),
}

impl SeenConversation<'_> {
    fn plain(&self) -> bool {
        match self {
            Self::Direct(user) => UserId::check(user).is_ok(),
            Self::Group(group) => GroupId::check(group).is_ok(),
        }
    }
}

#[derive(Deserialize)]
struct SeenDecision<'a> {
    _hook: Hook,
    _plugin: &'a str,
    _version: &'a str,
    _digest: Digest,
    _micros: u32,
    _verdict: &'a str,
    _fallback: Option<Fallback>,
}

#[derive(Deserialize)]
struct SeenCopy<'a> {
    #[serde(borrow)]
    message: Seen<'a>,
    _order: Position,
    source: Source,
}

#[derive(Deserialize)]
struct SeenReceipt<'a> {
    to: &'a str,
    #[serde(borrow)]
    conversation: SeenConversation<'a>,
    _message_id: MessageId,
    by: &'a str,
    _status: ReceiptStatus,
    _order: Position,
    _at: Millis,
    _count: Option<u32>,
}

/// So many that were read, and not kept.
struct Passed<T> {
    count: usize,
    of: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Passed<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_seq(Self { count: 0, of: PhantomData })
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Passed<T> {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut all: A) -> Result<Self, A::Error> {
        while all.next_element::<T>()?.is_some() {
            self.count += 1;
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::{Conversation, Decision, Message, OwnCopy, ReceiptRecord, Record, Rejection, Stamp, TopicPartition};

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    fn message() -> Message {
        let decision = |plugin: &str, fallback| Decision {
            hook: Hook::Routing,
            plugin: plugin.into(),
            version: "1.0.0".into(),
            digest: Digest([7; 32]),
            micros: 300,
            verdict: "accept".into(),
            fallback,
        };
        Message {
            id: MessageId([200; 16]),
            sender: user("alice"),
            client_id: ClientId::new("c1").unwrap(),
            addressed: Conversation::Direct(user("bob")),
            to: Conversation::Direct(user("carol")),
            text: Some("a text".into()),
            data: Some("{}".into()),
            tags: vec![("a".into(), "b".into())],
            mentions: Vec::new(),
            sent_at: 1_700_000_000_000,
            lamport: 1_700_000_000_001,
            body: BodyHash([201; 16]),
            rewritten: true,
            only: None,
            discarded: false,
            quiet: true,
            outsider: false,
            plan: Plan::Push,
            stamp: Stamp {
                generation: 300,
                decisions: vec![decision("a", None), decision("b", Some(Fallback::Builtin))],
            },
        }
    }

    fn source() -> Source {
        Source { partition: TopicPartition::messages(300), position: Position(1 << 44), chunk: 1 }
    }

    fn copy(message: Message) -> Record {
        Record::OwnCopy(OwnCopy { message: Arc::new(message), order: Position(1 << 43), source: source() })
    }

    fn receipt() -> Record {
        Record::Receipt(ReceiptRecord {
            to: user("alice"),
            conversation: Conversation::parse("group:g").unwrap(),
            message_id: MessageId([9; 16]),
            by: user("bob"),
            status: ReceiptStatus::Read,
            order: Position(77),
            at: 5,
            count: Some(3),
        })
    }

    /// Records that have a glance.
    fn plain() -> Vec<Record> {
        let bare = Message { text: None, data: None, tags: Vec::new(), stamp: Stamp::default(), ..message() };
        vec![
            Record::Direct(Arc::new(message())),
            Record::Direct(Arc::new(bare.clone())),
            copy(message()),
            copy(bare),
            receipt(),
        ]
    }

    /// A glance and a close look see the same.
    fn agrees(bytes: &[u8]) -> Result<bool, TestCaseError> {
        let Some(glance) = Glance::at(bytes) else { return Ok(false) };
        let record = Record::decode(bytes).map_err(|error| TestCaseError::fail(error.to_string()))?;
        let audience = record.audience();
        prop_assert_eq!(audience.iter().map(|user| user.as_str()).collect::<Vec<_>>(), [glance.reader]);
        prop_assert_eq!(record.source(), glance.source);
        prop_assert_eq!(matches!(record, Record::Direct(_)), glance.makes);
        Ok(true)
    }

    #[test]
    fn what_most_records_are_is_seen_at_a_glance_as_it_is() {
        for record in plain() {
            assert!(agrees(&record.encode()).unwrap(), "{record:?}");
        }
    }

    #[test]
    fn what_is_for_nobody_for_several_or_names_others_is_looked_at_closely() {
        let direct = |message| Record::Direct(Arc::new(message));
        let records = [
            direct(Message { discarded: true, ..message() }),
            direct(Message { mentions: vec![user("dora")], ..message() }),
            direct(Message { only: Some(Vec::new()), ..message() }),
            direct(Message { to: Conversation::parse("group:g").unwrap(), ..message() }),
            copy(Message { mentions: vec![user("dora")], ..message() }),
            Record::Group(Arc::new(message())),
            Record::Rejection(Rejection {
                to: user("alice"),
                client_id: ClientId::new("c1").unwrap(),
                code: "conflict".into(),
                reason: "".into(),
                order: Position(1),
                source: source(),
            }),
        ];
        for record in records {
            assert_eq!(Glance::at(&record.encode()), None, "{record:?}");
        }
        let mut newer = plain()[0].encode().to_vec();
        newer[0] += 1;
        assert_eq!(Glance::at(&newer), None);
        assert_eq!(Glance::at(&[]), None);
    }

    proptest! {
        #[test]
        fn of_damaged_bytes_it_takes_none_that_a_close_look_refuses(
            which in 0usize..5, at in 0usize..400, byte in any::<u8>(), cut in 0usize..400
        ) {
            let mut bytes = plain()[which].encode().to_vec();
            let at = at % bytes.len();
            bytes[at] = byte;
            bytes.truncate(bytes.len() - cut.saturating_sub(300) % bytes.len());
            agrees(&bytes)?;
        }
    }
}
