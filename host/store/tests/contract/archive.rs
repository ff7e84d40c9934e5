//! Streams, records, cursors, receipts.

use heddle_model::{Position, ReceiptStatus, UserId};
use heddle_store::{
    ArchiveBatch, DeadLetter, DeadLetterRow, ReceiptRow, Store, StoreError, StreamPoint, StreamRow, StreamSince,
};

use crate::fixture::*;

pub(crate) async fn a_derived_cursor_is_kept_and_only_grows(store: &Store) {
    assert_eq!(store.archive.derived().await.unwrap(), []);
    let (alice, bob) = (home("alice"), home("bob"));
    store.archive.keep_derived(&[]).await.unwrap();
    store.archive.keep_derived(&[(alice, Position::new(0, 7)), (bob, Position::new(1, 2))]).await.unwrap();
    store.archive.keep_derived(&[(alice, Position::new(0, 6)), (bob, Position::new(1, 3))]).await.unwrap();
    let mut wanted = [(alice, Position::new(0, 7)), (bob, Position::new(1, 3))];
    wanted.sort();
    let mut kept = store.archive.derived().await.unwrap();
    kept.sort();
    assert_eq!(kept, wanted);
}

pub(crate) async fn a_stream_reads_back_in_order_with_its_cursor(store: &Store) {
    let mut batch = ArchiveBatch { cursors: vec![cursor(home("bob"), 30)], ..ArchiveBatch::default() };
    for (position, id) in [(20, 2), (10, 1)] {
        direct(&mut batch, position, position, id);
    }
    batch.records.push(record(home("bob"), 15, None, "a notice"));
    batch.stream.push(notice("bob", 15));
    store.archive.write(batch.clone()).await.unwrap();
    store.archive.write(batch).await.unwrap();

    let page = store.archive.stream(&user("bob"), home("bob"), at(0), 100).await.unwrap();
    let read: Vec<_> = page.rows.iter().map(|row| (row.position.0, &row.bytes[..])).collect();
    assert_eq!(read, [(10, &b"m1"[..]), (15, b"a notice"), (20, b"m2")]);
    assert_eq!(page.archived, at(30));

    let nobody = store.archive.stream(&user("carol"), home("carol"), at(0), 100).await.unwrap();
    assert!(nobody.rows.is_empty());
    assert_eq!(nobody.archived, at(0));
}

pub(crate) async fn a_stream_is_paged_by_position_and_limit(store: &Store) {
    let mut batch = ArchiveBatch::default();
    for id in 1..=10 {
        direct(&mut batch, id * 10, id, id);
    }
    store.archive.write(batch).await.unwrap();
    let page = store.archive.stream(&user("bob"), home("bob"), at(30), 3).await.unwrap();
    assert_eq!(page.rows.iter().map(|row| row.position.0).collect::<Vec<_>>(), [40, 50, 60]);
}

pub(crate) async fn a_record_is_found_by_place_and_its_message_by_id(store: &Store) {
    let mut batch = ArchiveBatch::default();
    direct(&mut batch, 7, 1, 1);
    store.archive.write(batch.clone()).await.unwrap();
    let expected = &batch.records[0];
    assert_eq!(store.archive.message(&message_id(1)).await.unwrap().as_ref(), Some(expected));
    assert_eq!(store.archive.record(home("bob"), at(7)).await.unwrap().as_ref(), Some(expected));
    assert_eq!(store.archive.message(&message_id(2)).await.unwrap(), None);
    assert_eq!(store.archive.record(home("bob"), at(8)).await.unwrap(), None);
}

pub(crate) async fn a_point_of_a_stream_is_found_by_time_and_by_position(store: &Store) {
    let mut batch = ArchiveBatch::default();
    // Appended at 1,000 and their position.
    for id in 1..=5 {
        direct(&mut batch, id * 10, id, id);
    }
    store.archive.write(batch).await.unwrap();
    let since = async |name: &str, point| store.archive.stream_since(&user(name), point).await.unwrap();
    let found = |after, events| StreamSince { after: at(after), events, oldest: Some(1_010) };
    for (time, after, events) in [(1_030, 20, 3), (1_031, 30, 2), (9_999, 50, 0), (1_010, 0, 5), (0, 0, 5)] {
        assert_eq!(since("bob", StreamPoint::Time(time)).await, found(after, events), "{time}");
    }
    assert_eq!(since("bob", StreamPoint::Position(at(25))).await, found(25, 3));
    let nothing = StreamSince { after: at(0), events: 0, oldest: None };
    assert_eq!(since("carol", StreamPoint::Time(1_030)).await, nothing);
}

pub(crate) async fn cursors_only_grow(store: &Store) {
    for (partition, upto) in [(home("bob"), 5), (home("bob"), 9), (home("bob"), 7), (group_home("g"), 1)] {
        let batch = ArchiveBatch { cursors: vec![cursor(partition, upto)], ..ArchiveBatch::default() };
        store.archive.write(batch).await.unwrap();
    }
    let mut cursors = store.archive.cursors().await.unwrap();
    cursors.sort_unstable_by_key(|cursor| cursor.partition);
    assert_eq!(cursors, [cursor(home("bob"), 9), cursor(group_home("g"), 1)]);
}

