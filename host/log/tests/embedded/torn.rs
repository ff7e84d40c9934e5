//! Last frames that a crash tore.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use heddle_log::{Appended, EmbeddedLog, Log, LogReader, OpenError};
use heddle_model::ManualClock;
use proptest::prelude::*;

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

/// What a torn tail may cost: the record of its frame. Those before it are there, its id is not known, and the log goes on.
async fn only_the_last_is_gone(dir: &Path, kept: usize, case: &str) {
    let log = open(dir);
    assert_eq!(all(&*log).await, (0..kept).map(text).collect::<Vec<_>>(), "{case}");
    assert_eq!(log.lookup(&id(kept), false).await.unwrap(), None, "{case}");
    let again = log.append(P0, Some(id(kept)), text(kept)).await;
    assert!(matches!(again, Ok(Appended::New(place)) if place.offset == kept as u64), "{case}: {again:?}");
    let before = log.append(P0, Some(id(kept - 1)), text(0)).await;
    assert!(matches!(before, Ok(Appended::Existing(place)) if place.offset == kept as u64 - 1), "{case}: {before:?}");
    assert_eq!(all(&*log).await, (0..=kept).map(text).collect::<Vec<_>>(), "{case}");
}

#[tokio::test]
async fn a_log_that_ends_at_any_byte_of_its_last_frame_keeps_all_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    fill(&*log, 0..4).await;
    drop(log);
    let segment = segments(dir.path()).pop().unwrap();
    let whole = std::fs::read(&segment).unwrap();
    let (start, end) = last_frame(&segment);
    for at in start..end {
        // The file ends there, or nothing behind it reached the medium. The id index is ahead in both.
        let mut torn = whole[..at as usize].to_vec();
        if at % 2 == 0 {
            torn.resize(whole.len(), 0);
        }
        std::fs::write(&segment, &torn).unwrap();
        only_the_last_is_gone(dir.path(), 3, &format!("cut at byte {} of {}", at - start, end - start)).await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(20) })]

    #[test]
    fn a_log_cut_or_overwritten_in_its_last_frame_keeps_all_before_it(
        records in 2..60usize, share in 0.0..1.0f64, junk in proptest::collection::vec(any::<u8>(), 0..9000),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let log = open(dir.path());
            fill(&*log, 0..records).await;
            drop(log);
            let segment = segments(dir.path()).pop().unwrap();
            let mut torn = std::fs::read(&segment).unwrap();
            let (start, end) = last_frame(&segment);
            let at = start + ((end - start) as f64 * share) as u64;
            torn[at as usize] ^= 0x5a;
            torn.truncate(at as usize + 1);
            torn.extend(&junk);
            std::fs::write(&segment, &torn).unwrap();
            only_the_last_is_gone(dir.path(), records - 1, &format!("{records} records, byte {}", at - start)).await;
            assert_eq!(all(&*open(dir.path())).await, (0..records).map(text).collect::<Vec<_>>(), "opened once more");
        });
    }
}

#[tokio::test]
async fn what_stands_behind_the_last_frame_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    fill(&*log, 0..5).await;
    drop(log);
    let segment = segments(dir.path()).pop().unwrap();
    let whole = std::fs::read(&segment).unwrap();
    let (start, end) = last_frame(&segment);
    let end = end.next_multiple_of(4096) as usize;
    let mut head_only = vec![0; 4096];
    head_only[..40].copy_from_slice(&whole[start as usize..start as usize + 40]);
    head_only[8] += 1;
    for (name, junk) in [("noise", vec![0xa5; 10_000]), ("a frame's head with another number", head_only)] {
        let mut padded = whole.clone();
        padded[end..end + junk.len()].copy_from_slice(&junk);
        std::fs::write(&segment, &padded).unwrap();
        assert_eq!(all(&*open(dir.path())).await, (0..5).map(text).collect::<Vec<_>>(), "{name} inside the file");
        assert_eq!(std::fs::read(&segment).unwrap(), whole, "{name} inside the file");
        std::fs::write(&segment, [&whole[..], &junk].concat()).unwrap();
        assert_eq!(all(&*open(dir.path())).await, (0..5).map(text).collect::<Vec<_>>(), "{name} behind the file");
        assert_eq!(std::fs::read(&segment).unwrap(), whole, "{name} behind the file");
    }
}

