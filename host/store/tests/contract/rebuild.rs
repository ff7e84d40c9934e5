//! Making rows of the archive anew.

use heddle_model::{Position, ReceiptStatus, Role};
use heddle_store::{
    ArchiveBatch, GroupLogRow, HistoryAnchor, ReceiptCut, ReceiptKept, ReceiptRow, Store, Stretch, StretchRows,
};

use crate::fixture::*;

fn above(name: &str, after: u64) -> Stretch {
    Stretch { partition: home(name), after: at(after), upto: at((1 << 53) - 1) }
}

pub(crate) async fn a_stretch_reads_back_and_is_replaced_whole(store: &Store) {
    store.rebuild.prepare_rebuild().await.unwrap();
    let mut batch = ArchiveBatch::default();
    for id in 1..=6 {
        direct(&mut batch, id * 10, 100 - id, id);
    }
    batch.stream.push(notice("bob", 35));
    batch.records.push(record(home("bob"), 35, None, "a notice"));
    store.archive.write(batch.clone()).await.unwrap();
    let read = store.rebuild.stretch(Stretch { upto: at(50), ..above("bob", 30) }).await.unwrap();
    let between = |position: Position| position > at(30) && position <= at(50);
    let mut expected = batch.clone();
    expected.records.retain(|row| between(row.position));
    expected.stream.retain(|row| between(row.position));
    let sorted = |mut rows: StretchRows| {
        rows.records.sort_by_key(|row| row.position);
        rows.stream.sort_by_key(|row| row.position);
        rows
    };
    let expected = StretchRows { records: expected.records, stream: expected.stream, pulled: Vec::new() };
    assert_eq!(sorted(read), sorted(expected));
    let newest = store.rebuild.records_below(home("bob"), at(50), 2).await.unwrap();
    assert_eq!(newest.iter().map(|row| row.position.0).collect::<Vec<_>>(), [40, 35]);

    // One of another partition stands where one of these belongs.
    let mut strayed = event("bob", 60, "user:carol", 6);
    strayed.partition = home("alice");
    let mut other = ArchiveBatch::default();
    direct(&mut other, 60, 1, 6);
    store.rebuild.replace(above("bob", 50), ArchiveBatch { stream: vec![strayed], ..other.clone() }).await.unwrap();
    store.rebuild.replace(above("bob", 50), other).await.unwrap();
    let page = store.archive.stream(&user("bob"), home("bob"), at(0), 99).await.unwrap();
    assert_eq!(page.rows.len(), 7);
    store.rebuild.replace(above("bob", 20), ArchiveBatch::default()).await.unwrap();
    let page = store.archive.stream(&user("bob"), home("bob"), at(0), 99).await.unwrap();
    assert_eq!(page.rows.iter().map(|row| row.position.0).collect::<Vec<_>>(), [10, 20]);
    // The newest of the conversation is gone.
    let stretches = [above("alice", 0), above("bob", 20)];
    assert_eq!(store.rebuild.remake_conversations(&stretches, false).await.unwrap(), 2);
    assert_eq!(store.rebuild.remake_conversations(&stretches, true).await.unwrap(), 2);
    assert_eq!(store.rebuild.remake_conversations(&stretches, true).await.unwrap(), 0);
    let listed = store.archive.conversations(&user("bob"), home("bob"), 9).await.unwrap();
    assert_eq!(listed.iter().map(|row| row.position.0).collect::<Vec<_>>(), [20]);
    let page = history(store, "bob", "user:alice", HistoryAnchor::Newest, 9).await;
    assert_eq!(bodies(&page), ["m2", "m1"]);
    store.rebuild.end_rebuild().await.unwrap();
}

pub(crate) async fn what_may_be_pulled_reads_back(store: &Store) {
    let mut batch = ArchiveBatch::default();
    pulled(&mut batch, "g", 10, "alice", 1);
    pulled(&mut batch, "g", 20, "bob", 2);
    batch.group_log[1].only = Some(vec![user("carol"), user("alice")]);
    let rows: Vec<GroupLogRow> = batch.group_log.clone();
    store.archive.write(batch).await.unwrap();
    let stretch = Stretch { partition: group_home("g"), after: at(0), upto: at(20) };
    let mut read = store.rebuild.stretch(stretch).await.unwrap().pulled;
    read.sort_by_key(|row| row.order);
    assert_eq!(read, rows);
    assert_eq!(store.rebuild.groups_above(None, 9).await.unwrap(), [(group("g"), at(20))]);
    store.rebuild.set_head(&group("g"), at(10)).await.unwrap();
    assert_eq!(store.rebuild.groups_above(None, 9).await.unwrap(), [(group("g"), at(10))]);
    store.rebuild.set_head(&group("g"), at(0)).await.unwrap();
    assert!(store.rebuild.groups_above(None, 9).await.unwrap().is_empty());
}