pub(crate) async fn receipts_only_grow_and_read_raises_delivered(store: &Store) {
    let receipt = |status, order| ReceiptRow {
        sender: user("alice"),
        conversation: conversation("user:bob"),
        by: user("bob"),
        status,
        order: at(order),
        at: order,
    };
    let steps = [
        (ReceiptStatus::Delivered, 5, (5, 0)),
        (ReceiptStatus::Read, 8, (8, 8)),
        (ReceiptStatus::Delivered, 3, (8, 8)),
        (ReceiptStatus::Read, 4, (8, 8)),
        (ReceiptStatus::Delivered, 9, (9, 8)),
    ];
    for (status, order, expected) in steps {
        let batch = ArchiveBatch { receipts: vec![receipt(status, order)], ..ArchiveBatch::default() };
        store.archive.write(batch).await.unwrap();
        let state = store.archive.receipt(&user("alice"), &conversation("user:bob"), &user("bob")).await.unwrap();
        let state = state.unwrap();
        assert_eq!((state.delivered.0, state.read.0), expected);
    }
    let reached = |status, order| {
        let (store, alice, bob) = (store.clone(), user("alice"), conversation("user:bob"));
        async move { store.archive.reached(&alice, &bob, status, at(order)).await.unwrap() }
    };
    assert_eq!(reached(ReceiptStatus::Delivered, 1).await, 1);
    assert_eq!(reached(ReceiptStatus::Read, 1_000).await, 0);
    let other = store.archive.receipt(&user("alice"), &conversation("user:bob"), &user("carol")).await.unwrap();
    assert_eq!(other, None);
}

pub(crate) async fn a_batch_that_cannot_be_written_leaves_nothing(store: &Store) {
    let mut batch = ArchiveBatch { cursors: vec![cursor(home("bob"), 30)], ..ArchiveBatch::default() };
    direct(&mut batch, 10, 1, 1);
    batch.stream.push(StreamRow { lamport: u64::MAX, ..event("bob", 20, "user:alice", 2) });
    let error = store.archive.write(batch).await.unwrap_err();
    assert!(matches!(error, StoreError::Broken { table: "stream", .. }), "{error}");
    assert!(store.archive.stream(&user("bob"), home("bob"), at(0), 9).await.unwrap().rows.is_empty());
    assert!(store.archive.cursors().await.unwrap().is_empty());
}

pub(crate) async fn records_that_were_given_up_are_kept(store: &Store) {
    let letter = DeadLetter {
        partition: home("bob"),
        position: at(4),
        by: "archiver",
        error: "it does not decode".to_owned(),
        at: 1,
        bytes: "broken".into(),
    };
    let later = DeadLetter { by: "worker", at: 2, ..letter.clone() };
    let batch =
        ArchiveBatch { dead: vec![letter, later], cursors: vec![cursor(home("bob"), 4)], ..ArchiveBatch::default() };
    store.archive.write(batch.clone()).await.unwrap();
    store.archive.write(batch).await.unwrap();
    assert_eq!(store.archive.cursors().await.unwrap(), [cursor(home("bob"), 4)]);
    let listed = |by: &str, when| DeadLetterRow {
        partition: home("bob"),
        position: at(4),
        by: by.into(),
        error: "it does not decode".into(),
        at: when,
        bytes: 6,
    };
    assert_eq!(store.archive.dead_letters(9).await.unwrap(), [listed("worker", 2), listed("archiver", 1)]);
    assert_eq!(store.archive.dead_letters(1).await.unwrap(), [listed("worker", 2)]);
}

pub(crate) async fn odd_ids_and_large_bodies_come_back_as_they_were(store: &Store) {
    let names = ["a\"b\\c", "naïve 🦀", "user:group:x", "%_'; DROP TABLE stream; --", "\u{2028}\u{feff}"];
    let body: String = "\0\u{1}é\"\\".chars().cycle().take(70_000).collect();
    for name in names {
        let partition = home(name);
        let batch = ArchiveBatch {
            records: vec![record(partition, 5, Some(5), &body), record(partition, 6, None, "")],
            stream: vec![event(name, 5, &format!("user:{name}"), 5), notice(name, 6)],
            users: vec![(user(name), 3)],
            ..ArchiveBatch::default()
        };
        store.archive.write(batch).await.unwrap();
        let page = store.archive.stream(&user(name), partition, at(0), 9).await.unwrap();
        assert_eq!(page.rows.len(), 2, "{name}");
        assert_eq!(page.rows[0].bytes, body.as_bytes(), "{name}");
        assert!(page.rows[1].bytes.is_empty(), "{name}");
        let listed = store.archive.conversations(&user(name), partition, 9).await.unwrap();
        assert_eq!(listed[0].conversation, conversation(&format!("user:{name}")));
        assert_eq!(store.directory.user_since(&UserId::new(name).unwrap()).await.unwrap(), Some(3));
    }
}
