//! The id index is a cache: whatever becomes of it, an id is known exactly if its record is in the log.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use heddle_log::{Appended, EmbeddedLog, Log};

use crate::fixture::*;

/// Ids below `kept` are known at their places, the next is not: it is appended.
async fn knows_exactly(log: &EmbeddedLog, kept: usize, case: &str) {
    for n in 0..kept {
        let again = log.append(P0, Some(id(n)), text(n)).await;
        assert!(matches!(again, Ok(Appended::Existing(place)) if place.offset == n as u64), "{case}, {n}: {again:?}");
    }
    assert_eq!(log.lookup(&id(kept), false).await.unwrap(), None, "{case}");
    let next = log.append(P0, Some(id(kept)), text(kept)).await;
    assert!(matches!(next, Ok(Appended::New(place)) if place.offset == kept as u64), "{case}: {next:?}");
}

/// A directory with all in it, as a process that is killed leaves it.
fn copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.path().is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else {
            match std::fs::copy(entry.path(), to.join(entry.file_name())) {
                // The index drops a file of its own between the listing and the copy.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                copied => assert!(copied.is_ok(), "{copied:?}"),
            }
        }
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            out.extend(files(&path));
        } else {
            out.push(path);
        }
    }
    out.sort();
    out
}

#[tokio::test]
async fn an_index_that_is_behind_or_ahead_of_the_log_knows_what_the_log_has() {
    let scratch = tempfile::tempdir().unwrap();
    let (dir, early, late) = (scratch.path().join("log"), scratch.path().join("early"), scratch.path().join("late"));
    let log = open(&dir);
    fill(&*log, 0..30).await;
    drop(log);
    copy(&dir, &early);
    let log = open(&dir);
    fill(&*log, 30..50).await;
    drop(log);
    copy(&dir, &late);

    copy(&early.join("ids"), &dir.join("ids"));
    knows_exactly(&open(&dir), 50, "behind").await;

    let mixed = scratch.path().join("mixed");
    copy(&early, &mixed);
    copy(&late.join("ids"), &mixed.join("ids"));
    let log = open(&mixed);
    knows_exactly(&log, 30, "ahead").await;
    // The log goes on to where the index once was: its entries of then are not taken for these.
    for n in 31..60 {
        log.append(P0, Some(id(1_000 + n)), text(n)).await.unwrap();
    }
    drop(log);
    let log = open(&mixed);
    for n in 31..50 {
        assert_eq!(log.lookup(&id(n), false).await.unwrap(), None, "{n}");
    }
}

#[tokio::test]
async fn an_index_that_a_kill_left_behind_is_completed_from_the_log() {
    let scratch = tempfile::tempdir().unwrap();
    let (dir, killed) = (scratch.path().join("log"), scratch.path().join("killed"));
    let log = open(&dir);
    for step in 0..6 {
        fill(&*log, step * 20..(step + 1) * 20).await;
        // Each is durable, and of most the index was not told yet.
        copy(&dir, &killed);
        knows_exactly(&open(&killed), (step + 1) * 20, "killed").await;
    }
}

/// Damages a file.
type Spoil = fn(&Path);

#[tokio::test]
async fn an_index_with_any_file_spoilt_or_gone_is_made_anew() {
    let scratch = tempfile::tempdir().unwrap();
    let (dir, spoilt) = (scratch.path().join("log"), scratch.path().join("spoilt"));
    let log = open(&dir);
    fill(&*log, 0..30).await;
    drop(log);
    let log = open(&dir);
    fill(&*log, 30..60).await;
    drop(log);
    let spoil: [(&str, Spoil); 5] = [
        ("gone", |path| std::fs::remove_file(path).unwrap()),
        ("empty", |path| std::fs::write(path, []).unwrap()),
        ("noise", |path| std::fs::write(path, [0xa5; 5000]).unwrap()),
        ("flipped", |path| {
            let mut bytes = std::fs::read(path).unwrap();
            bytes.truncate(1 << 16);
            bytes.iter_mut().step_by(3).for_each(|byte| *byte ^= 0x55);
            std::fs::write(path, bytes).unwrap();
        }),
        ("cut", |path| {
            let bytes = std::fs::read(path).unwrap();
            std::fs::write(path, &bytes[..bytes.len().min(1 << 16) / 2]).unwrap();
        }),
    ];
    let names = files(&dir.join("ids"));
    assert!(names.len() > 4, "{names:?}");
    for name in &names {
        for (how, spoil) in &spoil {
            copy(&dir, &spoilt);
            let file = spoilt.join(name.strip_prefix(&dir).unwrap());
            spoil(&file);
            let case = format!("{} {how}", file.display());
            let log = open(&spoilt);
            // What is found broken only when it is used closes the log; the next start makes it anew.
            let log = match log.lookup(&id(5), false).await {
                Ok(_) if log.failed().borrow().is_none() => log,
                found => {
                    assert!(found.is_err(), "{case}: {found:?}");
                    drop(log);
                    open(&spoilt)
                }
            };
            knows_exactly(&log, 60, &case).await;
        }
    }
}

