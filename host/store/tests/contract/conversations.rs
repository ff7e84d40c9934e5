//! Lists of conversations.

use heddle_store::{ArchiveBatch, ConversationRow, Store, StreamRow};

use crate::fixture::*;

async fn list(store: &Store, of: &str, limit: u32) -> Vec<ConversationRow> {
    store.archive.conversations(&user(of), home(of), limit).await.unwrap()
}

pub(crate) async fn conversations_come_newest_first_with_unread_and_last(store: &Store) {
    let mut batch = ArchiveBatch::default();
    let events =
        [(10, "user:alice", true), (20, "user:carol", true), (30, "user:alice", true), (40, "user:dave", false)];
    for (position, name, incoming) in events {
        batch.records.push(record(home("bob"), position, Some(position), &format!("m{position}")));
        batch.stream.push(StreamRow { incoming, ..event("bob", position, name, position) });
    }
    batch.records.push(record(home("bob"), 50, None, "a notice"));
    batch.stream.push(notice("bob", 50));
    store.archive.write(batch).await.unwrap();
    let rows = list(store, "bob", 10).await;
    let seen: Vec<_> = rows
        .iter()
        .map(|row| (row.conversation.to_string(), row.position.0, row.order.0, row.unread, row.last.clone().unwrap()))
        .collect();
    assert_eq!(
        seen,
        [
            ("user:dave".to_owned(), 40, 40, 0, "m40".into()),
            ("user:alice".to_owned(), 30, 30, 2, "m30".into()),
            ("user:carol".to_owned(), 20, 20, 1, "m20".into()),
        ]
    );
    assert_eq!(list(store, "bob", 2).await, rows[..2]);
    assert!(list(store, "nobody", 2).await.is_empty());
}

pub(crate) async fn reading_lowers_unread_and_never_raises_it(store: &Store) {
    let mut batch = ArchiveBatch::default();
    for id in 1..=5 {
        direct(&mut batch, id * 10, id, id);
    }
    store.archive.write(batch).await.unwrap();
    for (order, unread) in [(0, 5), (30, 2), (20, 2), (50, 0)] {
        store.devices.save_read(&user("bob"), &conversation("user:alice"), at(order)).await.unwrap();
        assert_eq!(list(store, "bob", 9).await[0].unread, unread);
    }
}

pub(crate) async fn a_group_without_a_message_is_listed_with_its_name(store: &Store) {
    let groups = vec![made("g", 10, &["alice", "bob"]), change("g", 20, vec![left("alice")])];
    store.archive.write(ArchiveBatch { groups, ..ArchiveBatch::default() }).await.unwrap();
    let rows = list(store, "bob", 9).await;
    assert_eq!(
        rows,
        [ConversationRow {
            conversation: conversation("group:g"),
            position: at(0),
            last: None,
            order: at(0),
            unread: 0,
            muted: false,
            name: Some("the g".into()),
        }]
    );
    assert!(list(store, "alice", 9).await.is_empty());
}

pub(crate) async fn a_pulled_group_counts_what_others_sent(store: &Store) {
    let mut batch = ArchiveBatch { groups: vec![made("g", 1, &["alice", "bob"])], ..ArchiveBatch::default() };
    for (order, sender) in [(10, "alice"), (20, "bob"), (30, "alice"), (40, "alice")] {
        pulled(&mut batch, "g", order, sender, order);
    }
    // Pushed before the group grew.
    batch.records.push(record(home("bob"), 500, None, "m5"));
    batch.stream.push(StreamRow { order: at(5), ..event("bob", 500, "group:g", 5) });
    store.archive.write(batch).await.unwrap();
    let row = &list(store, "bob", 9).await[0];
    assert_eq!((row.unread, row.order, row.position), (4, at(40), at(500)));
    assert_eq!(row.last.as_deref(), Some(&b"m40"[..]));
    store.devices.save_read(&user("bob"), &conversation("group:g"), at(30)).await.unwrap();
    assert_eq!(list(store, "bob", 9).await[0].unread, 1);
}

pub(crate) async fn a_muted_conversation_says_so(store: &Store) {
    let mut batch = ArchiveBatch { groups: vec![made("g", 1, &["alice", "bob"])], ..ArchiveBatch::default() };
    direct(&mut batch, 10, 1, 1);
    store.archive.write(batch).await.unwrap();
    store.directory.set_mute(&user("bob"), &conversation("group:g"), true).await.unwrap();
    let muted: Vec<_> = list(store, "bob", 9).await.iter().map(|row| (row.conversation.clone(), row.muted)).collect();
    assert_eq!(muted, [(conversation("user:alice"), false), (conversation("group:g"), true)]);
}
