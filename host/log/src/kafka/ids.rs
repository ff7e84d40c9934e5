//! Which message ids a node has met lately, in all partitions: what makes a record a duplicate, for every reader alike. (DELIVERY 23)
//!
//! What is a duplicate depends on the log alone: on the ids of the last while, at most so many of a partition. What can be looked up reaches further:
//! an id is kept until its record is archived, for whoever asks later asks the archive.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};

use heddle_model::{MessageId, Millis, Offset};
use parking_lot::Mutex;

/// Ids of the last while, by the brokers' clock, and those that the archive does not have yet.
#[derive(Debug)]
pub(crate) struct Ids {
    window_ms: Millis,
    /// Of one partition: so many of the last while, and as many that wait for the archive.
    each_max: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    first: HashMap<MessageId, Known>,
    /// Of ids that occur in more than one partition, those after the first.
    more: HashMap<(MessageId, usize), Known>,
    /// Older than the window, and not archived.
    waiting: HashMap<MessageId, (usize, Offset)>,
    /// Appended by this node, and not met by its reader yet.
    appended: HashMap<MessageId, (usize, Offset)>,
    slots: Vec<Slot>,
}

/// What is known of one partition.
#[derive(Debug, Default)]
struct Slot {
    /// Its occurrences, oldest first.
    met: VecDeque<(Millis, Offset, MessageId)>,
    /// Those of `waiting`.
    waiting: BTreeMap<Offset, MessageId>,
    /// The reader has met everything below that has an id.
    met_upto: Offset,
    /// Everything below is in the archive.
    archived: Offset,
    /// Below it some had no room to wait.
    blind_below: Offset,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    slot: usize,
    /// Of the occurrence that stands.
    offset: Offset,
    /// Of the last occurrence.
    last: Offset,
}

/// What a reader learns of a record that has an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Met {
    /// It is the first.
    Stands,
    /// The first is there.
    Repeats(Offset),
}

impl Ids {
    /// `max`: ids of the last while, of all partitions; each has an equal share.
    pub(crate) fn new(slots: usize, window_ms: Millis, max: usize) -> Self {
        let inner = Inner { slots: (0..slots).map(|_| Slot::default()).collect(), ..Inner::default() };
        Self { window_ms, each_max: (max / slots.max(1)).max(1), inner: Mutex::new(inner) }
    }

    /// The reader of a partition meets an id. Does its record stand? Every occurrence counts, also one that does not stand: so the answer
    /// depends on nothing that is older than the window, wherever a reader began.
    pub(crate) fn meet(&self, slot: usize, offset: Offset, at: Millis, id: MessageId) -> Met {
        let mut inner = self.inner.lock();
        inner.forget(slot, at.saturating_sub(self.window_ms), self.each_max);
        if inner.appended.get(&id).is_some_and(|(known, upto)| *known == slot && *upto <= offset) {
            inner.appended.remove(&id);
        }
        let of = &mut inner.slots[slot];
        of.met.push_back((at, offset, id));
        of.met_upto = of.met_upto.max(offset + 1);
        let known = match inner.first.get(&id).map(|known| known.slot) {
            Some(first) if first != slot => inner.more.get_mut(&(id, slot)),
            _ => inner.first.get_mut(&id),
        };
        if let Some(known) = known {
            known.last = offset;
            return if known.offset == offset { Met::Stands } else { Met::Repeats(known.offset) };
        }
        let known = Known { slot, offset, last: offset };
        match inner.first.entry(id) {
            Entry::Vacant(place) => {
                place.insert(known);
            }
            Entry::Occupied(_) => {
                inner.more.insert((id, slot), known);
            }
        }
        Met::Stands
    }

    /// A broker has it; the reader will come to it. One that is far behind is waited for by whoever must be sure.
    pub(crate) fn appended(&self, id: MessageId, slot: usize, offset: Offset) {
        let mut inner = self.inner.lock();
        let room = inner.appended.len() < self.each_max.saturating_mul(inner.slots.len());
        // The reader may have been quicker: nobody would take it away again.
        if inner.slots[slot].met_upto <= offset && room {
            inner.appended.insert(id, (slot, offset));
        }
    }

    /// The archive has everything of a partition below `upto`.
    pub(crate) fn archived(&self, slot: usize, upto: Offset) {
        let mut inner = self.inner.lock();
        let of = &mut inner.slots[slot];
        of.archived = of.archived.max(upto);
        let rest = of.waiting.split_off(&upto);
        for (offset, id) in std::mem::replace(&mut of.waiting, rest) {
            if inner.waiting.get(&id) == Some(&(slot, offset)) {
                inner.waiting.remove(&id);
            }
        }
    }

    /// How far a partition is archived.
    pub(crate) fn archived_upto(&self, slot: usize) -> Offset {
        self.inner.lock().slots[slot].archived
    }

    /// Where the record of an id stands.
    pub(crate) fn find(&self, id: &MessageId) -> Option<(usize, Offset)> {
        let inner = self.inner.lock();
        let waiting = inner.waiting.get(id).copied();
        waiting
            .or_else(|| inner.first.get(id).map(|known| (known.slot, known.offset)))
            .or_else(|| inner.appended.get(id).copied())
    }

    /// An id that is not found may be in the log all the same: it is neither archived, nor was there room for it.
    pub(crate) fn blind(&self) -> bool {
        self.inner.lock().slots.iter().any(|slot| slot.blind_below > slot.archived)
    }

