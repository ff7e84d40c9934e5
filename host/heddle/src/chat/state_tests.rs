use super::*;

const T0: Duration = Duration::from_secs(1);

fn chat() -> Chat {
    let mut chat = Chat { me: "alice".to_owned(), ..Chat::default() };
    chat.select(&bob());
    chat
}

fn bob() -> Conversation {
    Conversation::User("bob".to_owned())
}

fn hear(chat: &mut Chat, json: &str) {
    chat.frame(ServerFrame::parse(json).unwrap(), T0);
}

fn message(from: &str, to: &str, id: &str, lamport: u64) -> String {
    format!(
        r#"{{"type":"new_message","offset":{lamport},"message_id":"{id}","from":"{from}","to":"{to}","text":"{id}",
        "sent_at":1,"lamport":{lamport},"order":{lamport}}}"#
    )
}

fn texts(chat: &Chat) -> Vec<&str> {
    chat.open().unwrap().entries.iter().map(|entry| entry.text.as_str()).collect()
}

#[test]
fn a_message_climbs_from_under_way_to_read() {
    let mut chat = chat();
    chat.sending(&Target::User("bob".to_owned()), "c1", "hi", 1);
    let tick = |chat: &Chat| chat.open().unwrap().tick(&chat.open().unwrap().entries[0]);
    assert_eq!(tick(&chat), Tick::UnderWay);
    hear(
        &mut chat,
        r#"{"type":"accepted","client_id":"c1","message_id":"m1","sent_at":2,"lamport":5,"order":9,"generation":1}"#,
    );
    assert_eq!(tick(&chat), Tick::Sent);
    for (status, expected) in [("delivered", Tick::Delivered), ("read", Tick::Read), ("delivered", Tick::Read)] {
        hear(
            &mut chat,
            &format!(
                r#"{{"type":"receipt","offset":3,"conversation":"user:bob","message_id":"m1","by":"bob",
                "status":"{status}","order":9,"at":4}}"#
            ),
        );
        assert_eq!(tick(&chat), expected);
    }
}

#[test]
fn a_final_refusal_marks_the_message_and_a_passing_one_does_not() {
    let mut chat = chat();
    chat.sending(&Target::User("bob".to_owned()), "c1", "hi", 1);
    for (code, retryable, tick) in [("unavailable", true, Tick::UnderWay), ("refused", false, Tick::Failed)] {
        hear(
            &mut chat,
            &format!(r#"{{"type":"rejected","client_id":"c1","code":"{code}","reason":"no","retryable":{retryable}}}"#),
        );
        assert_eq!(chat.open().unwrap().tick(&chat.open().unwrap().entries[0]), tick);
    }
}

#[test]
fn messages_stand_in_the_conversations_order_once_each() {
    let mut chat = chat();
    for (id, lamport) in [("b", 2), ("a", 1), ("b", 2), ("c", 3)] {
        hear(&mut chat, &message("bob", "alice", id, lamport));
    }
    chat.sending(&Target::User("bob".to_owned()), "c1", "mine", 1);
    hear(&mut chat, &message("bob", "alice", "d", 4));
    assert_eq!(texts(&chat), ["a", "b", "c", "d", "mine"]);
}

#[test]
fn only_live_messages_of_others_count_as_unread_and_opening_reads_them_once() {
    let mut chat = chat();
    hear(&mut chat, &message("carol", "alice", "missed", 1));
    assert_eq!(chat.threads[1].unread, 0, "the server counts what was missed");
    hear(&mut chat, r#"{"type":"caught_up","offset":1}"#);
    assert!(chat.stale);
    hear(&mut chat, &message("carol", "alice", "live", 2));
    hear(&mut chat, &message("alice", "carol", "own", 3));
    assert_eq!(chat.threads[1].unread, 1);
    assert_eq!(chat.reads(), None, "another conversation is open");
    chat.turn(1);
    assert_eq!(chat.reads().as_deref(), Some("live"));
    assert_eq!((chat.reads(), chat.threads[1].unread), (None, 0));
    hear(&mut chat, &message("carol", "alice", "more", 4));
    assert_eq!(chat.reads().as_deref(), Some("more"));
}

#[test]
fn typing_ends_by_itself_and_with_the_message() {
    let mut chat = chat();
    hear(&mut chat, r#"{"type":"typing_indicator","from":"bob","typing":true}"#);
    assert_eq!(chat.open().unwrap().typing(T0), ["bob"]);
    assert!(chat.open().unwrap().typing(T0 + TYPING).is_empty());
    hear(&mut chat, &message("bob", "alice", "m", 1));
    assert!(chat.open().unwrap().typing(T0).is_empty());
}
