//! Many writers of the same rows, as when an archiver that was thought dead wakes up beside its successor.

use heddle_model::{DeviceId, Digest, UserId};
use heddle_store::{ArchiveBatch, AuditEntry, CatalogGeneration, DeviceRow, PostgresStore, StoreError};
use heddle_test_servers::{Postgres, or_skip};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::fixture::*;
use crate::steps::{batch, batches, parts, steps};
use crate::{config, dump, open};

const WRITERS: usize = 8;

async fn together(url: &str, works: Vec<Vec<ArchiveBatch>>) {
    let mut writers = Vec::new();
    for batches in works {
        let store = open(config(url)).await;
        writers.push(tokio::spawn(async move {
            for batch in &batches {
                crate::write_stubbornly(&store, batch).await;
            }
            store.close().await;
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
}

/// Cases of a property, each with a runtime of its own.
pub(crate) fn cases<S: Strategy>(count: u32, strategy: S, mut case: impl FnMut(S::Value)) {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(count) };
    let mut cases = TestRunner::new(config);
    let case = std::cell::RefCell::new(&mut case);
    cases
        .run(&strategy, |value| {
            (case.borrow_mut())(value);
            Ok(())
        })
        .unwrap();
}

pub(crate) fn run(case: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(case);
}

#[test]
fn eight_writers_of_the_same_batch_leave_one_copy() {
    let Some(server) = or_skip(Postgres::shared()) else { return };
    cases(5, steps(), |steps| {
        run(async {
            let (once, often) = (server.database(), server.database());
            let whole = batch(&steps, 0..steps.len());
            together(&once, vec![vec![whole.clone()]]).await;
            together(&often, vec![vec![whole]; WRITERS]).await;
            assert_eq!(dump(&often).await, dump(&once).await);
        });
    });
}

#[test]
fn batches_written_twice_or_overlapping_by_two_at_once_leave_the_rows_of_one_batch() {
    let Some(server) = or_skip(Postgres::shared()) else { return };
    cases(8, (steps(), parts(), parts()), |(steps, one, other)| {
        run(async {
            let (once, often) = (server.database(), server.database());
            let whole = batch(&steps, 0..steps.len());
            together(&once, vec![vec![whole.clone()]]).await;
            // Each begins at the start: whoever is ahead has applied every change of a group before.
            together(&often, vec![batches(&steps, &one), batches(&steps, &other)]).await;
            assert_eq!(dump(&often).await, dump(&once).await);
        });
    });
}

#[test]
fn writers_of_other_partitions_and_the_same_people_do_not_wait_for_each_other_for_ever() {
    let Some(server) = or_skip(Postgres::shared()) else { return };
    run(async {
        let url = server.database();
        let names: Vec<UserId> = (0..50).map(|n| user(&format!("user {n}"))).collect();
        let works = (0..WRITERS as u64).map(|writer| {
            let rounds = (1..=20).map(|round| {
                let mut users: Vec<(UserId, u64)> = names.iter().map(|user| (user.clone(), 1_000 - round)).collect();
                let users_len = users.len();
                users.rotate_left((writer as usize * 7 + round as usize) % users_len);
                let partition = heddle_model::TopicPartition::messages(writer as u32);
                ArchiveBatch { users, cursors: vec![cursor(partition, round)], ..ArchiveBatch::default() }
            });
            rounds.collect()
        });
        together(&url, works.collect()).await;
        let store = open(config(&url)).await;
        assert_eq!(store.store().archive.cursors().await.unwrap().len(), WRITERS);
        for name in &names {
            assert_eq!(store.store().directory.user_since(name).await.unwrap(), Some(980));
        }
    });
}

async fn many(url: &str) -> Vec<PostgresStore> {
    let mut stores = Vec::new();
    for _ in 0..WRITERS {
        stores.push(open(config(url)).await);
    }
    stores
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_eight_deployments_with_one_number_one_wins() {
    let Some(server) = or_skip(Postgres::shared()) else { return };
    let url = server.database();
    for number in 1..=10 {
        let tries = many(&url).await.into_iter().enumerate().map(|(who, store)| {
            let generation =
                CatalogGeneration { number, content: Digest::of(b"x"), json: "{}".into(), at: 1, why: "a\0b".into() };
            let audit = AuditEntry {
                at: number,
                who: who.to_string(),
                what: "deploy".into(),
                why: String::new(),
                detail: String::new(),
            };
            tokio::spawn(async move { store.store().catalog.add_generation(generation, audit).await.unwrap() })
        });
        let mut won = 0;
        for attempt in tries.collect::<Vec<_>>() {
            won += usize::from(attempt.await.unwrap());
        }
        assert_eq!(won, 1, "of generation {number}");
    }
    let store = open(config(&url)).await.store();
    let audit = store.catalog.audit(100).await.unwrap();
    assert_eq!(audit.iter().map(|entry| entry.at).collect::<Vec<_>>(), (1..=10).rev().collect::<Vec<_>>());
    // Postgres' texts hold every character but NUL.
    assert_eq!(store.catalog.newest_generation().await.unwrap().unwrap().why, "a\u{fffd}b");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_find_the_same_log_new_agree_on_its_epoch() {
    let Some(server) = or_skip(Postgres::shared()) else { return };
    let url = server.database();
    for life in 0..5_u8 {
        let asked = many(&url).await.into_iter().map(|store| {
            tokio::spawn(async move { store.store().epochs.epoch([life; 16], 16, &[(home("bob"), 0)]).await.unwrap() })
        });
        for epoch in asked.collect::<Vec<_>>() {
            assert_eq!(epoch.await.unwrap(), u32::from(life));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_with_a_nul_is_no_poison() {
    let Some(server) = or_skip(Postgres::shared()) else { return };
    let store = open(config(&server.database())).await.store();
    let mut group = made("g", 5, &["alice"]);
    group.name = Some("a\0b".into());
    store.archive.write(ArchiveBatch { groups: vec![group], ..ArchiveBatch::default() }).await.unwrap();
    assert_eq!(&*store.groups.group(&crate::fixture::group("g")).await.unwrap().unwrap().name, "a\u{fffd}b");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_beyond_all_positions_is_broken_and_not_tried_for_ever() {
    let Some(server) = or_skip(Postgres::shared()) else { return };
    let store = open(config(&server.database())).await.store();
    let mut batch = ArchiveBatch::default();
    direct(&mut batch, 1 << 53, 1, 1);
    let error = store.archive.write(batch).await.unwrap_err();
    assert!(matches!(error, StoreError::Broken { table: "records", .. }), "{error}");
    let far = DeviceRow::new(DeviceId::new("d").unwrap(), at(u64::MAX), 1, 0);
    let error = store.devices.save_devices(vec![(user("bob"), far)], 20).await.unwrap_err();
    assert!(matches!(error, StoreError::Broken { table: "devices", .. }), "{error}");
}
