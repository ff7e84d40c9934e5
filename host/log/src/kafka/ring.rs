//! The newest records of one partition in memory.

use std::collections::VecDeque;

use heddle_model::Offset;

use crate::{Batch, Repeat, Stored};

/// What a ring has of a wish.
#[derive(Debug)]
pub(crate) enum Took {
    /// This.
    Some(Batch),
    /// The reader has not come so far.
    NotYet,
    /// It was let go of: ask a broker.
    Below,
    /// The log begins here.
    Gone(Offset),
}

/// One that is kept.
#[derive(Debug)]
struct Kept {
    stored: Stored,
    /// Where the first of its id stands, if it does not stand itself.
    first: Option<Offset>,
}

/// Records in [`low`, `end`), but for those that are void.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    records: VecDeque<Kept>,
    bytes: usize,
    /// Of those at or above `wanted`.
    ahead_bytes: usize,
    /// Where the log begins, as far as is known.
    start: Offset,
    low: Offset,
    end: Offset,
    /// What somebody has read up to: below it records may go.
    wanted: Offset,
    followed: bool,
}

/// What a record costs beyond its bytes.
const OVERHEAD_BYTES: usize = 96;

fn cost(record: &Kept) -> usize {
    record.stored.bytes.len() + OVERHEAD_BYTES
}

impl Kept {
    fn offset(&self) -> Offset {
        self.stored.offset
    }
}

impl Ring {
    /// The reader begins at `low`; the first that is wanted is at `wanted`, the log begins at `start`.
    pub(crate) fn begin(&mut self, start: Offset, low: Offset, wanted: Offset) {
        *self = Self { start, low, end: low, wanted, followed: true, ..Self::default() };
    }

    /// The reader met an offset; a record if it is not void, and the first of its id if it is a later one. Lets go of what was read, down to
    /// `bytes_max`.
    pub(crate) fn push(&mut self, offset: Offset, record: Option<Stored>, first: Option<Offset>, bytes_max: usize) {
        if offset < self.end {
            return;
        }
        self.end = offset + 1;
        if let Some(record) = record.map(|stored| Kept { stored, first }) {
            let cost = cost(&record);
            self.bytes += cost;
            if offset >= self.wanted {
                self.ahead_bytes += cost;
            }
            self.records.push_back(record);
        }
        while self.bytes > bytes_max && self.records.front().is_some_and(|first| first.offset() < self.wanted) {
            let Some(first) = self.records.pop_front() else { break };
            self.bytes -= cost(&first);
            self.low = first.offset() + 1;
        }
    }

    /// Records from `from`: at least one if there is one, then as many as fit.
    pub(crate) fn take(&mut self, from: Offset, bytes_max: usize) -> Took {
        if !self.followed || from >= self.end {
            return Took::NotYet;
        }
        if from < self.start {
            return Took::Gone(self.start);
        }
        if from < self.low {
            return Took::Below;
        }
        let first = self.records.partition_point(|record| record.offset() < from);
        let (mut batch, mut bytes) = (Batch { next: self.end, ..Batch::default() }, 0);
        for record in self.records.range(first..) {
            let stored = record.stored.clone();
            if bytes > 0 && bytes + stored.bytes.len() > bytes_max {
                batch.next = stored.offset;
                break;
            }
            bytes += stored.bytes.len();
            match record.first {
                None => batch.records.push(stored),
                Some(first) => batch.repeats.push(Repeat { stored, first }),
            }
        }
        if batch.next > self.wanted {
            let passed = self.records.range(first..).filter(|r| r.offset() >= self.wanted && r.offset() < batch.next);
            self.ahead_bytes -= passed.map(cost).sum::<usize>();
            self.wanted = batch.next;
        }
        Took::Some(batch)
    }

    /// Bytes that nobody has read yet.
    pub(crate) fn ahead_bytes(&self) -> usize {
        self.ahead_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(offset: Offset) -> Option<Stored> {
        Some(Stored { offset, appended_at: 0, bytes: vec![0; 10].into() })
    }

    fn took(ring: &mut Ring, from: Offset, bytes_max: usize) -> Option<(Vec<Offset>, Offset)> {
        match ring.take(from, bytes_max) {
            Took::Some(batch) => Some((batch.records.iter().map(|record| record.offset).collect(), batch.next)),
            _ => None,
        }
    }

    #[test]
    fn what_does_not_stand_is_a_hole_that_is_read_over() {
        let mut ring = Ring::default();
        ring.begin(0, 3, 4);
        for (offset, record) in [(3, record(3)), (4, None), (5, record(5)), (6, None)] {
            ring.push(offset, record, None, 1 << 20);
        }
        assert_eq!(took(&mut ring, 3, 1), Some((vec![3], 5)));
        assert_eq!(took(&mut ring, 3, 99), Some((vec![3, 5], 7)));
        assert_eq!(took(&mut ring, 6, 99), Some((vec![], 7)));
        assert!(matches!(ring.take(7, 99), Took::NotYet));
        assert!(matches!(ring.take(2, 99), Took::Below));
    }

    #[test]
    fn one_that_repeats_another_is_told_apart_in_its_place() {
        let mut ring = Ring::default();
        ring.begin(0, 0, 0);
        for (offset, first) in [(0, None), (1, Some(0)), (2, None)] {
            ring.push(offset, record(offset), first, 1 << 20);
        }
        let Took::Some(batch) = ring.take(0, 99) else { panic!("it is there") };
        let all: Vec<_> = batch.in_order().into_iter().map(|(stored, first)| (stored.offset, first)).collect();
        assert_eq!(all, [(0, None), (1, Some(0)), (2, None)]);
    }

    #[test]
    fn only_what_was_read_goes() {
        let mut ring = Ring::default();
        ring.begin(0, 0, 0);
        for offset in 0..10 {
            ring.push(offset, record(offset), None, 3 * (10 + OVERHEAD_BYTES));
        }
        assert_eq!(ring.ahead_bytes(), 10 * (10 + OVERHEAD_BYTES));
        assert_eq!(took(&mut ring, 0, 1_000).map(|(offsets, _)| offsets.len()), Some(10));
        assert_eq!(ring.ahead_bytes(), 0);
        ring.push(10, record(10), None, 3 * (10 + OVERHEAD_BYTES));
        assert!(matches!(ring.take(7, 99), Took::Below));
        assert_eq!(took(&mut ring, 8, 99), Some((vec![8, 9, 10], 11)));
        ring.begin(5, 5, 5);
        ring.push(5, record(5), None, 99);
        assert!(matches!(ring.take(4, 99), Took::Gone(5)));
    }
}
