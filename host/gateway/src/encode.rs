//! From what delivery says to frames: a message is encoded once, whatever the number of its recipients.

use std::collections::BTreeMap;

use bytes::Bytes;
use heddle_delivery::{Event, Flags, Variant};
use heddle_model::{Conversation, MembershipChange, Message, ReceiptStatus, Record, Tag};
use heddle_presence::{Status, Visible};
use heddle_protocol::{
    CaughtUp, Membership, NewMessageBody, PresenceStatus, PresenceUpdate, RawJson, Receipt, RejectCode, Rejected,
    ServerFrame, Target,
};
use tokio_tungstenite::tungstenite::Utf8Bytes;

/// Any frame as text.
pub(crate) fn text(frame: &ServerFrame) -> Utf8Bytes {
    frame.to_text().into()
}

/// An event as its reader sees it; the live form is made once per variant and shared.
pub(crate) fn event(event: &Event, flags: Flags) -> Utf8Bytes {
    if flags.missed {
        return event_text(event, flags).into();
    }
    let shared = event.encoded(flags.variant, || Bytes::from(event_text(event, flags)));
    // It was made from a string: this only checks again.
    Utf8Bytes::try_from(shared).unwrap_or_default()
}

fn event_text(event: &Event, flags: Flags) -> String {
    let offset = event.position.0;
    let frame = match &event.record {
        Record::Receipt(receipt) => ServerFrame::Receipt(Receipt {
            offset,
            conversation: wire_conversation(&receipt.conversation),
            message_id: receipt.message_id.to_string(),
            by: receipt.by.to_string(),
            status: match receipt.status {
                ReceiptStatus::Delivered => heddle_protocol::ReceiptStatus::Delivered,
                ReceiptStatus::Read => heddle_protocol::ReceiptStatus::Read,
            },
            order: receipt.order.0,
            at: receipt.at,
            count: receipt.count,
        }),
        Record::Membership(notice) => ServerFrame::Membership(Membership {
            offset,
            group: notice.group.to_string(),
            user: notice.user.to_string(),
            change: match notice.change {
                MembershipChange::Joined => heddle_protocol::MembershipChange::Joined,
                MembershipChange::Left => heddle_protocol::MembershipChange::Left,
                MembershipChange::Removed => heddle_protocol::MembershipChange::Removed,
                MembershipChange::Role => heddle_protocol::MembershipChange::Role,
                MembershipChange::Renamed => heddle_protocol::MembershipChange::Renamed,
            },
            by: notice.by.to_string(),
            at: notice.at,
        }),
        Record::Rejection(rejection) => {
            let code = if &*rejection.code == "conflict" { RejectCode::Conflict } else { RejectCode::NotMember };
            let mut rejected = Rejected::new(rejection.client_id.as_str(), code, &*rejection.reason);
            rejected.offset = Some(offset);
            rejected.order = Some(rejection.order.0);
            ServerFrame::Rejected(rejected)
        }
        record => match record.message() {
            Some(message) => return new_message(message, event, flags),
            // Such a record is nobody's event; a reader that met one all the same moves on over it.
            None => ServerFrame::CaughtUp(CaughtUp { offset }),
        },
    };
    frame.to_text()
}

fn new_message(message: &Message, event: &Event, flags: Flags) -> String {
    let body = NewMessageBody::new(&heddle_protocol::NewMessage {
        offset: event.position.0,
        message_id: message.id.to_string(),
        from: message.sender.to_string(),
        target: wire_target(&message.to),
        text: message.text.as_deref().map(str::to_owned),
        data: message.data.as_ref().and_then(wire_data),
        tags: wire_tags(&message.tags),
        sent_at: message.sent_at,
        lamport: message.lamport,
        order: event.order.0,
        client_id: None,
        missed: false,
        quiet: false,
    });
    let client_id = (flags.variant == Variant::Own).then(|| message.client_id.as_str());
    body.frame(event.position.0, client_id, flags.missed, flags.variant == Variant::Quiet)
}

pub(crate) fn wire_conversation(conversation: &Conversation) -> heddle_protocol::Conversation {
    match conversation {
        Conversation::Direct(user) => heddle_protocol::Conversation::User(user.to_string()),
        Conversation::Group(group) => heddle_protocol::Conversation::Group(group.to_string()),
    }
}

pub(crate) fn wire_target(conversation: &Conversation) -> Target {
    wire_conversation(conversation).into()
}

pub(crate) fn wire_data(data: &Bytes) -> Option<RawJson> {
    let json = std::str::from_utf8(data).ok()?;
    RawJson::new(json.to_owned()).ok()
}

pub(crate) fn wire_tags(tags: &[Tag]) -> BTreeMap<String, String> {
    tags.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

pub(crate) fn wire_presence(seen: &Visible) -> PresenceUpdate {
    let status = match seen.status {
        Status::Offline => PresenceStatus::Offline,
        Status::Away => PresenceStatus::Away,
        Status::Online => PresenceStatus::Online,
    };
    PresenceUpdate { user: seen.user.to_string(), status, last_seen: seen.last_seen }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use heddle_model::{BodyHash, ClientId, MessageId, Plan, Position, Stamp, UserId};

    use super::*;

    fn direct() -> Event {
        let (sender, to) = (UserId::new("alice").unwrap(), Conversation::parse("user:bob").unwrap());
        let client_id = ClientId::new("1").unwrap();
        let data = Bytes::from_static(b"{\"b\":1,\"a\":[null]}");
        let message = Message {
            id: MessageId::of(&sender, &to, &client_id),
            sender,
            client_id,
            addressed: to.clone(),
            to,
            text: Some("hello \"you\"".into()),
            body: BodyHash::of(None, Some(&data)),
            data: Some(data),
            tags: vec![("k".into(), "v".into())],
            mentions: Vec::new(),
            sent_at: 1_700_000_000_000,
            lamport: 7,
            rewritten: false,
            only: None,
            discarded: false,
            quiet: false,
            outsider: false,
            plan: Plan::Push,
            stamp: Stamp::default(),
        };
        Event::new(Position(41), Record::Direct(Arc::new(message)), 100).unwrap()
    }

    #[test]
    fn a_message_looks_as_its_reader_may_see_it() {
        let direct = direct();
        let seen = |variant, missed| event(&direct, Flags { variant, missed }).to_string();
        let all = [
            seen(Variant::Plain, false),
            seen(Variant::Plain, true),
            seen(Variant::Quiet, false),
            seen(Variant::Own, false),
        ];
        let missed = ServerFrame::parse(&all[1]).unwrap();
        assert!(matches!(missed, ServerFrame::NewMessage(frame) if frame.missed && frame.client_id.is_none()));
        assert!(all[2].ends_with(",\"offset\":41,\"quiet\":true}"), "{}", all[2]);
        assert!(all[3].ends_with(",\"offset\":41,\"client_id\":\"1\"}"), "{}", all[3]);
        assert!(all[0].contains("\"data\":{\"b\":1,\"a\":[null]},\"tags\":{\"k\":\"v\"}"), "{}", all[0]);
    }
}
