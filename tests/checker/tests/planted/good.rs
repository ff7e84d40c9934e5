//! A small history in which nothing is wrong: three who talk, a fourth who was a member for a while, and a log that was cut once.

use serde_json::{Value, json};

/// Above every position of before the cut.
pub(crate) const CUT: u64 = 1 << 43;

/// Lines of a history.
pub(crate) type Lines = Vec<Value>;

/// The whole of it.
pub(crate) fn good() -> Lines {
    let mut lines = vec![
        json!({"what": "settings", "dedupe_ms": 600_000, "receipts_members_max": 32}),
        json!({"what": "group", "group": "g", "members": ["a", "b", "c"]}),
        json!({"what": "epoch", "epoch": 1, "starts": [[0, 16], [1, 7]]}),
    ];
    lines.extend(sends());
    lines.extend(devices());
    lines.extend([
        json!({"what": "told", "user": "b", "conversation": "group:g", "limit": 200, "message_ids": ["m3", "m4", "m5", "m6"]}),
        json!({"what": "told", "user": "b", "conversation": "user:a", "limit": 1, "message_ids": ["m2"]}),
    ]);
    let records: Lines = group_messages().into_iter().chain(messages()).collect();
    // What does not stand: a chunk that was made twice, a message that was, one that landed late, and one that was derived before the cut.
    let stands = |record: &&Value| !matches!(&record["sha256"], Value::String(of) if of.starts_with("no"));
    lines.extend(records.iter().filter(stands).map(archived));
    lines.extend(records);
    lines.push(json!({"what": "archived_receipt", "sender": "a", "conversation": "user:b", "reader": "b", "delivered": 4, "read": 4}));
    lines.push(json!({"what": "end", "settled": true, "worked": true}));
    lines
}

/// The same, of which nobody dumped the log, nor knows who came to a group later.
pub(crate) fn without_a_log() -> Lines {
    let dumped = |line: &Value| ["record", "archived", "archived_receipt"].iter().any(|what| line["what"] == **what);
    good().into_iter().filter(|line| !dumped(line) && line["user"] != "d").collect()
}

/// The archive's row of a record.
pub(crate) fn archived(record: &Value) -> Value {
    let code = u64::from(record["topic"] == "group_messages") + 4 * record["partition"].as_u64().unwrap();
    let offset = record["offset"].as_u64().unwrap();
    let cut = code >= 4 || offset >= if code == 0 { 16 } else { 7 };
    let position = offset + 1 + if cut { CUT } else { 0 };
    json!({"what": "archived", "partition": code, "position": position, "sha256": record["sha256"]})
}

fn sends() -> Lines {
    let mut lines = Vec::new();
    for (user, id, conversation, order) in [
        ("a", "m1", "user:b", 2),
        ("a", "m2", "user:b", 4),
        ("a", "m3", "group:g", 2),
        ("b", "m4", "group:g", 3),
        ("c", "m5", "group:g", 5),
        ("a", "m6", "group:g", 7),
        ("a", "m9", "user:c", CUT + 1),
    ] {
        lines.push(json!({"what": "send", "user": user, "conversation": conversation, "client_id": id}));
        lines.push(json!({
            "what": "outcome", "user": user, "client_id": id, "code": "accepted", "message_id": id, "order": order, "generation": 3,
        }));
    }
    lines.push(json!({"what": "send", "user": "a", "conversation": "user:b", "client_id": "m7"}));
    lines.push(json!({"what": "outcome", "user": "a", "client_id": "m7", "code": "refused"}));
    lines
}

fn devices() -> Lines {
    let joined = |offset: u64| json!({"type": "membership", "offset": offset});
    let (m3, m4, m5, m6) =
        (of_group(6, "m3", "a", 2), of_group(7, "m4", "b", 3), of_group(10, "m5", "c", 5), of_group(12, "m6", "a", 7));
    let read = |offset: u64, status: &str| json!({"type": "receipt", "offset": offset, "conversation": "user:b", "by": "b", "status": status, "order": 4});
    let mut lines = vec![connect("a", None, 0)];
    let of_a = [
        joined(1),
        direct(3, "m1", "b", 2),
        direct(5, "m2", "b", 4),
        m3.clone(),
        m4.clone(),
        joined(9),
        m5.clone(),
        joined(11),
    ];
    lines.extend(of_a.into_iter().map(|frame| event("a", frame)));
    let of_a = [m6.clone(), read(13, "delivered"), read(14, "read"), direct(CUT + 17, "m9", "c", CUT + 1)];
    lines.extend(of_a.into_iter().map(|frame| event("a", frame)));
    lines.push(connect("b", None, 0));
    lines.extend([joined(1), direct(2, "m1", "b", 2), direct(4, "m2", "b", 4)].map(|frame| event("b", frame)));
    lines.push(event("b", json!({"type": "caught_up", "offset": 5})));
    lines.push(connect("b", Some(5), 5));
    let of_b = [m3.clone(), m4.clone(), joined(9), m5.clone(), joined(11), m6.clone()];
    lines.extend(of_b.into_iter().map(|frame| event("b", frame)));
    lines.push(connect("c", None, 0));
    let of_c = [joined(1), m3, m4, joined(9), m5.clone(), joined(11), m6, direct(CUT + 1, "m9", "c", CUT + 1)];
    lines.extend(of_c.into_iter().map(|frame| event("c", frame)));
    lines.push(event("c", json!({"type": "caught_up", "offset": CUT + 1})));
    lines.push(connect("d", None, 0));
    lines.extend([joined(9), m5, joined(11)].map(|frame| event("d", frame)));
    lines
}

