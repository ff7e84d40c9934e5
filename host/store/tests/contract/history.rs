//! Pages of conversations.

use heddle_model::{Partitioning, ReceiptStatus};
use heddle_store::HistoryAnchor::{After, Before, Newest};
use heddle_store::{ArchiveBatch, ReceiptRow, ReceiptState, Store, StreamRow};

use crate::fixture::*;

pub(crate) async fn direct_history_is_sorted_by_lamport_then_id(store: &Store) {
    let mut batch = ArchiveBatch::default();
    direct(&mut batch, 10, 7, 1);
    direct(&mut batch, 20, 3, 2);
    direct(&mut batch, 30, 7, 3);
    // Bob's answer: his own copy in his stream, its first record in Alice's partition.
    batch.records.push(record(home("bob"), 40, None, "m4"));
    batch.records.push(record(home("alice"), 11, Some(4), "m4 at alice"));
    batch.stream.push(StreamRow { order: at(11), lamport: 5, incoming: false, ..event("bob", 40, "user:alice", 4) });
    store.archive.write(batch).await.unwrap();

    let mut same_lamport = [(message_id(1), "m1"), (message_id(3), "m3")];
    same_lamport.sort_unstable();
    let page = history(store, "bob", "user:alice", Newest, 10).await;
    assert_eq!(bodies(&page), ["m2", "m4", same_lamport[0].1, same_lamport[1].1]);
    assert!(!page.more);
    let own = &page.rows[1];
    assert_eq!((own.position, own.order), (at(40), at(11)));
    let page = history(store, "bob", "user:alice", Before(message_id(4)), 10).await;
    assert_eq!(bodies(&page), ["m2"]);
}

pub(crate) async fn pages_go_both_ways_and_say_whether_there_is_more(store: &Store) {
    let mut batch = ArchiveBatch { groups: vec![made("g", 1, &["alice", "bob"])], ..ArchiveBatch::default() };
    for id in 1..=9 {
        direct(&mut batch, id * 10, id, id);
        pulled(&mut batch, "g", id * 10, "alice", 100 + id);
    }
    store.archive.write(batch).await.unwrap();
    for (name, first) in [("user:alice", 1), ("group:g", 101)] {
        let names =
            |range: std::ops::RangeInclusive<u64>| range.map(|n| format!("m{}", first + n - 1)).collect::<Vec<_>>();
        let id = |n: u64| message_id(first + n - 1);
        let newest = history(store, "bob", name, Newest, 4).await;
        assert_eq!(bodies(&newest), names(6..=9));
        assert!(newest.more);
        let before = history(store, "bob", name, Before(id(6)), 4).await;
        assert_eq!(bodies(&before), names(2..=5));
        assert!(before.more);
        let last = history(store, "bob", name, Before(id(2)), 4).await;
        assert_eq!(bodies(&last), names(1..=1));
        assert!(!last.more);
        let after = history(store, "bob", name, After(id(3)), 4).await;
        assert_eq!(bodies(&after), names(4..=7));
        assert!(after.more);
        let end = history(store, "bob", name, After(id(5)), 4).await;
        assert_eq!(bodies(&end), names(6..=9));
        assert!(!end.more);
    }
}

pub(crate) async fn an_unknown_anchor_gives_an_empty_page(store: &Store) {
    let mut batch = ArchiveBatch::default();
    direct(&mut batch, 10, 1, 1);
    store.archive.write(batch).await.unwrap();
    for (viewer, name, id) in [("bob", "user:alice", 2), ("bob", "user:carol", 1), ("carol", "user:alice", 1)] {
        for anchor in [Before(message_id(id)), After(message_id(id))] {
            let page = history(store, viewer, name, anchor, 10).await;
            assert!(page.rows.is_empty() && !page.more);
        }
    }
}

pub(crate) async fn pulled_messages_come_within_the_viewers_intervals_only(store: &Store) {
    let mut batch = ArchiveBatch {
        groups: vec![
            made("g", 10, &["alice", "bob"]),
            change("g", 30, vec![left("bob")]),
            change("g", 50, vec![joined("bob"), joined("carol")]),
        ],
        ..ArchiveBatch::default()
    };
    for order in [5, 20, 29, 31, 49, 60] {
        pulled(&mut batch, "g", order, "alice", order);
    }
    store.archive.write(batch).await.unwrap();
    for (viewer, expected) in [
        ("alice", &["m20", "m29", "m31", "m49", "m60"][..]),
        ("bob", &["m20", "m29", "m60"]),
        ("carol", &["m60"]),
        ("dave", &[]),
    ] {
        let page = history(store, viewer, "group:g", Newest, 10).await;
        assert_eq!(bodies(&page), expected, "{viewer}");
    }
    assert_eq!(bodies(&history(store, "bob", "group:g", Before(message_id(60)), 1).await), ["m29"]);
    assert_eq!(bodies(&history(store, "bob", "group:g", After(message_id(20)), 9).await), ["m29", "m60"]);
    // What stands outside the intervals is no anchor either.
    assert!(history(store, "bob", "group:g", After(message_id(31)), 9).await.rows.is_empty());
}