    /// Ids of the last while, and those that wait for the archive.
    pub(crate) fn sizes(&self) -> (usize, usize) {
        let inner = self.inner.lock();
        (inner.first.len() + inner.more.len() + inner.appended.len(), inner.waiting.len())
    }
}

impl Inner {
    /// Lets go of what is too old, and of the oldest beyond the bound. The same in every reader of the partition.
    fn forget(&mut self, slot: usize, before: Millis, max: usize) {
        while let Some((at, offset, id)) = self.slots[slot].met.front().copied()
            && (at < before || self.slots[slot].met.len() >= max)
        {
            self.slots[slot].met.pop_front();
            let mut gone = None;
            if self.first.get(&id).is_some_and(|known| known.slot == slot && known.last == offset) {
                gone = self.first.remove(&id);
            }
            if self.more.get(&(id, slot)).is_some_and(|known| known.last == offset) {
                gone = self.more.remove(&(id, slot));
            }
            if let Some(known) = gone.filter(|known| known.offset >= self.slots[slot].archived) {
                self.wait(known, id, max);
            }
        }
    }

    fn wait(&mut self, known: Known, id: MessageId, max: usize) {
        let slot = &mut self.slots[known.slot];
        if slot.waiting.len() >= max {
            slot.blind_below = slot.blind_below.max(known.offset + 1);
            return;
        }
        slot.waiting.insert(known.offset, id);
        // The earlier of two that stand is the one that is told.
        self.waiting.entry(id).or_insert((known.slot, known.offset));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> MessageId {
        MessageId([n; 16])
    }

    fn ids(slots: usize) -> Ids {
        Ids::new(slots, 100, 1_000)
    }

    #[test]
    fn the_second_within_the_window_does_not_stand_and_makes_the_window_longer() {
        let ids = ids(2);
        ids.archived(0, 99);
        assert_eq!(ids.meet(0, 10, 1_000, id(1)), Met::Stands);
        assert_eq!(ids.meet(0, 11, 1_090, id(1)), Met::Repeats(10));
        assert_eq!(ids.meet(0, 12, 1_180, id(1)), Met::Repeats(10));
        assert_eq!(ids.find(&id(1)), Some((0, 10)));
        assert_eq!(ids.meet(0, 13, 1_300, id(1)), Met::Stands);
        assert_eq!(ids.find(&id(1)), Some((0, 13)));
    }

    #[test]
    fn partitions_are_judged_apart_and_read_again_a_record_stands_again() {
        let ids = ids(2);
        assert_eq!(ids.meet(0, 10, 1_000, id(1)), Met::Stands);
        assert_eq!(ids.meet(1, 3, 1_010, id(1)), Met::Stands);
        assert_eq!(ids.meet(1, 4, 1_020, id(1)), Met::Repeats(3));
        assert_eq!(ids.meet(0, 10, 1_000, id(1)), Met::Stands);
        assert_eq!(ids.find(&id(1)), Some((0, 10)));
    }

    #[test]
    fn what_was_appended_is_found_before_the_reader_comes_to_it() {
        let ids = ids(1);
        ids.appended(id(1), 0, 7);
        assert_eq!(ids.find(&id(1)), Some((0, 7)));
        assert_eq!(ids.meet(0, 7, 1_000, id(1)), Met::Stands);
        assert_eq!(ids.inner.lock().appended.len(), 0);
        ids.appended(id(2), 0, 6);
        assert_eq!(ids.find(&id(2)), None);
    }

    /// Ids once went by age alone. While the archive was further behind than the window, what was sent again was in neither, and stood twice.
    #[test]
    fn an_id_is_found_until_its_record_is_archived_however_old_it_is() {
        let ids = ids(1);
        ids.archived(0, 10);
        ids.meet(0, 10, 1_000, id(1));
        ids.meet(0, 11, 9_000, id(2));
        assert_eq!(ids.find(&id(1)), Some((0, 10)));
        ids.archived(0, 11);
        assert_eq!((ids.find(&id(1)), ids.sizes()), (None, (1, 0)));
        assert!(!ids.blind());
    }

    #[test]
    fn beyond_the_bound_nobody_can_tell_until_the_archive_has_come_so_far() {
        let ids = Ids::new(1, 100, 2);
        for n in 0..6 {
            ids.meet(0, n, 1_000 + n, id(n as u8));
        }
        // Two of the last while, two that wait, and two that are known to nobody.
        assert_eq!(ids.sizes(), (2, 2));
        assert!(ids.blind() && ids.find(&id(0)).is_some() && ids.find(&id(2)).is_none());
        ids.archived(0, 3);
        assert!(ids.blind());
        ids.archived(0, 4);
        assert!(!ids.blind());
    }

    #[test]
    fn the_bound_makes_the_window_shorter_alike_for_every_reader() {
        let (early, late) = (Ids::new(1, 1_000, 3), Ids::new(1, 1_000, 3));
        for n in 0..5 {
            early.meet(0, n, n, id(n as u8));
        }
        for n in 2..5 {
            late.meet(0, n, n, id(n as u8));
        }
        for (n, met) in [(5, Met::Stands), (6, Met::Repeats(4))] {
            let again = if n == 5 { id(1) } else { id(4) };
            assert_eq!([early.meet(0, n, n, again), late.meet(0, n, n, again)], [met, met]);
        }
    }
}
