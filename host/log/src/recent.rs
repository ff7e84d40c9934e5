//! Message ids of the newest commits in memory: consulted before the index on disk, and what feeds it.
//!
//! Ids are numbered in commit order. The map holds every id whose number is above a floor, and the floor never passes what the index on disk has. An
//! appender notes the newest number before it asks the disk (`seen`); the commit thread then needs to ask the disk again only if the floor has
//! passed that number meanwhile.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use heddle_model::{MessageId, Millis};
use parking_lot::{Condvar, Mutex};

use crate::Place;

/// Ids kept in memory although the index on disk has them.
const KEPT: u64 = 65_536;
/// So many ids go to the index in one batch.
const BATCH_IDS: usize = 65_536;
/// Fewer go when so many commits wait, or their frames have so many bytes: what waits is read again after a crash.
const WAITING_COMMITS_MAX: u64 = 10_000;
const WAITING_BYTES_MAX: usize = 64 << 20;

/// Where the record of an id stands, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) place: Place,
    pub(crate) appended_at: Millis,
}

#[derive(Debug)]
pub(crate) struct RecentIds {
    state: Mutex<State>,
    /// There is something for the index.
    work: Condvar,
    /// There is room again.
    room: Condvar,
    pending_max: usize,
    /// So many ids are a batch.
    batch_ids: usize,
}

#[derive(Debug, Default)]
struct State {
    map: HashMap<MessageId, (Known, u64)>,
    /// Numbers `floor + 1` and on: id, its number's commit.
    queue: VecDeque<(MessageId, Known, u64)>,
    floor: u64,
    /// The newest number that the index has.
    flushed: u64,
    /// The newest number.
    last: u64,
    /// The newest commit.
    sequence: u64,
    /// The commit up to which the index has all ids.
    told: u64,
    /// Bytes of the commits since the last batch was taken.
    waiting_bytes: usize,
    closed: bool,
}

/// What the index is to store next.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) ids: Vec<(MessageId, Known)>,
    /// All ids of commits up to this one are then stored.
    pub(crate) watermark: u64,
    upto: u64,
}

impl RecentIds {
    pub(crate) fn new(pending_max: usize, sequence: u64) -> Self {
        let state = State { sequence, told: sequence, ..State::default() };
        let batch_ids = BATCH_IDS.min(pending_max / 2).max(1);
        Self { state: Mutex::new(state), work: Condvar::new(), room: Condvar::new(), pending_max, batch_ids }
    }

    /// What memory knows of the id, and the newest number now.
    pub(crate) fn get(&self, id: &MessageId) -> (Option<Known>, u64) {
        let state = self.state.lock();
        (state.map.get(id).map(|(known, _)| *known), state.last)
    }

    /// What memory knows of the id, and whether all numbers above `seen` are in memory.
    pub(crate) fn recheck(&self, id: &MessageId, seen: u64) -> (Option<Known>, bool) {
        let state = self.state.lock();
        (state.map.get(id).map(|(known, _)| *known), state.floor <= seen)
    }

    /// Adds the ids of a durable commit. Waits while too many are not in the index yet; `false` if the log closed meanwhile.
    pub(crate) fn commit(&self, sequence: u64, bytes: usize, ids: &[(MessageId, Known)]) -> bool {
        let mut state = self.state.lock();
        while !state.closed && !ids.is_empty() && (state.last - state.flushed) as usize > self.pending_max {
            self.room.wait(&mut state);
        }
        for (id, known) in ids {
            state.last += 1;
            let number = state.last;
            state.map.insert(*id, (*known, number));
            state.queue.push_back((*id, *known, sequence));
        }
        state.sequence = sequence;
        state.waiting_bytes += bytes;
        state.evict();
        if self.is_due(&state) {
            self.work.notify_one();
        }
        !state.closed
    }

    /// Whether what waits is enough for a batch.
    fn is_due(&self, state: &State) -> bool {
        (state.last - state.flushed) as usize >= self.batch_ids
            || state.sequence - state.told > WAITING_COMMITS_MAX
            || state.waiting_bytes > WAITING_BYTES_MAX
    }

