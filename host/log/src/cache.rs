//! The newest records in memory: what workers and archiver read is nearly always here.

use std::collections::VecDeque;

use bytes::Bytes;
use heddle_model::{Millis, Offset};
use parking_lot::{Mutex, RwLock};

use crate::frame::Entries;
use crate::{Batch, Stored};

/// Durable runs of each partition, oldest out first. Filled by the commit thread only.
#[derive(Debug)]
pub(crate) struct TailCache {
    runs: Vec<RwLock<VecDeque<Cached>>>,
    order: Mutex<Order>,
    bytes_max: usize,
}

#[derive(Debug)]
struct Cached {
    first: Offset,
    count: u32,
    appended_at: Millis,
    /// As in the frame.
    records: Bytes,
}

#[derive(Debug, Default)]
struct Order {
    /// Slot and bytes, in order of insertion.
    queue: VecDeque<(usize, usize)>,
    bytes: usize,
}

/// What a run costs beyond its records.
const RUN_OVERHEAD_BYTES: usize = 128;

impl TailCache {
    pub(crate) fn new(slots: usize, bytes_max: usize) -> Self {
        let runs = (0..slots).map(|_| RwLock::default()).collect();
        Self { runs, order: Mutex::default(), bytes_max }
    }

    /// Adds the run that follows the last of its slot.
    pub(crate) fn push(&self, slot: usize, first: Offset, count: u32, appended_at: Millis, records: &[u8]) {
        let mut order = self.order.lock();
        let bytes = records.len() + RUN_OVERHEAD_BYTES;
        let records = Bytes::copy_from_slice(records);
        self.runs[slot].write().push_back(Cached { first, count, appended_at, records });
        order.queue.push_back((slot, bytes));
        order.bytes += bytes;
        while order.bytes > self.bytes_max {
            let Some((slot, bytes)) = order.queue.pop_front() else { break };
            order.bytes -= bytes;
            self.runs[slot].write().pop_front();
        }
    }

    /// Records from `from`, at least one, if the cache has it.
    pub(crate) fn read(&self, slot: usize, from: Offset, bytes_max: usize) -> Option<Batch> {
        let runs = self.runs[slot].read();
        let index = runs.partition_point(|run| run.first + u64::from(run.count) <= from);
        let first = runs.get(index).filter(|run| run.first <= from)?;
        let mut batch = Batch { next: from, ..Batch::default() };
        let mut bytes = 0;
        let mut run = Some(first);
        let mut index = index;
        while let Some(cached) = run {
            if !take(cached.first, cached.appended_at, &cached.records, from, bytes_max, &mut bytes, &mut batch) {
                break;
            }
            index += 1;
            run = runs.get(index);
        }
        (!batch.records.is_empty()).then_some(batch)
    }
}

/// Adds the records of a run from `from`; `false` when `bytes_max` is reached. The first record of a batch always fits.
pub(crate) fn take(
    first: Offset,
    appended_at: Millis,
    records: &Bytes,
    from: Offset,
    bytes_max: usize,
    bytes: &mut usize,
    batch: &mut Batch,
) -> bool {
    for (offset, entry) in (first..).zip(Entries(records.clone())) {
        let Ok(entry) = entry else { return false };
        if offset < from {
            continue;
        }
        if !batch.records.is_empty() && *bytes + entry.bytes.len() > bytes_max {
            return false;
        }
        *bytes += entry.bytes.len();
        batch.records.push(Stored { offset, appended_at, bytes: entry.bytes });
        batch.next = offset + 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::FrameBuilder;
    use crate::slots::Slots;

    fn push(cache: &TailCache, slot: usize, first: Offset, texts: &[&str]) {
        let mut frame = FrameBuilder::new(Slots { partitions: 1 });
        for (offset, text) in (first..).zip(texts) {
            frame.push(slot, offset, None, text.as_bytes());
        }
        for (slot, first, count, records) in frame.runs() {
            cache.push(slot, first, count, 7, records);
        }
    }

    #[test]
    fn a_read_spans_runs_and_stops_at_its_bound() {
        let cache = TailCache::new(3, 1 << 20);
        push(&cache, 0, 0, &["a", "b"]);
        push(&cache, 0, 2, &["c"]);
        let batch = cache.read(0, 1, 100).expect("it is in the cache");
        assert_eq!(batch.next, 3);
        assert_eq!(batch.records.iter().map(|r| r.bytes.as_ref()).collect::<Vec<_>>(), [b"b", b"c"]);
        assert_eq!(cache.read(0, 0, 2).expect("it is in the cache").next, 2);
        assert_eq!(cache.read(0, 0, 0).expect("one always fits").next, 1);
        assert!(cache.read(0, 3, 100).is_none());
    }

    #[test]
    fn the_oldest_runs_leave_first_and_are_not_served() {
        let cache = TailCache::new(3, 2 * (RUN_OVERHEAD_BYTES + 6));
        push(&cache, 0, 0, &["a"]);
        push(&cache, 1, 0, &["b"]);
        push(&cache, 0, 1, &["c"]);
        assert!(cache.read(0, 0, 100).is_none());
        assert!(cache.read(0, 1, 100).is_some());
        assert!(cache.read(1, 0, 100).is_some());
    }
}
