//! Which message ids a node has met lately, in all partitions: what makes a record a duplicate, for every reader alike. (DELIVERY 23)

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use heddle_model::{MessageId, Millis, Offset};
use parking_lot::Mutex;

/// Ids of the last while, by the brokers' clock.
#[derive(Debug)]
pub(crate) struct Ids {
    window_ms: Millis,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    first: HashMap<MessageId, Known>,
    /// Of ids that occur in more than one partition, those after the first.
    more: HashMap<(MessageId, usize), Known>,
    /// Each partition's occurrences, oldest first.
    ages: Vec<VecDeque<(Millis, MessageId)>>,
    /// Appended by this node, and not met by its reader yet.
    appended: HashMap<MessageId, (usize, Offset)>,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    slot: usize,
    /// Of the occurrence that stands.
    offset: Offset,
    /// Of the last occurrence.
    at: Millis,
}

impl Ids {
    pub(crate) fn new(slots: usize, window_ms: Millis) -> Self {
        let inner = Inner { ages: vec![VecDeque::new(); slots], ..Inner::default() };
        Self { window_ms, inner: Mutex::new(inner) }
    }

    /// The reader of a partition meets an id. Does its record stand? Every occurrence counts, also one that does not stand: so the answer
    /// depends on nothing that is older than the window, wherever a reader began.
    pub(crate) fn meet(&self, slot: usize, offset: Offset, at: Millis, id: MessageId) -> bool {
        let mut inner = self.inner.lock();
        inner.forget(slot, at.saturating_sub(self.window_ms));
        if inner.appended.get(&id).is_some_and(|(known, upto)| *known == slot && *upto <= offset) {
            inner.appended.remove(&id);
        }
        inner.ages[slot].push_back((at, id));
        let known = match inner.first.get(&id).map(|known| known.slot) {
            Some(first) if first != slot => inner.more.get_mut(&(id, slot)),
            _ => inner.first.get_mut(&id),
        };
        if let Some(known) = known {
            known.at = at;
            return known.offset == offset;
        }
        let known = Known { slot, offset, at };
        match inner.first.entry(id) {
            Entry::Vacant(place) => {
                place.insert(known);
            }
            Entry::Occupied(_) => {
                inner.more.insert((id, slot), known);
            }
        }
        true
    }

    /// A broker has it; the reader will come to it.
    pub(crate) fn appended(&self, id: MessageId, slot: usize, offset: Offset, read_upto: Offset) {
        if read_upto <= offset {
            self.inner.lock().appended.insert(id, (slot, offset));
        }
    }

    /// Where the record of an id stands.
    pub(crate) fn find(&self, id: &MessageId) -> Option<(usize, Offset)> {
        let inner = self.inner.lock();
        inner.first.get(id).map(|known| (known.slot, known.offset)).or_else(|| inner.appended.get(id).copied())
    }
}

impl Inner {
    fn forget(&mut self, slot: usize, before: Millis) {
        while let Some((at, id)) = self.ages[slot].front().copied().filter(|(at, _)| *at < before) {
            self.ages[slot].pop_front();
            if self.first.get(&id).is_some_and(|known| known.slot == slot && known.at == at) {
                self.first.remove(&id);
            }
            if self.more.get(&(id, slot)).is_some_and(|known| known.at == at) {
                self.more.remove(&(id, slot));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> MessageId {
        MessageId([n; 16])
    }

    #[test]
    fn the_second_within_the_window_does_not_stand_and_makes_the_window_longer() {
        let ids = Ids::new(2, 100);
        assert!(ids.meet(0, 10, 1_000, id(1)));
        assert!(!ids.meet(0, 11, 1_090, id(1)));
        assert!(!ids.meet(0, 12, 1_180, id(1)));
        assert_eq!(ids.find(&id(1)), Some((0, 10)));
        assert!(ids.meet(0, 13, 1_300, id(1)));
        assert_eq!(ids.find(&id(1)), Some((0, 13)));
    }

    #[test]
    fn partitions_are_judged_apart_and_read_again_a_record_stands_again() {
        let ids = Ids::new(2, 100);
        assert!(ids.meet(0, 10, 1_000, id(1)));
        assert!(ids.meet(1, 3, 1_010, id(1)));
        assert!(!ids.meet(1, 4, 1_020, id(1)));
        assert!(ids.meet(0, 10, 1_000, id(1)));
        assert_eq!(ids.find(&id(1)), Some((0, 10)));
    }

    #[test]
    fn what_was_appended_is_found_before_the_reader_comes_to_it() {
        let ids = Ids::new(1, 100);
        ids.appended(id(1), 0, 7, 5);
        assert_eq!(ids.find(&id(1)), Some((0, 7)));
        assert!(ids.meet(0, 7, 1_000, id(1)));
        assert_eq!(ids.inner.lock().appended.len(), 0);
        ids.appended(id(2), 0, 6, 8);
        assert_eq!(ids.find(&id(2)), None);
    }
}