#[tokio::test]
async fn a_byte_that_rots_in_the_index_forgets_no_id() {
    let scratch = tempfile::tempdir().unwrap();
    let (dir, spoilt) = (scratch.path().join("log"), scratch.path().join("spoilt"));
    let log = open(&dir);
    for step in 0..5 {
        let appends = (step * 600..(step + 1) * 600).map(|n| log.append(P0, Some(id(n)), "short".into()));
        assert!(futures_util::future::join_all(appends).await.iter().all(Result::is_ok));
    }
    drop(log);
    let tables: Vec<_> =
        files(&dir.join("ids")).into_iter().filter(|path| path.to_str().unwrap().contains("tables")).collect();
    let largest = tables.iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let whole = std::fs::read(largest).unwrap();
    assert!(whole.len() > 60_000, "{largest:?} has {} bytes", whole.len());
    let mut found_in_use = 0;
    for nth in 0..24 {
        copy(&dir, &spoilt);
        let mut rotten = whole.clone();
        let at = (whole.len() - 1) * nth / 23;
        rotten[at] ^= 0x10;
        std::fs::write(spoilt.join(largest.strip_prefix(&dir).unwrap()), rotten).unwrap();
        let log = open(&spoilt);
        let mut refused = false;
        for n in 0..3_000 {
            match log.lookup(&id(n), false).await {
                Ok(place) => assert_eq!(place.map(|place| place.offset), Some(n as u64), "byte {at}"),
                Err(_) => refused = true,
            }
        }
        assert_eq!(log.failed().borrow().is_some(), refused, "byte {at}: it closes, to be opened anew");
        drop(log);
        found_in_use += usize::from(refused);
        let log = open(&spoilt);
        for n in (0..3_000).step_by(7) {
            assert_eq!(log.lookup(&id(n), false).await.unwrap().map(|place| place.offset), Some(n as u64), "byte {at}");
        }
        assert_eq!(log.lookup(&id(3_000), false).await.unwrap(), None, "byte {at}");
    }
    assert!(found_in_use > 5, "only {found_in_use} were found in use: the places prove little");
}

#[tokio::test]
async fn an_index_of_another_log_or_no_index_at_all_is_not_believed() {
    let scratch = tempfile::tempdir().unwrap();
    let (dir, other) = (scratch.path().join("log"), scratch.path().join("other"));
    for (path, count) in [(&dir, 10), (&other, 5)] {
        let log = open(path);
        fill(&*log, 0..count).await;
    }
    copy(&dir.join("ids"), &other.join("ids"));
    knows_exactly(&open(&other), 5, "of another log").await;
    std::fs::remove_dir_all(dir.join("ids")).unwrap();
    std::fs::write(dir.join("ids"), "a file").unwrap();
    knows_exactly(&open(&dir), 10, "a file in its place").await;
}

#[tokio::test]
async fn a_log_made_anew_has_another_identity_and_knows_no_id() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("log");
    let log = open(&dir);
    fill(&*log, 0..10).await;
    let first = log.layout().identity;
    drop(log);
    assert_eq!(open(&dir).layout().identity, first);

    // Whatever of it is removed, an offset never comes back under the identity that had it.
    for segment in segments(&dir) {
        std::fs::remove_file(segment).unwrap();
    }
    let log = open(&dir);
    let second = log.layout().identity;
    assert_ne!(second, first);
    knows_exactly(&log, 0, "without its segments").await;
    drop(log);

    for segment in segments(&dir) {
        std::fs::remove_file(segment).unwrap();
    }
    std::fs::remove_file(dir.join("heddle-log")).unwrap();
    let log = open(&dir);
    assert!(log.layout().identity != first && log.layout().identity != second);
    knows_exactly(&log, 0, "without its format file").await;
}
