//! What the threads of an open log share.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use heddle_model::{Clock, MessageId, Millis, Offset, TopicPartition};
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use crate::cache::TailCache;
use crate::directory::Directory;
use crate::ids::IdIndex;
use crate::recent::{Known, RecentIds};
use crate::segment::Segment;
use crate::slots::Slots;
use crate::spare::SpareBox;
use crate::{Identity, LogConfig};

/// One partition of an open log.
#[derive(Debug)]
pub(crate) struct Partition {
    /// After the last durable record.
    pub(crate) head: watch::Sender<Offset>,
    /// The first offset that is kept.
    pub(crate) start: AtomicU64,
    pub(crate) derived: AtomicU64,
    pub(crate) archived: AtomicU64,
}

impl Partition {
    pub(crate) fn new(start: Offset, head: Offset, derived: Offset) -> Self {
        Self {
            head: watch::Sender::new(head),
            start: AtomicU64::new(start),
            derived: AtomicU64::new(derived),
            archived: AtomicU64::new(0),
        }
    }
}

pub(crate) struct Shared {
    pub(crate) config: LogConfig,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) slots: Slots,
    pub(crate) partitions: Vec<Partition>,
    /// Oldest first; the last is active. Never empty.
    pub(crate) segments: RwLock<Vec<Arc<Segment>>>,
    pub(crate) cache: TailCache,
    pub(crate) recent: RecentIds,
    pub(crate) ids: IdIndex,
    pub(crate) spare: SpareBox,
    /// Why the log closed, once it has.
    pub(crate) failed: watch::Sender<Option<String>>,
    /// One retention at a time.
    pub(crate) retention: Mutex<()>,
    /// Last, so that its lock is given back when nothing below it is open any more.
    pub(crate) directory: Directory,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("dir", &self.directory.path).finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn identity(&self) -> Identity {
        self.directory.identity
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.directory.path.clone()
    }

    /// Closes the log for good; the first reason stands.
    pub(crate) fn fail(&self, reason: &str) {
        let first = self.failed.send_if_modified(|failed| {
            let first = failed.is_none();
            failed.get_or_insert_with(|| reason.to_owned());
            first
        });
        if first {
            tracing::error!(dir = %self.directory.path.display(), reason, "the log closed, it must be opened anew from disk");
            metrics::counter!("heddle_log_failures_total").increment(1);
        }
    }

    /// Whether an id of that age is still remembered.
    pub(crate) fn remembered(&self, known: &Known, now: Millis) -> bool {
        now.saturating_sub(known.appended_at) <= self.config.dedupe_window_ms
    }

    /// What is known of an id, and the newest number of memory before the disk was asked.
    pub(crate) fn known(&self, id: &MessageId) -> Result<(Option<Known>, u64), String> {
        let (known, seen) = self.recent.get(id);
        let known = match known {
            Some(known) => Some(known),
            None => self.known_on_disk(id)?,
        };
        let now = self.clock.now();
        Ok((known.filter(|known| self.remembered(known, now)), seen))
    }

    /// What the index on disk knows of the id. A broken index closes the log: opened again, it makes the index anew.
    pub(crate) fn known_on_disk(&self, id: &MessageId) -> Result<Option<Known>, String> {
        self.ids.get(id).map_err(|error| {
            if error.broken {
                self.ids.condemn();
                self.fail(&format!("the id index is broken ({}), it is made anew at the next start", error.reason));
            }
            format!("the id index does not answer ({})", error.reason)
        })
    }

    pub(crate) fn head(&self, slot: usize) -> Offset {
        *self.partitions[slot].head.borrow()
    }

    pub(crate) fn start(&self, slot: usize) -> Offset {
        self.partitions[slot].start.load(Ordering::Acquire)
    }

    /// Bytes of all segments on disk, without the spare.
    pub(crate) fn journal_bytes(&self) -> u64 {
        self.segments.read().iter().map(|segment| segment.start.bytes).sum()
    }

    /// The slot of a partition, or why there is none.
    pub(crate) fn slot(&self, at: TopicPartition) -> Result<usize, String> {
        self.slots.index(at).ok_or_else(|| format!("this log has {} partitions", self.slots.partitions))
    }
}
