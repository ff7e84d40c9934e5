//! What only the log on disk does: restarts, torn tails, faults, retention, directories that are wrong.
#![allow(clippy::print_stdout, reason = "a skip is printed, and a process that is to be killed tells how far it is")]

mod durable;
mod fixture;
mod full;
mod ids;
mod torn;

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use heddle_log::{
    AppendError, Appended, Derived, Disk, EmbeddedLog, Log, LogConfig, LogReader, OpenError, ReadError, SystemDisk,
};
use heddle_model::{ManualClock, TopicPartition};

use fixture::*;

#[tokio::test]
async fn everything_is_there_after_each_of_many_restarts_over_many_segments() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..6 {
        let log = open(dir.path());
        assert_eq!(all(&*log).await, (0..round * 40).map(text).collect::<Vec<_>>());
        fill(&*log, round * 40..(round + 1) * 40).await;
        log.derive(Derived { source: P0, upto: (round * 40) as u64, records: Vec::new(), patient: false })
            .await
            .unwrap();
        let again = log.append(P0, Some(id(3)), text(3)).await;
        assert!(matches!(again, Ok(Appended::Existing(place)) if place.offset == 3));
        log.close();
        assert!(matches!(log.append(P0, None, text(0)).await, Err(AppendError::Refused { .. })));
    }
    let log = open(dir.path());
    assert_eq!(log.derived(P0), 200);
    assert!(segments(dir.path()).len() > 5);
}

#[tokio::test]
async fn ids_are_known_after_the_index_was_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    fill(&*log, 0..100).await;
    drop(log);
    std::fs::remove_dir_all(dir.path().join("ids")).unwrap();
    let log = open(dir.path());
    for n in 0..100 {
        let again = log.append(P0, Some(id(n)), text(n)).await;
        assert!(matches!(again, Ok(Appended::Existing(place)) if place.offset == n as u64), "{n}");
    }
}

/// Counts syncs; fails them once told to.
#[derive(Default)]
struct FaultyDisk {
    syncs: AtomicUsize,
    broken: AtomicBool,
}

impl Disk for FaultyDisk {
    fn write(&self, file: &File, bytes: &[u8], at: u64) -> std::io::Result<()> {
        SystemDisk.write(file, bytes, at)
    }

    fn sync(&self, file: &File) -> std::io::Result<()> {
        self.syncs.fetch_add(1, Ordering::SeqCst);
        if self.broken.load(Ordering::SeqCst) { Err(std::io::ErrorKind::Other.into()) } else { SystemDisk.sync(file) }
    }
}

#[tokio::test]
async fn a_commit_carries_many_records_and_one_sync() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Arc::new(FaultyDisk::default()));
    let settings = LogConfig { partitions: 2, ..LogConfig::new(dir.path()) };
    let log = EmbeddedLog::open_with(settings, Arc::new(ManualClock::at(0)), disk.clone()).unwrap();
    let answers = futures_util::future::join_all((0..1000).map(|n| log.append(P0, Some(id(n)), text(n)))).await;
    assert!(answers.iter().all(Result::is_ok));
    let syncs = disk.syncs.load(Ordering::SeqCst);
    assert!(syncs <= 200, "{syncs} syncs for 1000 records");
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_accepted_until_the_log_is_opened_anew() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Arc::new(FaultyDisk::default()));
    let log = EmbeddedLog::open_with(config(dir.path()), Arc::new(ManualClock::at(0)), disk.clone()).unwrap();
    fill(&*log, 0..3).await;
    disk.broken.store(true, Ordering::SeqCst);
    assert!(matches!(log.append(P0, Some(id(3)), text(3)).await, Err(AppendError::Unknown { .. })));
    disk.broken.store(false, Ordering::SeqCst);
    assert!(matches!(log.append(P0, Some(id(4)), text(4)).await, Err(AppendError::Refused { .. })));
    assert!(log.failed().borrow().is_some());
    assert_eq!(*log.head(P0).borrow(), 3);
    assert_eq!(log.lookup(&id(3), false).await.unwrap(), None);
    drop(log);
    let log = open(dir.path());
    assert_eq!(all(&*log).await[..3], (0..3).map(text).collect::<Vec<_>>());
}

#[tokio::test]
async fn retention_removes_old_segments_below_both_cursors_only() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Arc::new(ManualClock::at(1_000)));
    let settings = LogConfig { retention_ms: 10, cache_bytes_max: 0, ..config(dir.path()) };
    let log = EmbeddedLog::open(settings, clock.clone()).unwrap();
    fill(&*log, 0..100).await;
    clock.advance(1_000);
    assert_eq!(log.enforce_retention(), 0, "no cursor has moved");
    log.derive(Derived { source: P0, upto: 50, records: Vec::new(), patient: false }).await.unwrap();
    assert_eq!(log.enforce_retention(), 0, "the archive has nothing");
    log.archived(P0, 100);
    let before = segments(dir.path()).len();
    let removed = log.enforce_retention();
    assert!(removed > 0);
    assert_eq!(segments(dir.path()).len(), before - removed);
    let start = log.start_offset(P0);
    assert!(start > 0 && start <= 50, "{start}");
    assert_eq!(log.read(P0, 0, 1).await.unwrap_err(), ReadError::Gone { partition: P0, from: 0, start });
    assert_eq!(log.read(P0, start, 1).await.unwrap().records[0].bytes, text(start as usize));
    assert!(matches!(log.append(P0, Some(id(0)), text(0)).await, Ok(Appended::Existing(_))));
}

