//! What does not stand in one partition, for those who read it again from a broker.

use std::collections::BTreeMap;

use heddle_model::{Millis, Offset};
use parking_lot::Mutex;

use crate::{Batch, Repeat, Stored};

/// Offsets that do not stand: all that are not archived, and those of the last while, for a worker that takes over begins a little below the archive.
#[derive(Debug, Default)]
pub(crate) struct Skipped {
    records: Mutex<BTreeMap<Offset, Skip>>,
}

#[derive(Debug)]
struct Skip {
    at: Millis,
    /// Where the first of its id stands, if it is a later one.
    first: Option<Offset>,
}

impl Skipped {
    /// One more. Beyond `max` the oldest of those that the archive has already are let go of.
    pub(crate) fn add(&self, offset: Offset, at: Millis, first: Option<Offset>, archived: Offset, max: usize) {
        let mut records = self.records.lock();
        records.insert(offset, Skip { at, first });
        while records.len() > max && records.first_key_value().is_some_and(|(offset, _)| *offset < archived) {
            records.pop_first();
        }
    }

    /// There is room for another.
    pub(crate) fn has_room(&self, archived: Offset, max: usize) -> bool {
        let records = self.records.lock();
        records.len() < max || records.first_key_value().is_some_and(|(offset, _)| *offset < archived)
    }

    /// The archive has everything below `upto`; what is older than `before` as well is let go of.
    pub(crate) fn archived(&self, upto: Offset, before: Millis) {
        let mut records = self.records.lock();
        while records.first_key_value().is_some_and(|(offset, skip)| *offset < upto && skip.at < before) {
            records.pop_first();
        }
    }

    /// Records as they lie in the partition, sorted into those that stand and those that repeat one.
    pub(crate) fn sort(&self, all: Vec<Stored>, next: Offset) -> Batch {
        let skipped = self.records.lock();
        let mut batch = Batch { next, ..Batch::default() };
        for stored in all {
            match skipped.get(&stored.offset) {
                None => batch.records.push(stored),
                Some(Skip { first: Some(first), .. }) => batch.repeats.push(Repeat { stored, first: *first }),
                Some(Skip { first: None, .. }) => {}
            }
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(skipped: &Skipped) -> (Vec<Offset>, Vec<Offset>) {
        let all = (0..6).map(|offset| Stored { offset, appended_at: 0, bytes: bytes::Bytes::new() }).collect();
        let batch = skipped.sort(all, 6);
        let repeats = batch.repeats.iter().map(|repeat| repeat.stored.offset).collect();
        (batch.records.iter().map(|record| record.offset).collect(), repeats)
    }

    #[test]
    fn what_is_archived_is_known_for_a_while_yet_and_what_is_not_for_as_long_as_it_takes() {
        let skipped = Skipped::default();
        skipped.add(1, 1_000, None, 0, 9);
        skipped.add(3, 2_000, Some(0), 0, 9);
        assert_eq!(sorted(&skipped), (vec![0, 2, 4, 5], vec![3]));
        skipped.archived(4, 1_500);
        assert_eq!(sorted(&skipped), (vec![0, 1, 2, 4, 5], vec![3]));
        skipped.archived(3, 9_000);
        assert_eq!(sorted(&skipped).1, [3]);
    }

    #[test]
    fn there_is_room_as_long_as_the_archive_follows() {
        let skipped = Skipped::default();
        skipped.add(1, 1_000, None, 0, 2);
        assert!(skipped.has_room(0, 2));
        skipped.add(2, 1_000, None, 0, 2);
        assert!(!skipped.has_room(1, 2));
        assert!(skipped.has_room(2, 2));
        skipped.add(3, 1_000, None, 2, 2);
        assert_eq!(sorted(&skipped), (vec![0, 1, 4, 5], vec![]));
    }
}
