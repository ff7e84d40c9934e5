//! Every frame and every close code as it stands on the wire.

use std::collections::BTreeMap;

use heddle_protocol::limits::CLOSE_REASON_BYTES_MAX;
use heddle_protocol::{Accepted, CaughtUp, CloseCode, ErrorCode, ErrorFrame, Gap, GapReason, GroupNotice, HelloOk};
use heddle_protocol::{Ack, ChatMessage, ClientFrame, Command, Hello, PresenceSet, PresenceStatus, ReadReceipt};
use heddle_protocol::{Conversation, Membership, MembershipChange, NewMessage, NewMessageBody, PresenceUpdate};
use heddle_protocol::{Problem, RawJson, Receipt, ReceiptStatus, RejectCode, Rejected, ServerFrame, ServerFrameError};
use heddle_protocol::{Target, TypingIndicator, Users, parse};

fn client_frames() -> Vec<ClientFrame> {
    let users = || Users { users: vec!["bob".into(), "carol".into()] };
    vec![
        ClientFrame::Hello(Hello { token: None, device: "phone".into(), resume: None }),
        ClientFrame::Hello(Hello { token: Some("a.b.c".into()), device: "phone".into(), resume: Some(0) }),
        ClientFrame::ChatMessage(ChatMessage {
            client_id: "c1".into(),
            target: Target::User("bob".into()),
            text: Some("hi".into()),
            data: None,
            lamport: None,
            tags: BTreeMap::new(),
            mentions: vec![],
            resend: false,
        }),
        ClientFrame::ChatMessage(ChatMessage {
            client_id: "c2".into(),
            target: Target::Group("g1".into()),
            text: Some("\"quoted\" \u{1f9f5}".into()),
            data: Some(RawJson::new(r#"{"n": 1.0}"#.into()).expect("json")),
            lamport: Some(8),
            tags: BTreeMap::from([("topic".into(), "loom".into())]),
            mentions: vec!["bob".into()],
            resend: true,
        }),
        ClientFrame::Ack(Ack { offset: 42 }),
        ClientFrame::ReadReceipt(ReadReceipt { message_id: "m1".into() }),
        ClientFrame::TypingStart(Target::User("bob".into())),
        ClientFrame::TypingStop(Target::Group("g1".into())),
        ClientFrame::PresenceSet(PresenceSet { status: PresenceStatus::Away }),
        ClientFrame::PresenceGet(users()),
        ClientFrame::PresenceSubscribe(users()),
        ClientFrame::PresenceUnsubscribe(users()),
        ClientFrame::Ping,
    ]
}

fn message() -> NewMessage {
    NewMessage {
        offset: 43,
        message_id: "m1".into(),
        from: "alice".into(),
        target: Target::User("bob".into()),
        text: Some("hi".into()),
        data: None,
        tags: BTreeMap::new(),
        sent_at: 1_700_000_000_000,
        lamport: 7,
        order: 43,
        client_id: None,
        missed: false,
        quiet: false,
    }
}

fn server_frames() -> Vec<ServerFrame> {
    let hello_ok = |gap| HelloOk {
        session: "s1".into(),
        user: "alice".into(),
        device: "phone".into(),
        offset: 42,
        heartbeat_ms: 30_000,
        resumed: false,
        gap,
    };
    let error = ErrorFrame {
        command: Some("ack".into()),
        reference: Some("r1".into()),
        code: ErrorCode::AckAboveSent,
        reason: "offset 99 was never sent here; the newest is 42".into(),
        retryable: false,
        retry_after_ms: None,
        hint: Some("acknowledge only what arrived".into()),
    };
    vec![
        ServerFrame::HelloOk(hello_ok(None)),
        ServerFrame::HelloOk(hello_ok(Some(Gap { reason: GapReason::AboveHead }))),
        ServerFrame::HelloOk(hello_ok(Some(Gap { reason: GapReason::Lost }))),
        ServerFrame::Accepted(Accepted {
            client_id: "c1".into(),
            message_id: "m1".into(),
            sent_at: 1_700_000_000_000,
            lamport: 7,
            order: 43,
            generation: 1,
            text: Some("h*".into()),
        }),
        ServerFrame::Rejected(Rejected::new("c1", RejectCode::Unavailable, "outcome unknown")),
        ServerFrame::Rejected(Rejected {
            offset: Some(44),
            order: Some(43),
            ..Rejected::new("c1", RejectCode::NotMember, "alice left g1 before")
        }),
        ServerFrame::NewMessage(message()),
        ServerFrame::NewMessage(NewMessage {
            target: Target::Group("g1".into()),
            text: None,
            data: Some(RawJson::new("null".into()).expect("json")),
            tags: BTreeMap::from([("topic".into(), "loom".into())]),
            client_id: Some("c\"1".into()),
            missed: true,
            quiet: true,
            ..message()
        }),
        ServerFrame::CaughtUp(CaughtUp { offset: 44 }),
        ServerFrame::Receipt(Receipt {
            offset: 45,
            conversation: Conversation::User("bob".into()),
            message_id: "m1".into(),
            by: "bob".into(),
            status: ReceiptStatus::Delivered,
            order: 43,
            at: 1_700_000_000_100,
            count: None,
        }),
        ServerFrame::Membership(Membership {
            offset: 46,
            group: "g1".into(),
            user: "carol".into(),
            change: MembershipChange::Joined,
            by: "alice".into(),
            at: 1_700_000_000_200,
        }),
        ServerFrame::GroupNotice(GroupNotice { group: "g1".into(), head: 47 }),
        ServerFrame::TypingIndicator(TypingIndicator { from: "bob".into(), group: None, typing: true }),
        ServerFrame::TypingIndicator(TypingIndicator { from: "bob".into(), group: Some("g1".into()), typing: false }),
        ServerFrame::PresenceUpdate(PresenceUpdate {
            user: "bob".into(),
            status: PresenceStatus::Offline,
            last_seen: Some(1_700_000_000_300),
        }),
        ServerFrame::Error(error),
        ServerFrame::Pong,
    ]
}

#[test]
fn every_client_frame_has_this_text_and_reads_back() {
    let mut lines = Vec::new();
    for frame in client_frames() {
        let text = frame.to_text();
        let back = parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(back, Command { reference: None, frame });
        lines.push(text);
    }
    lines.push(Command { reference: Some("r1".into()), frame: ClientFrame::Ping }.to_text());
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn every_server_frame_has_this_text_and_reads_back() {
    let mut lines = Vec::new();
    for frame in server_frames() {
        let text = frame.to_text();
        assert_eq!(ServerFrame::parse(&text).unwrap_or_else(|error| panic!("{text}: {error}")), frame);
        assert!(text.contains(&format!("\"type\":\"{}\"", frame.type_name())), "{text}");
        lines.push(text);
    }
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn a_client_tells_new_types_from_broken_frames() {
    assert!(matches!(ServerFrame::parse(r#"{"type":"soon","a":1}"#), Err(ServerFrameError::UnknownType(_))));
    assert!(matches!(ServerFrame::parse(r#"{"type":"receipt"}"#), Err(ServerFrameError::Fields { .. })));
    assert!(matches!(ServerFrame::parse("nothing"), Err(ServerFrameError::Malformed(_))));
    let newer = r#"{"type":"rejected","client_id":"c","code":"tired","reason":"r","retryable":true,"mood":1}"#;
    assert!(matches!(ServerFrame::parse(newer), Ok(ServerFrame::Rejected(r)) if r.code == RejectCode::Unrecognised));
}

#[test]
fn a_message_encoded_once_reads_as_if_encoded_for_each() {
    let shared = NewMessage { tags: BTreeMap::from([("a".into(), "b".into())]), ..message() };
    let body = NewMessageBody::new(&shared);
    for (offset, client_id, missed, quiet) in
        [(1, None, false, false), (2, Some("c\"\\"), true, false), (3, None, true, true), (4, Some("é"), false, true)]
    {
        let expected = NewMessage { offset, client_id: client_id.map(str::to_owned), missed, quiet, ..shared.clone() };
        let text = body.frame(offset, client_id, missed, quiet);
        assert_eq!(ServerFrame::parse(&text).expect("a frame"), ServerFrame::NewMessage(expected));
    }
}

#[test]
fn every_close_code_has_its_number_reason_and_advice() {
    let lines: Vec<String> = CloseCode::ALL
        .into_iter()
        .map(|code| {
            assert_eq!(CloseCode::from_number(code.number()), Some(code));
            assert_eq!(code.reconnect(), code.number() < 4500);
            let advice = if code.reconnect() { "reconnect" } else { "do not reconnect" };
            format!("{} {}: {advice}", code.number(), code.reason())
        })
        .collect();
    insta::assert_snapshot!(lines.join("\n"));
    assert_eq!(CloseCode::from_number(1000), None);
}

#[test]
fn a_close_reason_fits_its_frame_and_carries_its_delay() {
    let long = CloseCode::Malformed.reason_with(&"é".repeat(200));
    assert!(long.len() <= CLOSE_REASON_BYTES_MAX && long.starts_with("malformed frame: é"));
    assert_eq!(CloseCode::delay_ms(&CloseCode::ShuttingDown.reason_with_delay(1_234)), Some(1_234));
    assert_eq!(CloseCode::delay_ms("shutting down"), None);
}

#[test]
fn every_code_serialises_as_it_is_named() {
    let rejects = ["rate_limited", "refused", "policy_unavailable", "unavailable", "conflict"];
    for word in rejects.into_iter().chain(["not_member", "too_large", "invalid", "unknown_user"]) {
        let code: RejectCode = serde_json::from_value(word.into()).expect(word);
        assert_eq!((code.as_str(), serde_json::to_value(code).expect(word)), (word, word.into()));
        assert_eq!(ErrorCode::from(code).status(), code.status(), "{word}");
    }
}

#[test]
fn a_problem_is_written_as_rfc_9457_asks() {
    let problems = [
        Problem::new(ErrorCode::Unauthorized, "the token expired at 1700000000: fetch a new one"),
        Problem::rejected(RejectCode::RateLimited, "20 messages at once are allowed").retry_after_ms(100),
    ];
    insta::assert_snapshot!(problems.map(|problem| problem.to_text()).join("\n"));
}
