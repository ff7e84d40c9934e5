//! Last frames that a crash tore.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use heddle_log::{EmbeddedLog, Log, OpenError};
use heddle_model::ManualClock;

use crate::fixture::*;

#[tokio::test]
async fn a_last_frame_torn_anywhere_is_cut_and_nothing_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    fill(&*log, 0..3).await;
    log.append(P0, None, vec![7; 9000].into()).await.unwrap();
    drop(log);
    let segment = segments(dir.path()).pop().unwrap();
    let whole = std::fs::read(&segment).unwrap();
    let (start, end) = last_frame(&segment);
    let cuts = (start..end).step_by(97).map(|at| (at, whole.len() as u64));
    let pages = (start..end).step_by(4096).map(|at| (at, at + 4096));
    for (from, until) in cuts.chain(pages) {
        let file = File::options().write(true).open(&segment).unwrap();
        file.write_all_at(&whole, 0).unwrap();
        file.write_all_at(&vec![0; (until.min(whole.len() as u64) - from) as usize], from).unwrap();
        let log = open(dir.path());
        assert_eq!(all(&*log).await, (0..3).map(text).collect::<Vec<_>>(), "zeroed {from}..{until}");
    }
    let mut flipped = whole.clone();
    flipped[start as usize + 5000] ^= 1;
    std::fs::write(&segment, &flipped).unwrap();
    let log = open(dir.path());
    assert_eq!(*log.head(P0).borrow(), 3);
    fill(&*log, 3..5).await;
    drop(log);
    assert_eq!(all(&*open(dir.path())).await, (0..5).map(text).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_broken_frame_that_is_not_the_last_is_an_error_that_names_the_place() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    fill(&*log, 0..5).await;
    drop(log);
    let segment = segments(dir.path()).pop().unwrap();
    let (last, _) = last_frame(&segment);
    let file = File::options().write(true).open(&segment).unwrap();
    file.write_all_at(&[0xee], last - 4096 + 60).unwrap();
    let error = EmbeddedLog::open(config(dir.path()), Arc::new(ManualClock::at(0))).unwrap_err();
    assert!(matches!(&error, OpenError::Corrupt { path, at, .. } if *path == segment && *at == last - 4096), "{error}");
}
