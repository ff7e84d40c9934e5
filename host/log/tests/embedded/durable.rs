//! What is written and not yet synced is nobody's: not its sender's, and not a reader's.

use std::fs::File;
use std::io;
use std::sync::{Condvar, Mutex, PoisonError};

use super::*;

/// A disk whose syncs wait while it is held.
#[derive(Default)]
struct HeldDisk {
    state: Mutex<Held>,
    changed: Condvar,
}

#[derive(Default)]
struct Held {
    held: bool,
    /// Syncs that wait.
    waiting: usize,
}

impl HeldDisk {
    fn hold(&self, held: bool) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).held = held;
        self.changed.notify_all();
    }

    /// Blocks until a sync waits.
    fn until_it_waits(&self) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let waits =
            self.changed.wait_timeout_while(state, Duration::from_secs(10), |state| state.waiting == 0).unwrap();
        assert!(!waits.1.timed_out(), "no sync came");
    }
}

impl Disk for HeldDisk {
    fn write(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        SystemDisk.write(file, bytes, at)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.waiting += 1;
        self.changed.notify_all();
        let mut state = self.changed.wait_while(state, |state| state.held).unwrap_or_else(PoisonError::into_inner);
        state.waiting -= 1;
        drop(state);
        SystemDisk.sync(file)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_is_neither_acknowledged_nor_read_before_it_is_synced() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Arc::new(HeldDisk::default()));
    let settings = LogConfig { derive_linger_ms: 0, ..config(dir.path()) };
    let log = EmbeddedLog::open_with(settings, Arc::new(ManualClock::at(0)), disk.clone()).unwrap();
    fill(&*log, 0..1).await;
    let other = TopicPartition { partition: 1, ..P0 };
    let derived = Derived { source: P0, upto: 0, records: vec![(other, text(9))], patient: false };
    disk.hold(true);
    let (one, two) = (Arc::clone(&log), Arc::clone(&log));
    let appending = tokio::spawn(async move { one.append(P0, Some(id(1)), text(1)).await });
    let deriving = tokio::spawn(async move { two.derive(derived).await });
    let waits = Arc::clone(&disk);
    tokio::task::spawn_blocking(move || waits.until_it_waits()).await.unwrap();
    // Time enough for an answer that does not wait.
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!appending.is_finished() && !deriving.is_finished(), "something was answered before its sync");
    assert_eq!((*log.head(P0).borrow(), *log.head(other).borrow(), log.derived(P0)), (1, 0, 0));
    assert_eq!(all(&*log).await, [text(0)]);
    assert!(log.read(P0, 1, 3000).await.unwrap().records.is_empty(), "read before it was durable");
    disk.hold(false);
    assert!(matches!(appending.await.unwrap(), Ok(Appended::New(place)) if place.offset == 1));
    assert_eq!(deriving.await.unwrap().unwrap(), [0]);
    assert_eq!((*log.head(P0).borrow(), *log.head(other).borrow()), (2, 1));
    assert_eq!(all(&*log).await, [text(0), text(1)]);
}
