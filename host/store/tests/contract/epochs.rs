//! Lives of the log. (DELIVERY rule 2.)

use heddle_model::Position;
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
