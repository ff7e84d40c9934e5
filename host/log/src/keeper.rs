//! What happens beside the commits: the next segment is filled, sealed segments get their index, old ones go.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use heddle_model::Topic;

use crate::directory::sync_dir;
use crate::disk::Disk;
use crate::frame::seed;
use crate::segment::{Index, Segment};
use crate::sidecar::{self, Sealed};
use crate::state::Shared;

/// A failed preparation is tried again after this.
const RETRY: Duration = Duration::from_secs(1);
/// Between two pieces of a spare, so that commits find the disk idle.
const FILL_PAUSE: Duration = Duration::from_millis(2);

/// Runs until the log closes.
pub(crate) fn run(shared: &Shared, disk: &dyn Disk, wake: &Receiver<()>) {
    let interval = Duration::from_millis(shared.config.retention_interval_ms.max(1));
    let mut due = shared.clock.monotonic() + interval;
    loop {
        let mut wait = interval.min(Duration::from_secs(60));
        let fill = shared.spare.ensure(disk, &shared.directory.path, shared.config.segment_bytes, || {
            std::thread::park_timeout(FILL_PAUSE);
        });
        if let Err(error) = fill {
            tracing::warn!(dir = %shared.directory.path.display(), %error, "no room to prepare the next segment, free space on its disk");
            wait = wait.min(RETRY);
        }
        seal(shared);
        match wake.recv_timeout(wait) {
            Ok(()) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if shared.clock.monotonic() >= due {
            enforce_retention(shared);
            due = shared.clock.monotonic() + interval;
        }
    }
}

/// Writes the index of each segment that is sealed and has none.
pub(crate) fn seal(shared: &Shared) {
    let segments = shared.segments.read().clone();
    for pair in segments.windows(2) {
        let (segment, after) = (&pair[0], &pair[1]);
        let seed = seed(shared.identity(), segment.start.number);
        let written = match &*segment.index.read() {
            Index::Sidecar => continue,
            Index::Memory(checkpoints) => {
                let sealed = Sealed {
                    next_sequence: after.start.first_sequence,
                    end: segment.end(),
                    last_at: segment.last_at.load(Ordering::Acquire),
                    next: after.start.next.clone(),
                    derived: after.start.derived.clone(),
                };
                sidecar::write(&segment.sidecar_path(), &sealed, checkpoints, seed)
            }
        };
        match written {
            Ok(()) => *segment.index.write() = Index::Sidecar,
            Err(error) => {
                tracing::warn!(file = %segment.sidecar_path().display(), %error, "index of a segment cannot be written, keeping it in memory");
            }
        }
    }
}

/// Removes whole segments from the oldest on, as long as they are old enough and both cursors have passed them. Answers how many went.
///
/// `control` has no cursors: its records go by age alone, the catalog in the store outlives them.
pub(crate) fn enforce_retention(shared: &Shared) -> usize {
    let _one = shared.retention.lock();
    let mut removed = 0;
    loop {
        let (oldest, after) = {
            let segments = shared.segments.read();
            let [oldest, after, ..] = segments.as_slice() else { return removed };
            (oldest.clone(), after.clone())
        };
        if !removable(shared, &oldest, &after) {
            return removed;
        }
        for (partition, next) in shared.partitions.iter().zip(&after.start.next) {
            partition.start.fetch_max(*next, Ordering::AcqRel);
        }
        shared.segments.write().remove(0);
        let gone = fs::remove_file(oldest.path()).and_then(|()| {
            let _ = fs::remove_file(oldest.sidecar_path());
            sync_dir(&shared.directory.path)
        });
        match gone {
            Ok(()) => {
                removed += 1;
                metrics::counter!("heddle_log_segments_removed_total").increment(1);
                tracing::info!(file = %oldest.path().display(), "segment removed by retention");
            }
            Err(error) => {
                tracing::warn!(file = %oldest.path().display(), %error, "segment cannot be removed, give this user write permission");
                return removed;
            }
        }
    }
}

fn removable(shared: &Shared, oldest: &Arc<Segment>, after: &Arc<Segment>) -> bool {
    let age = shared.clock.now().saturating_sub(oldest.last_at.load(Ordering::Acquire));
    if age <= shared.config.retention_ms {
        return false;
    }
    shared.partitions.iter().enumerate().all(|(slot, partition)| {
        let upto = after.start.next[slot];
        if upto == oldest.start.next[slot] || shared.slots.at(slot).topic == Topic::Control {
            return true;
        }
        upto <= partition.archived.load(Ordering::Acquire).min(partition.derived.load(Ordering::Acquire))
    })
}
