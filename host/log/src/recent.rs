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
/// Ids that go to the index in one batch.
const BATCH_IDS_MAX: usize = 4096;
/// The index is told of so many commits without ids at the latest.
const QUIET_COMMITS_MAX: u64 = 10_000;

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
        Self { state: Mutex::new(state), work: Condvar::new(), room: Condvar::new(), pending_max }
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
    pub(crate) fn commit(&self, sequence: u64, ids: &[(MessageId, Known)]) -> bool {
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
        state.evict();
        if state.last > state.flushed || sequence - state.told > QUIET_COMMITS_MAX {
            self.work.notify_one();
        }
        !state.closed
    }

    /// The next work for the index, waiting at most `patience`; `Err` when the log is closed and all is stored.
    pub(crate) fn next(&self, patience: Duration) -> Result<Option<Work>, ()> {
        let mut state = self.state.lock();
        let idle = |state: &State| state.last == state.flushed && state.sequence - state.told <= QUIET_COMMITS_MAX;
        if idle(&state) && !state.closed {
            self.work.wait_for(&mut state, patience);
        }
        if state.last == state.flushed && state.told == state.sequence {
            return if state.closed { Err(()) } else { Ok(None) };
        }
        if idle(&state) && !state.closed {
            return Ok(None);
        }
        let skip = (state.flushed - state.floor) as usize;
        let taken: Vec<_> = state.queue.iter().skip(skip).take(BATCH_IDS_MAX).copied().collect();
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
