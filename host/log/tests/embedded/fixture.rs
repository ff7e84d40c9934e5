//! Logs, ids and records as these tests use them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use heddle_log::{Appended, EmbeddedLog, Log, LogConfig};
use heddle_model::{ManualClock, MessageId, TopicPartition};

pub(crate) const P0: TopicPartition = TopicPartition { topic: heddle_model::Topic::Messages, partition: 0 };

pub(crate) fn config(dir: &Path) -> LogConfig {
    LogConfig { partitions: 2, segment_bytes: 64 << 10, ..LogConfig::new(dir) }
}

pub(crate) fn open(dir: &Path) -> Arc<EmbeddedLog> {
    EmbeddedLog::open(config(dir), Arc::new(ManualClock::at(1_000_000))).unwrap()
}

pub(crate) fn id(n: usize) -> MessageId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&(n as u64).to_be_bytes());
    MessageId(id)
}

pub(crate) fn text(n: usize) -> Bytes {
    format!("record {n} {}", "x".repeat(n % 700)).into()
}

pub(crate) async fn fill(log: &dyn Log, range: std::ops::Range<usize>) {
    for n in range {
        assert!(matches!(log.append(P0, Some(id(n)), text(n)).await, Ok(Appended::New(_))), "{n}");
    }
}

pub(crate) async fn all(log: &dyn Log) -> Vec<Bytes> {
    let (mut out, mut next) = (Vec::new(), 0);
    let head = *log.head(P0).borrow();
    while next < head {
        let batch = log.read(P0, next, 3000).await.unwrap();
        next = batch.next;
        out.extend(batch.records.into_iter().map(|record| record.bytes));
    }
    out
}

pub(crate) fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    paths.sort();
    paths
}

/// Where the last frame of a segment starts, and its pages' end.
pub(crate) fn last_frame(path: &Path) -> (u64, u64) {
    let bytes = std::fs::read(path).unwrap();
    let starts: Vec<usize> =
        (0..bytes.len()).step_by(4096).filter(|at| bytes[*at..].starts_with(b"\xff\x48\x44\x46")).collect();
    let at = *starts.last().unwrap();
    let length = u32::from_le_bytes(bytes[at + 24..at + 28].try_into().unwrap()) as usize;
    (at as u64, (at + length) as u64)
}
