//! Disks without room, directories without permission, processes that are killed.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use heddle_log::{AppendError, Appended, Disk, EmbeddedLog, Log, LogReader, OpenError, SystemDisk};
use heddle_model::ManualClock;

use crate::fixture::*;

/// A disk without a free block once told so: what is in a file can be written over, no file grows.
#[derive(Default)]
struct FullDisk {
    full: AtomicBool,
    /// Not even what is there can be written over, as on a file system that copies on write.
    wholly: AtomicBool,
}

impl Disk for FullDisk {
    fn write(&self, file: &File, bytes: &[u8], at: u64) -> std::io::Result<()> {
        let grows = at + bytes.len() as u64 > file.metadata()?.len();
        if self.wholly.load(Ordering::SeqCst) || grows && self.full.load(Ordering::SeqCst) {
            // A part of it arrives, as it does when the last block is taken.
            SystemDisk.write(file, &bytes[..bytes.len() / 2], at)?;
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        SystemDisk.write(file, bytes, at)
    }

    fn sync(&self, file: &File) -> std::io::Result<()> {
        SystemDisk.sync(file)
    }
}

fn open_on(dir: &std::path::Path, disk: &Arc<FullDisk>) -> Result<Arc<EmbeddedLog>, OpenError> {
    EmbeddedLog::open_with(config(dir), Arc::new(ManualClock::at(1_000_000)), disk.clone())
}

/// Appends until one is refused; answers how many stand then.
async fn fill_up(log: &EmbeddedLog, mut next: usize) -> (usize, AppendError) {
    loop {
        match log.append(P0, Some(id(next)), text(next)).await {
            Ok(Appended::New(place)) => assert_eq!(place.offset, next as u64),
            Ok(existing) => panic!("{next}: {existing:?}"),
            Err(error) => return (next, error),
        }
        next += 1;
        assert!(next < 500, "the disk is never full");
    }
}

#[tokio::test]
async fn on_a_full_disk_appends_are_refused_whole_and_go_on_when_there_is_room() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Arc::new(FullDisk::default()));
    let log = open_on(dir.path(), &disk).unwrap();
    fill(&*log, 0..5).await;
    disk.full.store(true, Ordering::SeqCst);
    let (count, error) = fill_up(&log, 5).await;
    assert!(matches!(&error, AppendError::Refused { reason, .. } if reason.contains("free space")), "{error}");

    // Nothing of it is visible, now or later, and what stands is read.
    assert_eq!(*log.head(P0).borrow(), count as u64);
    assert_eq!(log.lookup(&id(count), false).await.unwrap(), None);
    assert_eq!(all(&*log).await, (0..count).map(text).collect::<Vec<_>>());
    assert_eq!(LogReader::open(dir.path()).unwrap().entries().unwrap().count(), count);
    let known = log.append(P0, Some(id(0)), text(0)).await;
    assert!(matches!(known, Ok(Appended::Existing(place)) if place.offset == 0), "{known:?}");
    assert!(log.failed().borrow().is_none(), "a full disk is no reason to close");

    disk.full.store(false, Ordering::SeqCst);
    fill(&*log, count..count + 30).await;
    disk.full.store(true, Ordering::SeqCst);
    let (count, _) = fill_up(&log, count + 30).await;
    drop(log);

    // It opens on the full disk too, and reads.
    let log = open_on(dir.path(), &disk).unwrap();
    assert_eq!(all(&*log).await, (0..count).map(text).collect::<Vec<_>>());
    assert!(matches!(log.append(P0, Some(id(count)), text(count)).await, Err(AppendError::Refused { .. })));
    disk.full.store(false, Ordering::SeqCst);
    fill(&*log, count..count + 5).await;
}