#[tokio::test]
async fn a_segment_that_is_missing_in_the_middle_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    fill(&*log, 0..60).await;
    drop(log);
    let paths = segments(dir.path());
    assert!(paths.len() > 3, "{paths:?}");
    for (index, missing) in paths.iter().enumerate().skip(1).take(paths.len() - 2) {
        let away = dir.path().join("away");
        std::fs::rename(missing, &away).unwrap();
        let error = EmbeddedLog::open(config(dir.path()), Arc::new(ManualClock::at(0))).unwrap_err();
        let name = missing.file_name().unwrap().to_str().unwrap();
        assert!(matches!(&error, OpenError::Corrupt { path, .. } if *path == paths[index + 1]), "{error}");
        assert!(error.to_string().contains(&format!("{name} before it is not there")), "{error}");
        let mut seen: Vec<_> = LogReader::open(dir.path()).unwrap().entries().unwrap().collect();
        let error = seen.pop().unwrap().unwrap_err();
        assert!(error.to_string().contains(&format!("{name} before it is not there")), "{error}");
        assert!(seen.iter().zip(0..).all(|(entry, n)| entry.as_ref().unwrap().bytes == text(n)), "before {name}");
        std::fs::rename(&away, missing).unwrap();
    }
    assert_eq!(all(&*open(dir.path())).await, (0..60).map(text).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_copy_of_a_segment_under_another_name_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    fill(&*log, 0..3).await;
    drop(log);
    for name in ["1.seg", "0.seg", "00000000000000000001.seg", "0000000001 (copy).seg"] {
        std::fs::copy(&segments(dir.path())[0], dir.path().join(name)).unwrap();
        assert_eq!(all(&*open(dir.path())).await, (0..3).map(text).collect::<Vec<_>>(), "{name}");
        std::fs::remove_file(dir.path().join(name)).unwrap();
    }
}

/// What becomes of a file's bytes.
type Spoil = fn(&[u8]) -> Option<Vec<u8>>;

#[tokio::test]
async fn sealed_segments_need_their_indexes_for_nothing_but_speed() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    fill(&*log, 0..80).await;
    drop(log);
    // Written when the keeper has come round: opening and closing once more makes sure.
    drop(open(dir.path()));
    let paths = segments(dir.path());
    let indexes: Vec<_> = paths[..paths.len() - 1].iter().map(|path| path.with_extension("idx")).collect();
    let whole: Vec<_> = indexes.iter().map(|path| std::fs::read(path).unwrap()).collect();
    let spoil: [(&str, Spoil); 5] = [
        ("deleted", |_| None),
        ("empty", |_| Some(Vec::new())),
        ("cut", |bytes| Some(bytes[..bytes.len() / 2].to_vec())),
        ("flipped in the head", |bytes| Some([&bytes[..20], &[bytes[20] ^ 1], &bytes[21..]].concat())),
        ("flipped in a row", |bytes| Some([&bytes[..bytes.len() - 9], &[7], &bytes[bytes.len() - 8..]].concat())),
    ];
    for (name, spoil) in spoil {
        for (index, bytes) in indexes.iter().zip(&whole) {
            match spoil(bytes) {
                Some(spoilt) => std::fs::write(index, spoilt).unwrap(),
                None => std::fs::remove_file(index).unwrap(),
            }
        }
        assert_eq!(all(&*open(dir.path())).await, (0..80).map(text).collect::<Vec<_>>(), "{name}");
    }
    // One of another segment is none.
    std::fs::copy(&indexes[0], &indexes[1]).unwrap();
    assert_eq!(all(&*open(dir.path())).await, (0..80).map(text).collect::<Vec<_>>());
}