#[tokio::test]
async fn what_nobody_waits_for_shares_the_commit_of_what_comes_next() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Arc::new(ManualClock::at(0)));
    let disk = Arc::new(FaultyDisk::default());
    let settings = LogConfig { derive_linger_ms: 3_600_000, ..config(dir.path()) };
    let log = EmbeddedLog::open_with(settings, clock, disk.clone()).unwrap();
    fill(&*log, 0..1).await;
    let syncs = disk.syncs.load(Ordering::SeqCst);
    let other = TopicPartition { partition: 1, ..P0 };
    let copy = |upto, patient| Derived { source: P0, upto, records: vec![(other, text(9))], patient };
    let mut waits = std::pin::pin!(log.derive(copy(1, true)));
    assert!(tokio::time::timeout(Duration::from_millis(50), &mut waits).await.is_err(), "it was committed alone");
    fill(&*log, 1..2).await;
    assert_eq!(waits.await.unwrap(), [0]);
    assert_eq!(disk.syncs.load(Ordering::SeqCst), syncs + 1);
    // What somebody waits for has its commit, and a log that closes leaves nothing behind.
    assert_eq!(log.derive(copy(2, false)).await.unwrap(), [1]);
    let mut waits = std::pin::pin!(log.derive(copy(2, true)));
    assert!(tokio::time::timeout(Duration::from_millis(50), &mut waits).await.is_err());
    let closing = log.clone();
    tokio::task::spawn_blocking(move || closing.close()).await.unwrap();
    assert_eq!(waits.await.unwrap(), [2]);
}

#[tokio::test]
async fn an_id_is_forgotten_after_the_window() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Arc::new(ManualClock::at(1_000)));
    let settings = LogConfig { dedupe_window_ms: 100, ..config(dir.path()) };
    let log = EmbeddedLog::open(settings, clock.clone()).unwrap();
    fill(&*log, 0..1).await;
    clock.advance(101);
    assert_eq!(log.lookup(&id(0), false).await.unwrap(), None);
    assert!(matches!(log.append(P0, Some(id(0)), text(0)).await, Ok(Appended::New(_))));
}

#[tokio::test]
async fn at_the_disk_bound_appends_are_refused_and_derivations_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let settings = LogConfig { bytes_max: Some(128 << 10), ..config(dir.path()) };
    let log = EmbeddedLog::open(settings, Arc::new(ManualClock::at(0))).unwrap();
    let mut accepted = 0;
    let refusal = loop {
        match log.append(P0, None, text(1)).await {
            Ok(_) => accepted += 1,
            Err(error) => break error,
        }
        assert!(accepted < 100, "the bound never came");
    };
    assert!(matches!(&refusal, AppendError::Refused { reason, .. } if reason.contains("log.bytes_max")), "{refusal}");
    log.derive(Derived { source: P0, upto: accepted, records: vec![(P0, text(2))], patient: false }).await.unwrap();
}

#[test]
fn a_directory_that_cannot_be_used_says_why_and_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(0));
    let log = open(dir.path());
    let error = EmbeddedLog::open(config(dir.path()), clock.clone()).unwrap_err();
    assert!(error.to_string().contains(&format!("in use by process {}", std::process::id())), "{error}");
    drop(log);
    let other = LogConfig { partitions: 3, ..config(dir.path()) };
    let error = EmbeddedLog::open(other, clock.clone()).unwrap_err();
    assert!(matches!(error, OpenError::Partitions { found: 2, configured: 3, .. }), "{error}");
    let meta = dir.path().join("heddle-log");
    let text = std::fs::read_to_string(&meta).unwrap();
    std::fs::write(&meta, text.replace("format 1", "format 2")).unwrap();
    let error = EmbeddedLog::open(config(dir.path()), clock.clone()).unwrap_err();
    assert!(matches!(error, OpenError::Newer { found: 2, known: 1, .. }), "{error}");
    let missing = LogConfig { create: false, ..config(&dir.path().join("not-there")) };
    assert!(matches!(EmbeddedLog::open(missing, clock), Err(OpenError::Missing { .. })));
}

#[tokio::test]
async fn a_reader_walks_a_log_that_is_open() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    fill(&*log, 0..90).await;
    let reader = LogReader::open(dir.path()).unwrap();
    assert_eq!(reader.layout(), log.layout());
    let entries: Vec<_> = reader.records(P0, 70).unwrap().map(Result::unwrap).collect();
    assert_eq!(
        entries.iter().map(|entry| entry.bytes.clone()).collect::<Vec<_>>(),
        (70..90).map(text).collect::<Vec<_>>()
    );
    assert_eq!((entries[0].place.offset, entries[0].id), (70, Some(id(70))));
    assert_eq!(reader.entries().unwrap().count(), 90);
}