#[tokio::test]
async fn a_frame_that_found_no_room_closes_the_log_and_is_gone_when_it_opens() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Arc::new(FullDisk::default()));
    let log = open_on(dir.path(), &disk).unwrap();
    fill(&*log, 0..5).await;
    disk.wholly.store(true, Ordering::SeqCst);
    let large = vec![7; 9000];
    let error = log.append(P0, Some(id(5)), large.clone().into()).await.unwrap_err();
    assert!(matches!(error, AppendError::Unknown { .. }), "{error}");
    assert_eq!((*log.head(P0).borrow(), log.lookup(&id(5), false).await.unwrap()), (5, None));
    disk.wholly.store(false, Ordering::SeqCst);
    let error = log.append(P0, Some(id(5)), text(5)).await.unwrap_err();
    assert!(matches!(error, AppendError::Refused { .. }), "{error}");
    drop(log);
    let log = open_on(dir.path(), &disk).unwrap();
    assert_eq!(all(&*log).await, (0..5).map(text).collect::<Vec<_>>());
    fill(&*log, 5..8).await;
}

#[test]
fn a_log_that_finds_no_room_for_its_first_segment_says_so_and_is_made_later() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Arc::new(FullDisk::default()));
    disk.full.store(true, Ordering::SeqCst);
    let error = open_on(dir.path(), &disk).unwrap_err();
    assert!(matches!(&error, OpenError::Full { .. }) && error.to_string().contains("free space"), "{error}");
    disk.full.store(false, Ordering::SeqCst);
    open_on(dir.path(), &disk).unwrap();
}

#[test]
fn a_directory_that_cannot_be_written_or_is_none_says_what_to_do() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "something").unwrap();
    let error = EmbeddedLog::open(config(&file), Arc::new(ManualClock::at(0))).unwrap_err();
    assert!(matches!(&error, OpenError::NoDirectory { path } if *path == file), "{error}");
    let error = EmbeddedLog::open(config(&file.join("below")), Arc::new(ManualClock::at(0))).unwrap_err();
    assert!(matches!(&error, OpenError::NoDirectory { path } if *path == file), "{error}");

    let closed = dir.path().join("closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o555)).unwrap();
    if std::fs::write(closed.join("probe"), []).is_ok() {
        println!("skipped: this user may write into every directory");
        return;
    }
    for path in [closed.clone(), closed.join("below")] {
        let error = EmbeddedLog::open(config(&path), Arc::new(ManualClock::at(0))).unwrap_err();
        assert!(matches!(&error, OpenError::ReadOnly { .. }), "{error}");
        assert!(error.to_string().contains("write permission"), "{error}");
    }
}

/// Names the directory for the process that is killed; without it the test below it does nothing but its own part.
const VICTIM: &str = "HEDDLE_LOG_TEST_VICTIM";

#[test]
fn what_was_accepted_before_a_kill_is_there_once() {
    if let Some(dir) = std::env::var_os(VICTIM) {
        return append_until_killed(dir.as_ref());
    }
    let dir = tempfile::tempdir().unwrap();
    let mut accepted = 0;
    for round in 1..=3 {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "full::what_was_accepted_before_a_kill_is_there_once", "--nocapture"])
            .env(VICTIM, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(victim.stdout.take().unwrap()).lines();
        let numbers = lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("accepted ")?.parse().ok());
        accepted = numbers.into_iter().find(|number: &usize| *number >= round * 300).unwrap();
        victim.kill().unwrap();
        victim.wait().unwrap();

        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let log = open(dir.path());
            let found = all(&*log).await;
            assert!(found.len() > accepted, "{accepted} was accepted, {} are there", found.len());
            assert_eq!(found, (0..found.len()).map(text).collect::<Vec<_>>());
            for n in 0..found.len() {
                let again = log.append(P0, Some(id(n)), text(n)).await;
                assert!(matches!(again, Ok(Appended::Existing(place)) if place.offset == n as u64), "{n}: {again:?}");
            }
        });
    }
    assert!(accepted >= 900);
}

/// Appends the numbers from the log's head on, a few at once, and tells each that was accepted.
fn append_until_killed(dir: &std::path::Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let log = open(dir);
        let mut next = *log.head(P0).borrow() as usize;
        loop {
            let few =
                futures_util::future::join_all((next..next + 7).map(|n| log.append(P0, Some(id(n)), text(n)))).await;
            assert!(few.iter().all(Result::is_ok), "{few:?}");
            next += 7;
            println!("accepted {}", next - 1);
        }
    });
}