    /// The next work for the index, waiting at most `patience`; `Err` when the log is closed and all is stored.
    pub(crate) fn next(&self, patience: Duration) -> Result<Option<Work>, ()> {
        let mut state = self.state.lock();
        if !self.is_due(&state) && !state.closed {
            self.work.wait_for(&mut state, patience);
        }
        if state.last == state.flushed && state.told == state.sequence {
            return if state.closed { Err(()) } else { Ok(None) };
        }
        if !self.is_due(&state) && !state.closed {
            return Ok(None);
        }
        state.waiting_bytes = 0;
        let skip = (state.flushed - state.floor) as usize;
        // Whole commits: an id above the watermark could outlive a record that is cut.
        let mut taken: Vec<(MessageId, Known, u64)> = Vec::new();
        for entry in state.queue.iter().skip(skip) {
            if taken.len() >= self.batch_ids && taken.last().is_some_and(|(_, _, commit)| *commit != entry.2) {
                break;
            }
            taken.push(*entry);
        }
        let upto = state.flushed + taken.len() as u64;
        let watermark = match state.queue.get(skip + taken.len()) {
            None => state.sequence,
            Some((_, _, next)) => next - 1,
        };
        let ids = taken.into_iter().map(|(id, known, _)| (id, known)).collect();
        Ok(Some(Work { ids, watermark, upto }))
    }

    /// The index has stored it.
    pub(crate) fn done(&self, work: &Work) {
        let mut state = self.state.lock();
        state.flushed = work.upto;
        state.told = state.told.max(work.watermark);
        state.evict();
        self.room.notify_all();
    }

    /// Whether no commit follows.
    pub(crate) fn closed(&self) -> bool {
        self.state.lock().closed
    }

    /// No commit follows: what waits goes on.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.work.notify_all();
        self.room.notify_all();
    }
}

impl State {
    fn evict(&mut self) {
        while self.last - self.floor > KEPT && self.floor < self.flushed {
            let Some((id, _, _)) = self.queue.pop_front() else { return };
            self.floor += 1;
            if self.map.get(&id).is_some_and(|(_, number)| *number == self.floor) {
                self.map.remove(&id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use heddle_model::TopicPartition;

    use super::*;

    /// Commits of these sizes, then all that goes to the index, in order.
    fn batches(pending_max: usize, commits: &[u64]) -> Vec<(Vec<u64>, u64)> {
        let recent = RecentIds::new(pending_max, 0);
        let mut number = 0_u128;
        for (sequence, count) in (1..).zip(commits) {
            let ids: Vec<_> = (0..*count)
                .map(|_| {
                    number += 1;
                    let place = Place { partition: TopicPartition::messages(0), offset: sequence };
                    (MessageId(number.to_be_bytes()), Known { place, appended_at: 0 })
                })
                .collect();
            recent.commit(sequence, 0, &ids);
        }
        recent.close();
        let mut out = Vec::new();
        while let Ok(work) = recent.next(Duration::ZERO) {
            let work = work.expect("closed, so all that waits is due");
            out.push((work.ids.iter().map(|(_, known)| known.place.offset).collect(), work.watermark));
            recent.done(&work);
        }
        out
    }

    /// A batch that ended within a commit left ids in the index that its watermark did not tell of: had that commit been cut then, they would
    /// have been reported as appended for ever.
    #[test]
    fn a_batch_never_ends_within_a_commit() {
        assert_eq!(batches(12, &[4, 5, 6]), [(vec![1, 1, 1, 1, 2, 2, 2, 2, 2], 2), (vec![3; 6], 3)]);
        assert_eq!(batches(12, &[0, 0, 3, 0]), [(vec![3; 3], 4)]);
        assert_eq!(batches(20, &[1, 0, 9, 0, 1]), [(vec![1, 3, 3, 3, 3, 3, 3, 3, 3, 3], 4), (vec![5], 5)]);
    }
}