pub(crate) async fn a_group_goes_back_and_its_changes_are_applied_again(store: &Store) {
    let promoted = heddle_store::MemberDelta::Role(user("carol"), Role::Admin);
    let later = vec![
        change("g", 20, vec![joined("carol"), left("bob")]),
        change("g", 30, vec![joined("bob"), promoted]),
        change("g", 40, vec![left("carol")]),
    ];
    let groups = [vec![made("g", 10, &["alice", "bob"])], later.clone(), vec![made("h", 50, &["bob"])]].concat();
    store.archive.write(ArchiveBatch { groups: groups.clone(), ..ArchiveBatch::default() }).await.unwrap();
    let (g, h) = (group("g"), group("h"));
    let whole = store.groups.group(&g).await.unwrap();
    let again =
        async |group, after, changes, keep| store.rebuild.remake_group(group, at(after), changes, keep).await.unwrap();
    assert!(!again(&g, 10, later.clone(), true).await);
    assert!(!again(&g, 0, groups[..4].to_vec(), true).await);
    assert_eq!(store.groups.group(&g).await.unwrap(), whole);
    // Without its changes it is where it was; a trial changes nothing.
    assert!(again(&g, 10, Vec::new(), false).await);
    assert_eq!(store.groups.group(&g).await.unwrap(), whole);
    assert!(again(&g, 10, Vec::new(), true).await);
    let back = store.groups.group(&g).await.unwrap().unwrap();
    assert_eq!((back.order, back.members.len()), (at(10), 2));
    assert!(back.members.iter().all(|member| member.left.is_none()));
    assert!(again(&g, 10, later.clone(), true).await);
    assert_eq!(store.groups.group(&g).await.unwrap(), whole);
    // One that the log does not know is no more, and is made again.
    assert!(again(&h, 10, Vec::new(), true).await);
    assert_eq!(store.groups.group(&h).await.unwrap(), None);
    assert!(again(&h, 10, vec![made("h", 50, &["bob"])], true).await);
    assert_eq!(store.groups.group(&h).await.unwrap().unwrap().members.len(), 1);
}

pub(crate) async fn receipts_are_cut_back_and_said_again(store: &Store) {
    let receipt = |by: &str, status, order| ReceiptRow {
        sender: user("alice"),
        conversation: conversation(&format!("user:{by}")),
        by: user(by),
        status,
        order: at(order),
        at: order * 10,
    };
    let receipts = vec![
        receipt("bob", ReceiptStatus::Read, 3),
        receipt("bob", ReceiptStatus::Delivered, 9),
        receipt("carol", ReceiptStatus::Delivered, 4),
    ];
    store.archive.write(ArchiveBatch { receipts, ..ArchiveBatch::default() }).await.unwrap();
    let rows = store.rebuild.receipts_above(None, 9).await.unwrap();
    let kept = |by: &str, delivered, read, said| ReceiptKept {
        sender: user("alice"),
        conversation: conversation(&format!("user:{by}")),
        by: user(by),
        delivered: at(delivered),
        read: at(read),
        at: said,
    };
    assert_eq!(rows, [kept("bob", 9, 3, 90), kept("carol", 4, 0, 40)]);
    assert_eq!(store.rebuild.receipts_above(Some(&rows[0]), 9).await.unwrap(), rows[1..]);
    let cut =
        |row: &ReceiptKept, delivered, read| ReceiptCut { row: row.clone(), delivered: at(delivered), read: at(read) };
    let anew = vec![receipt("bob", ReceiptStatus::Delivered, 7)];
    store.rebuild.remake_receipts(vec![cut(&rows[0], 3, 3), cut(&rows[1], 0, 0)], anew).await.unwrap();
    assert_eq!(store.rebuild.receipts_above(None, 9).await.unwrap(), [kept("bob", 7, 3, 70)]);
}
