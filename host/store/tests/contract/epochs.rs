//! Lives of the log. (DELIVERY rule 2.)

use heddle_model::{Position, TopicPartition};
use heddle_store::{ArchiveBatch, Cursor, Store};

use crate::fixture::*;

async fn cover(store: &Store, upto: Position) {
    let covered = Cursor { upto, ..cursor(home("bob"), 0) };
    store.archive.write(ArchiveBatch { cursors: vec![covered], ..ArchiveBatch::default() }).await.unwrap();
}

pub(crate) async fn a_log_keeps_its_epoch_and_another_gets_the_next(store: &Store) {
    let heads = [(home("bob"), 0)];
    for (identity, partitions, expected) in [(1, 16, 0), (1, 16, 0), (2, 16, 1), (1, 100, 2), (1, 100, 2), (2, 16, 1)] {
        let epoch = store.epochs.epoch([identity; 16], partitions, &heads).await.unwrap();
        assert_eq!(epoch, expected, "log {identity} of {partitions}");
    }
}

pub(crate) async fn a_log_that_lost_records_gets_a_new_epoch(store: &Store) {
    assert_eq!(store.epochs.epoch([1; 16], 16, &[]).await.unwrap(), 0);
    // The records at offsets 0 to 4 are covered: the head, the next offset, must be at least 5.
    cover(store, Position::new(0, 4)).await;
    assert_eq!(store.epochs.epoch([1; 16], 16, &[(home("bob"), 5)]).await.unwrap(), 0);
    assert_eq!(store.epochs.epoch([1; 16], 16, &[(home("bob"), 4)]).await.unwrap(), 1);
    // From now on the cursor is of an older epoch, which lies below everything.
    assert_eq!(store.epochs.epoch([1; 16], 16, &[(home("bob"), 0)]).await.unwrap(), 1);
}

pub(crate) async fn an_older_log_that_comes_back_gets_a_new_epoch(store: &Store) {
    assert_eq!(store.epochs.epoch([1; 16], 16, &[]).await.unwrap(), 0);
    assert_eq!(store.epochs.epoch([2; 16], 16, &[]).await.unwrap(), 1);
    cover(store, Position::new(1, 0)).await;
    assert_eq!(store.epochs.epoch([1; 16], 16, &[(home("bob"), 1_000)]).await.unwrap(), 2);
}

pub(crate) async fn a_new_life_of_the_log_begins_after_a_hole(store: &Store) {
    let (bob, heads) = (user("bob"), [(home("bob"), 0)]);
    assert_eq!(store.epochs.epoch([1; 16], 16, &heads).await.unwrap(), 0);
    assert_eq!(store.epochs.holes().await.unwrap(), []);
    cover(store, Position::new(0, 4)).await;
    assert_eq!(store.epochs.epoch([2; 16], 16, &heads).await.unwrap(), 1);
    let holes = store.epochs.holes().await.unwrap();
    let [hole] = holes.as_slice() else { panic!("{holes:?}") };
    assert_eq!((hole.partition, hole.after), (home("bob"), Position::new(0, 4)));
    assert!(!hole.certain());
    assert!(hole.contains(Position::new(0, 5)) && !hole.contains(Position::new(0, 4)));
    assert!(hole.contains(hole.upto) && !hole.contains(Position::new(1, 0)));

    // The same again is one row.
    assert_eq!(store.epochs.epoch([2; 16], 16, &heads).await.unwrap(), 1);
    store.epochs.add_hole(*hole).await.unwrap();
    assert_eq!(store.epochs.holes().await.unwrap(), holes);
    for _ in 0..2 {
        store.epochs.add_loss(&bob, hole.upto).await.unwrap();
    }
    assert_eq!(store.epochs.losses(&bob).await.unwrap(), [hole.upto]);
    assert_eq!(store.epochs.losses(&user("alice")).await.unwrap(), []);

    // Homes are others with another number of partitions: nothing is said of it.
    assert_eq!(store.epochs.epoch([2; 16], 32, &heads).await.unwrap(), 2);
    assert_eq!(store.epochs.holes().await.unwrap(), holes);
}

pub(crate) async fn a_log_is_cut_anew_once_everything_below_the_cut_is_covered(store: &Store) {
    let (of, bob, carol) = ([3; 16], home("bob"), TopicPartition::groups(2));
    assert_eq!(store.epochs.newest().await.unwrap(), None);
    assert_eq!(store.epochs.epoch(of, 8, &[(bob, 0), (carol, 0)]).await.unwrap(), 0);
    let starts = [(carol, 0), (bob, 5)];
    let cut = || store.epochs.repartition(of, 16, &starts);

    assert_eq!(cut().await.unwrap(), None, "nothing is covered");
    cover(store, Position::new(0, 4)).await;
    assert_eq!(cut().await.unwrap(), None, "archived, and not derived from");
    store.archive.keep_derived(&[(bob, Position::new(0, 3))]).await.unwrap();
    assert_eq!(cut().await.unwrap(), None, "one is missing");
    assert_eq!(store.epochs.newest().await.unwrap(), Some((of, 8)));
    store.archive.keep_derived(&[(bob, Position::new(0, 4))]).await.unwrap();
    for _ in 0..2 {
        assert_eq!(cut().await.unwrap(), Some(1));
        assert_eq!(store.epochs.newest().await.unwrap(), Some((of, 16)));
        assert_eq!(store.epochs.epoch(of, 16, &[(bob, 5), (carol, 0)]).await.unwrap(), 1);
        assert_eq!(store.epochs.starts(1).await.unwrap(), starts);
        assert_eq!(store.epochs.starts(0).await.unwrap(), []);
    }
    // Both go on where the partition does, above everything of the epoch before.
    let before = Position(Position::new(1, 5).0 - 1);
    let [archived] = store.archive.cursors().await.unwrap().try_into().unwrap();
    assert_eq!((archived.partition, archived.upto), (bob, before));
    assert_eq!(store.archive.derived().await.unwrap(), [(bob, before)]);
    assert_eq!(before.next_offset(1), Some(5));
    assert_eq!(store.epochs.holes().await.unwrap(), [], "nothing is gone");
}