pub(crate) async fn an_own_copy_and_its_pulled_record_come_once(store: &Store) {
    let mut batch = ArchiveBatch { groups: vec![made("g", 1, &["alice", "bob"])], ..ArchiveBatch::default() };
    pulled(&mut batch, "g", 10, "bob", 1);
    pulled(&mut batch, "g", 20, "alice", 2);
    store.archive.write(batch.clone()).await.unwrap();
    // Bob's own copy comes later: it stands in another partition.
    assert_eq!(bodies(&history(store, "bob", "group:g", Newest, 9).await), ["m1", "m2"]);
    let mut later = ArchiveBatch::default();
    later.records.push(record(home("bob"), 500, None, "m1, own copy"));
    later.stream.push(StreamRow { order: at(10), incoming: false, ..event("bob", 500, "group:g", 1) });
    store.archive.write(later).await.unwrap();
    let page = history(store, "bob", "group:g", Newest, 9).await;
    assert_eq!(bodies(&page), ["m1, own copy", "m2"]);
    assert_eq!(page.rows[0].position, at(500));
    assert_eq!(page.rows[1].position, at(0));
    assert_eq!(bodies(&history(store, "bob", "group:g", After(message_id(1)), 9).await), ["m2"]);
}

pub(crate) async fn a_pulled_message_for_a_few_is_hidden_from_the_rest(store: &Store) {
    let groups = vec![made("g", 1, &["alice", "bob", "carol"])];
    let mut batch = ArchiveBatch { groups, ..ArchiveBatch::default() };
    pulled(&mut batch, "g", 10, "alice", 1);
    batch.group_log[0].only = Some(vec![user("bob")]);
    store.archive.write(batch).await.unwrap();
    for (viewer, sees) in [("alice", true), ("bob", true), ("carol", false)] {
        assert_eq!(history(store, viewer, "group:g", Newest, 9).await.rows.len(), usize::from(sees), "{viewer}");
        let head = if sees { at(10) } else { at(0) };
        assert_eq!(store.groups.groups_of(&user(viewer)).await.unwrap(), [(group("g"), head)], "{viewer}");
        let listed = &store.archive.conversations(&user(viewer), home(viewer), 9).await.unwrap()[0];
        assert_eq!(listed.last.is_some(), sees, "{viewer}");
        assert_eq!(listed.unread, u64::from(viewer == "bob"), "{viewer}");
    }
    assert!(history(store, "carol", "group:g", After(message_id(1)), 9).await.rows.is_empty());
}

pub(crate) async fn a_discarded_message_is_in_nobodys_history(store: &Store) {
    let mut batch = ArchiveBatch { groups: vec![made("g", 1, &["alice", "bob"])], ..ArchiveBatch::default() };
    pulled(&mut batch, "g", 10, "alice", 1);
    batch.group_log[0].discarded = true;
    store.archive.write(batch).await.unwrap();
    assert!(history(store, "bob", "group:g", Newest, 9).await.rows.is_empty());
    assert_eq!(store.groups.group(&group("g")).await.unwrap().unwrap().head, at(0));
    assert_eq!(store.groups.groups_of(&user("bob")).await.unwrap(), [(group("g"), at(0))]);
}

pub(crate) async fn history_tells_receipts_and_both_cursors(store: &Store) {
    let receipt = ReceiptRow {
        sender: user("alice"),
        conversation: conversation("group:g"),
        by: user("bob"),
        status: ReceiptStatus::Delivered,
        order: at(10),
        at: 1,
    };
    let batch = ArchiveBatch {
        receipts: vec![receipt],
        cursors: vec![cursor(home("alice"), 44), cursor(group_home("g"), 55)],
        ..ArchiveBatch::default()
    };
    store.archive.write(batch).await.unwrap();
    let page = history(store, "alice", "group:g", Newest, 9).await;
    assert_eq!(page.receipts, [ReceiptState { by: user("bob"), delivered: at(10), read: at(0) }]);
    assert_eq!((page.archived, page.group_archived), (at(44), at(55)));
}

pub(crate) async fn a_message_of_an_older_partition_count_still_reads(store: &Store) {
    // Bob's home was another one when there were fewer; the same position may stand in both.
    let old = Partitioning { count: 8 }.home(&user("bob"));
    assert_ne!(old, home("bob"));
    let mut batch = ArchiveBatch::default();
    batch.records.push(record(old, 10, Some(1), "old"));
    batch.records.push(record(home("bob"), 10, None, "somebody else's"));
    batch.stream.push(StreamRow { partition: old, ..event("bob", 10, "user:alice", 1) });
    store.archive.write(batch).await.unwrap();
    assert_eq!(bodies(&history(store, "bob", "user:alice", Newest, 9).await), ["old"]);
    let page = store.archive.stream(&user("bob"), home("bob"), at(0), 9).await.unwrap();
    assert_eq!(&page.rows[0].bytes[..], b"old");
}