/// `hello_ok`.
pub(crate) fn connect(user: &str, asked: Option<u64>, told: u64) -> Value {
    json!({"what": "connect", "user": user, "device": "phone", "resume": asked, "offset": told, "gap": null})
}

/// What came.
pub(crate) fn event(user: &str, frame: Value) -> Value {
    json!({"what": "event", "user": user, "device": "phone", "frame": frame})
}

/// A message of `a` to a user; its own copy has a client_id.
pub(crate) fn direct(offset: u64, id: &str, to: &str, order: u64) -> Value {
    json!({"type": "new_message", "offset": offset, "message_id": id, "from": "a", "to": to, "order": order})
}

/// A message to the group.
pub(crate) fn of_group(offset: u64, id: &str, from: &str, order: u64) -> Value {
    json!({"type": "new_message", "offset": offset, "message_id": id, "from": from, "group": "g", "order": order})
}

fn placed(topic: &str, partition: u64, offset: u64, hash: &str, more: Value) -> Value {
    let mut record = json!({
        "what": "record", "topic": topic, "partition": partition, "offset": offset, "appended_at": 1_000_000 + offset, "handed_in": null,
        "sha256": format!("{hash}{topic}{partition}-{offset}"),
    });
    record.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    record
}

/// A record of `messages/0`.
pub(crate) fn record(offset: u64, more: Value) -> Value {
    placed("messages", 0, offset, "of ", more)
}

/// What a message's record says of it.
pub(crate) fn message(kind: &str, id: &str, from: &str, to: &str, more: Value) -> Value {
    let mut record = json!({
        "kind": kind, "message_id": id, "from": from, "client_id": id, "addressed": to, "to": to, "discarded": false, "only": null,
        "stamp": {"generation": 3, "decisions": []},
    });
    record.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    record
}

fn source(topic: &str, partition: u64, position: u64, chunk: u64) -> Value {
    json!({"topic": topic, "partition": partition, "position": position, "chunk": chunk})
}

/// A chunk of a group's message for those members.
fn chunk(id: &str, from: &str, order: u64, chunk: u64, members: &[&str]) -> Value {
    let members: Lines = members.iter().map(|user| json!({"user": user, "delivery": "push"})).collect();
    let more = json!({"order": order, "members": members, "source": source("group_messages", 0, order, chunk)});
    message("group_chunk", id, from, "group:g", more)
}

/// A receipt for `a`.
pub(crate) fn receipt(conversation: &str, by: &str, status: &str, order: u64) -> Value {
    json!({"kind": "receipt", "to": "a", "conversation": conversation, "message_id": "m", "by": by, "status": status, "order": order, "count": null})
}

fn group_messages() -> Lines {
    let change = |change: &str, more: Value| {
        let mut of = json!({"kind": "group_change", "group": "g", "by": "a", "change": change});
        of.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        of
    };
    let group = |id: &str, from: &str| message("group", id, from, "group:g", json!({"plan": "push"}));
    let records = [
        change("created", json!({"members": ["a", "b", "c"]})),
        group("m3", "a"),
        group("m4", "b"),
        change("joined", json!({"users": ["d"]})),
        group("m5", "c"),
        change("left", json!({"user": "d"})),
        group("m6", "a"),
    ];
    let mut lines: Lines =
        records.into_iter().zip(0..).map(|(more, offset)| placed("group_messages", 0, offset, "of ", more)).collect();
    // By one who is no member any more.
    lines.push(placed("group_messages", 0, 7, "no ", group("m8", "d")));
    lines
}

fn messages() -> Lines {
    let notice = |position: u64, targets: &[&str]| json!({"kind": "membership", "group": "g", "targets": targets, "source": source("group_messages", 0, position, 0)});
    let to_b = |id: &str| message("direct", id, "a", "user:b", json!({}));
    let own = |id: &str, to: &str, partition: u64, order: u64| {
        let more = json!({"order": order, "source": source("messages", partition, order, 0)});
        message("own_copy", id, "a", to, more)
    };
    let mut late = to_b("m0");
    late["handed_in"] = 900_000.into();
    let records = [
        ("of ", notice(1, &["a", "b", "c"])),
        ("of ", to_b("m1")),
        ("of ", own("m1", "user:b", 0, 2)),
        ("of ", to_b("m2")),
        ("of ", own("m2", "user:b", 0, 4)),
        ("of ", chunk("m3", "a", 2, 0, &["a", "b", "c"])),
        ("of ", chunk("m4", "b", 3, 0, &["a", "b", "c"])),
        ("no ", chunk("m4", "b", 3, 0, &["a", "b", "c"])),
        ("of ", notice(4, &["a", "b", "c", "d"])),
        ("of ", chunk("m5", "c", 5, 0, &["a", "b", "c", "d"])),
        ("of ", notice(6, &["a", "b", "c", "d"])),
        ("of ", chunk("m6", "a", 7, 0, &["a", "b", "c"])),
        ("of ", receipt("user:b", "b", "delivered", 4)),
        ("of ", receipt("user:b", "b", "read", 4)),
        ("no ", to_b("m2")),
        ("no ", late),
        ("of ", own("m9", "user:c", 1, CUT + 1)),
        ("no ", own("m9", "user:c", 2, 9)),
    ];
    let mut lines: Lines =
        records.into_iter().zip(0..).map(|((hash, more), offset)| placed("messages", 0, offset, hash, more)).collect();
    lines.push(placed("messages", 1, 0, "of ", message("direct", "m9", "a", "user:c", json!({}))));
    lines
}
