//! Processes that are killed while they write, and write-ahead logs that end anywhere.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use heddle_store::{ArchiveBatch, Store};

use crate::fixture::*;
use crate::{open, run};

/// Events of a batch.
const EVENTS: u64 = 40;
/// Names the database for the process that is killed.
const VICTIM: &str = "HEDDLE_STORE_TEST_VICTIM";

/// The nth batch, from 1: its events, and a cursor at the last of them.
fn batch(nth: u64) -> ArchiveBatch {
    let last = nth * EVENTS;
    let mut batch = ArchiveBatch { cursors: vec![cursor(home("bob"), last)], ..ArchiveBatch::default() };
    for id in last - EVENTS + 1..=last {
        direct(&mut batch, id, id, id);
    }
    batch
}

/// How many batches are there, each whole.
async fn whole_batches(store: &Store) -> u64 {
    let page = store.archive.stream(&user("bob"), home("bob"), at(0), u32::MAX).await.unwrap();
    let positions: Vec<_> = page.rows.iter().map(|row| row.position.0).collect();
    assert_eq!(positions, (1..=page.archived.0).collect::<Vec<_>>(), "the cursor stands at {}", page.archived);
    assert_eq!(page.archived.0 % EVENTS, 0);
    page.archived.0 / EVENTS
}

#[test]
fn what_was_written_before_a_kill_is_there_batch_by_batch() {
    if let Some(path) = std::env::var_os(VICTIM) {
        return write_until_killed(path.as_ref());
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    for round in 1..=4 {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill::what_was_written_before_a_kill_is_there_batch_by_batch", "--nocapture"])
            .env(VICTIM, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(victim.stdout.take().unwrap()).lines();
        let mut written = lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("written ")?.parse().ok());
        let written: u64 = written.find(|number| *number >= round * 25).unwrap();
        victim.kill().unwrap();
        victim.wait().unwrap();
        run(async {
            let store = open(&path).await;
            let found = whole_batches(&store.store()).await;
            assert!(found >= written, "{written} were written, {found} are there");
            store.close().await;
        });
    }
}

/// Writes batch after batch, and tells each that is durable.
fn write_until_killed(path: &Path) {
    run(async {
        let store = open(path).await;
        let archive = store.store().archive;
        for nth in whole_batches(&store.store()).await + 1..=u64::MAX {
            archive.write(batch(nth)).await.unwrap();
            println!("written {nth}");
        }
    });
}

#[tokio::test]
async fn a_write_ahead_log_that_ends_anywhere_holds_whole_batches() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let store = open(&path).await;
    for nth in 1..=6 {
        store.store().archive.write(batch(nth)).await.unwrap();
    }
    // As a power cut leaves them: nothing was closed, and nobody writes meanwhile.
    let wal_of = |path: &Path| path.with_extension("db-wal");
    let (database, wal) = (std::fs::read(&path).unwrap(), std::fs::read(wal_of(&path)).unwrap());
    assert!(wal.len() > 20_000, "{}", wal.len());
    let torn = directory.path().join("torn.db");
    let mut seen = std::collections::BTreeSet::new();
    for cut in 0..=24 {
        let keep = wal.len() * cut / 24;
        for junk in [&[][..], &[0xa5; 3000]] {
            let _ = std::fs::remove_file(torn.with_extension("db-shm"));
            std::fs::write(&torn, &database).unwrap();
            std::fs::write(wal_of(&torn), [&wal[..keep], junk].concat()).unwrap();
            let opened = open(&torn).await;
            let found = whole_batches(&opened.store()).await;
            assert!(cut < 24 || found == 6, "{found} of the whole log");
            seen.insert(found);
            opened.store().archive.write(batch(found + 1)).await.unwrap();
            assert_eq!(whole_batches(&opened.store()).await, found + 1);
            opened.close().await;
        }
    }
    assert!(seen.len() > 4, "only {seen:?} batches were ever left: the cuts prove little");
    store.close().await;
}
