//! The un-archived end of one partition's streams: read once per node, shared, indexed by user, bounded. (DELIVERY 14, 15)

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use heddle_model::{Position, Record, UserId};
use lru::LruCache;
use parking_lot::RwLock;

use crate::Event;

/// What a reader gets of a user's events above a position.
#[derive(Debug)]
pub(crate) enum TailRead {
    /// All of them up to `upto`, in order (perhaps cut at the limit; then `upto` is the last one's position).
    Events { events: Vec<Arc<Event>>, upto: Position },
    /// The position lies below the tail: go to the archive.
    Below,
}

/// One that is kept.
#[derive(Debug, Clone)]
enum Kept {
    /// Somebody was here to get it.
    Event(Arc<Event>),
    /// As it stands in the log: nobody was.
    Folded(Arc<Folded>),
}

/// A record that was passed by.
#[derive(Debug)]
struct Folded {
    position: Position,
    reader: UserId,
    bytes: Bytes,
}

impl Kept {
    fn position(&self) -> Position {
        match self {
            Self::Event(event) => event.position,
            Self::Folded(folded) => folded.position,
        }
    }

    /// Of the record.
    fn bytes(&self) -> usize {
        match self {
            Self::Event(event) => event.bytes,
            Self::Folded(folded) => folded.bytes.len(),
        }
    }

    fn audience(&self) -> Vec<&UserId> {
        match self {
            Self::Event(event) => event.record.audience(),
            Self::Folded(folded) => vec![&folded.reader],
        }
    }

    /// None for what is no event after all, which no glance takes.
    fn event(self) -> Option<Arc<Event>> {
        match self {
            Self::Event(event) => Some(event),
            Self::Folded(folded) => unfold(folded.position, &folded.bytes),
        }
    }
}

/// The event that these bytes are at a position.
pub(crate) fn unfold(position: Position, bytes: &[u8]) -> Option<Arc<Event>> {
    let record = Record::decode(bytes).inspect_err(|error| tracing::error!(%position, %error, "an event is left out"));
    Event::new(position, record.ok()?, bytes.len()).map(Arc::new)
}

/// What the tails of all partitions of a node hold together.
#[derive(Debug)]
pub(crate) struct Budget {
    bytes: AtomicUsize,
    bytes_max: usize,
    /// What each partition may hold, however much the others do.
    share: usize,
}

impl Budget {
    /// In bytes of records as the log has them.
    pub(crate) fn new(bytes_max: usize, partitions: usize) -> Arc<Self> {
        Arc::new(Self { bytes: AtomicUsize::new(0), bytes_max, share: bytes_max / partitions.max(1) })
    }

    fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn free(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Must a partition that holds so many let go of some?
    fn over(&self, own: usize) -> bool {
        own > self.share && self.bytes.load(Ordering::Relaxed) > self.bytes_max
    }
}

/// Events of one partition in (`low`, `upto`].
#[derive(Debug)]
pub(crate) struct Tail {
    inner: RwLock<Inner>,
    events_max: usize,
}

#[derive(Debug)]
struct Inner {
    low: Position,
    upto: Position,
    events: VecDeque<Kept>,
    /// Of the records of these events.
    bytes: usize,
    budget: Arc<Budget>,
    users: HashMap<UserId, VecDeque<Kept>>,
    /// The last event of users, also of those that the archive has already.
    last: LruCache<UserId, Position>,
    users_max: usize,
    /// No user outside `last` has an event above it: where reading began, or the largest position evicted from `last`.
    floor: Position,
}

impl Tail {
    /// Starts empty at `at`: everything up to it is somewhere else.
    pub(crate) fn new(at: Position, events_max: usize, budget: Arc<Budget>, users_max: NonZeroUsize) -> Self {
        let inner = Inner {
            low: at,
            upto: at,
            events: VecDeque::new(),
            bytes: 0,
            budget,
            users: HashMap::new(),
            // One with a bound of its own would take the memory for all of them at once.
            last: LruCache::unbounded(),
            users_max: users_max.get(),
            floor: at,
        };
        Self { inner: RwLock::new(inner), events_max }
    }

    /// What comes next comes after `at`. If that leaves something out, nothing from before is vouched for: it is somewhere else, all of it. Whether it did.
    pub(crate) fn begin(&self, at: Position) -> bool {
        let mut inner = self.inner.write();
        let left_out = inner.upto < at;
        if left_out {
            (inner.low, inner.upto, inner.floor) = (at, at, at);
            let held = std::mem::take(&mut inner.bytes);
            inner.budget.free(held);
            inner.events.clear();
            inner.users.clear();
            inner.last.clear();
        }
        left_out
    }

    /// Adds an event, and answers for each of its readers the position above which the reader has nothing before it: a push's `after`.
    pub(crate) fn push(&self, event: &Arc<Event>) -> Vec<(UserId, Position)> {
        let mut inner = self.inner.write();
        if event.position <= inner.upto {
            // Read again by a worker that started again.
            return Vec::new();
        }
        let audience: Vec<UserId> = event.record.audience().into_iter().cloned().collect();
        let kept = Kept::Event(Arc::clone(event));
        let mut readers = Vec::with_capacity(audience.len());
        for user in audience {
            let after = inner.keep(&user, &kept);
            readers.push((user, after));
        }
        inner.grow(kept, self.events_max);
        readers
    }

    /// Adds a record of which only the reader is known: it becomes an event when somebody reads it. As [`push`](Self::push) otherwise; none: it was
    /// there.
    pub(crate) fn pass(&self, position: Position, reader: &UserId, bytes: Bytes) -> Option<Position> {
        let mut inner = self.inner.write();
        if position <= inner.upto {
            return None;
        }
        let kept = Kept::Folded(Arc::new(Folded { position, reader: reader.clone(), bytes }));
        let after = inner.keep(reader, &kept);
        inner.grow(kept, self.events_max);
        Some(after)
    }

    /// Notes that there is nothing else up to `upto`.
    pub(crate) fn reached(&self, upto: Position) {
        let mut inner = self.inner.write();
        inner.upto = inner.upto.max(upto);
    }

    /// Drops what the archive has.
    pub(crate) fn archived(&self, upto: Position) {
        let mut inner = self.inner.write();
        while inner.events.front().is_some_and(|event| event.position() <= upto) {
            inner.evict_first();
        }
        let reached = inner.upto;
        inner.low = inner.low.max(upto.min(reached));
    }

    /// The user's events above `after`, at most `limit`.
    pub(crate) fn read(&self, user: &UserId, after: Position, limit: usize) -> TailRead {
        let (kept, upto) = {
            let inner = self.inner.read();
            if after < inner.low {
                return TailRead::Below;
            }
            let Some(queue) = inner.users.get(user) else {
                return TailRead::Events { events: Vec::new(), upto: inner.upto };
            };
            let start = queue.partition_point(|event| event.position() <= after);
            let kept: Vec<Kept> = queue.range(start..).take(limit).cloned().collect();
            let upto = match kept.last() {
                Some(last) if start + kept.len() < queue.len() => last.position(),
                _ => inner.upto,
            };
            (kept, upto)
        };
        TailRead::Events { events: kept.into_iter().filter_map(Kept::event).collect(), upto }
    }

    /// Whether the archive has everything that was read.
    pub(crate) fn is_empty(&self) -> bool {
        self.inner.read().events.is_empty()
    }

    /// Bytes of the records that it holds.
    pub(crate) fn bytes(&self) -> usize {
        self.inner.read().bytes
    }

    /// Below it: the archive.
    pub(crate) fn low(&self) -> Position {
        self.inner.read().low
    }

    /// How far the partition was read.
    pub(crate) fn upto(&self) -> Position {
        self.inner.read().upto
    }
}

impl Inner {
    /// Adds it to what a user has, and answers above what the user had nothing before it.
    fn keep(&mut self, user: &UserId, kept: &Kept) -> Position {
        match self.users.get_mut(user) {
            Some(queue) => queue.push_back(kept.clone()),
            None => drop(self.users.insert(user.clone(), VecDeque::from([kept.clone()]))),
        }
        self.moved(user, kept.position())
    }

    /// Adds it to what there is, and lets go of the first beyond the bounds. The newest stays, however large.
    fn grow(&mut self, kept: Kept, events_max: usize) {
        self.upto = kept.position();
        self.bytes += kept.bytes();
        self.budget.add(kept.bytes());
        self.events.push_back(kept);
        while self.events.len() > events_max || (self.events.len() > 1 && self.budget.over(self.bytes)) {
            self.evict_first();
        }
    }

    /// Notes a user's newest event, and answers above what the user had nothing before it.
    fn moved(&mut self, user: &UserId, position: Position) -> Position {
        match self.last.get_mut(user) {
            Some(last) => std::mem::replace(last, position),
            None => {
                self.last.put(user.clone(), position);
                let after = self.floor;
                if self.last.len() > self.users_max
                    && let Some((_, evicted)) = self.last.pop_lru()
                {
                    self.floor = self.floor.max(evicted);
                }
                after
            }
        }
    }

    fn evict_first(&mut self) {
        let Some(event) = self.events.pop_front() else { return };
        let position = event.position();
        self.bytes -= event.bytes();
        self.budget.free(event.bytes());
        self.low = self.low.max(position);
        for user in event.audience() {
            if let Some(queue) = self.users.get_mut(user) {
                if queue.front().is_some_and(|first| first.position() == position) {
                    queue.pop_front();
                }
                if queue.is_empty() {
                    self.users.remove(user);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use heddle_model::{Conversation, MessageId, ReceiptRecord, ReceiptStatus, Record};

    use super::*;

    fn event(to: &str, position: u64) -> Arc<Event> {
        let record = Record::Receipt(ReceiptRecord {
            to: UserId::new(to).unwrap(),
            conversation: Conversation::parse("user:x").unwrap(),
            message_id: MessageId([0; 16]),
            by: UserId::new("x").unwrap(),
            status: ReceiptStatus::Read,
            order: Position(1),
            at: 0,
            count: None,
        });
        Arc::new(Event::new(Position(position), record, 10).unwrap())
    }

    fn tail(at: u64, events_max: usize) -> Tail {
        Tail::new(Position(at), events_max, Budget::new(usize::MAX, 1), NonZeroUsize::new(2).unwrap())
    }

    #[test]
    fn what_all_tails_hold_is_bounded_and_each_has_its_share() {
        let a = UserId::new("a").unwrap();
        let budget = Budget::new(100, 5);
        let tails: Vec<_> =
            (0..5).map(|_| Tail::new(Position(0), 1_000, Arc::clone(&budget), NonZeroUsize::new(2).unwrap())).collect();
        // Each event counts as 10 bytes.
        for position in 1..=50 {
            tails[0].push(&event("a", position));
        }
        assert_eq!(tails[0].bytes(), 100);
        assert_eq!(positions(tails[0].read(&a, Position(39), 99)), None);
        assert_eq!(positions(tails[0].read(&a, Position(40), 1)), Some((vec![41], 41)));
        // Another has its share beside it; what it adds beyond is paid by itself, and the first by what it adds.
        for position in 1..=9 {
            tails[1].push(&event("a", position));
        }
        assert_eq!((tails[0].bytes(), tails[1].bytes()), (100, 20));
        tails[0].push(&event("a", 51));
        assert_eq!((tails[0].bytes(), tails[1].bytes()), (80, 20));
        // What the archive has makes room.
        tails[0].archived(Position(51));
        assert_eq!(tails[0].bytes(), 0);
        for position in 10..=15 {
            tails[1].push(&event("a", position));
        }
        assert_eq!(tails[1].bytes(), 80);
        assert!(tails[1].begin(Position(30)));
        assert_eq!((tails[1].bytes(), budget.bytes.load(Ordering::Relaxed)), (0, 0));
    }

    #[test]
    fn a_user_that_was_forgotten_is_vouched_for_only_above_what_was_evicted() {
        let tail = tail(10, 9);
        for (user, position) in [("a", 11), ("b", 12), ("c", 13)] {
            tail.push(&event(user, position));
        }
        let a = UserId::new("a").unwrap();
        assert_eq!(tail.push(&event("a", 14)), [(a, Position(11))]);
    }

    #[test]
    fn what_was_left_out_is_vouched_for_by_nobody_whatever_was_there_before() {
        let (a, b) = (UserId::new("a").unwrap(), UserId::new("b").unwrap());
        for archived in [10, 11, 12] {
            let tail = tail(10, 9);
            tail.push(&event("a", 11));
            tail.push(&event("b", 12));
            tail.archived(Position(archived));
            assert!(!tail.begin(Position(12)), "nothing is left out");
            assert!(tail.begin(Position(20)));
            assert_eq!(positions(tail.read(&a, Position(11), 9)), None);
            assert_eq!(tail.push(&event("a", 21)), [(a.clone(), Position(20))]);
            assert_eq!(tail.push(&event("b", 22)), [(b.clone(), Position(20))]);
            assert_eq!(tail.push(&event("a", 23)), [(a.clone(), Position(21))]);
            assert_eq!(positions(tail.read(&a, Position(11), 9)), None);
            assert_eq!(positions(tail.read(&a, Position(20), 9)), Some((vec![21, 23], 23)));
        }
    }

    fn positions(read: TailRead) -> Option<(Vec<u64>, u64)> {
        match read {
            TailRead::Events { events, upto } => Some((events.iter().map(|e| e.position.0).collect(), upto.0)),
            TailRead::Below => None,
        }
    }

    #[test]
    fn a_push_vouches_from_the_users_last_event_or_from_the_low_end() {
        let (a, b) = (UserId::new("a").unwrap(), UserId::new("b").unwrap());
        let tail = tail(10, 2);
        assert_eq!(tail.push(&event("a", 11)), [(a.clone(), Position(10))]);
        assert_eq!(tail.push(&event("b", 12)), [(b, Position(10))]);
        assert_eq!(tail.push(&event("a", 13)), [(a.clone(), Position(11))]);
        // 11 was evicted: whoever stands below it goes to the archive.
        assert_eq!(positions(tail.read(&a, Position(10), 9)), None);
        assert_eq!(positions(tail.read(&a, Position(11), 9)), Some((vec![13], 13)));
    }

    #[test]
    fn a_cut_read_vouches_only_up_to_its_last_event() {
        let a = UserId::new("a").unwrap();
        let tail = tail(0, 10);
        for position in 1..=3 {
            tail.push(&event("a", position));
        }
        tail.reached(Position(7));
        assert_eq!(positions(tail.read(&a, Position(0), 2)), Some((vec![1, 2], 2)));
        assert_eq!(positions(tail.read(&a, Position(2), 2)), Some((vec![3], 7)));
        tail.archived(Position(2));
        assert_eq!(positions(tail.read(&a, Position(1), 2)), None);
        assert_eq!(positions(tail.read(&a, Position(2), 2)), Some((vec![3], 7)));
    }

    #[test]
    fn a_record_that_was_passed_by_is_read_as_the_event_that_it_is() {
        let (a, b) = (UserId::new("a").unwrap(), UserId::new("b").unwrap());
        let tail = tail(10, 2);
        let pass = |position, user: &UserId| {
            tail.pass(Position(position), user, event(user.as_str(), position).record.encode())
        };
        assert_eq!(pass(11, &a), Some(Position(10)));
        assert_eq!(pass(11, &a), None, "it is there");
        assert_eq!(tail.push(&event("a", 12)), [(a.clone(), Position(11))]);
        let TailRead::Events { events, .. } = tail.read(&a, Position(10), 9) else { panic!("it is there") };
        assert_eq!(events.iter().map(|event| &event.record).collect::<Vec<_>>(), [&event("a", 11).record; 2]);
        assert_eq!(positions(tail.read(&a, Position(10), 1)), Some((vec![11], 11)));
        assert_eq!(pass(13, &b), Some(Position(10)));
        assert_eq!(positions(tail.read(&a, Position(10), 9)), None, "11 was let go of");
        assert_eq!(positions(tail.read(&a, Position(11), 9)), Some((vec![12], 13)));
        tail.archived(Position(13));
        assert_eq!(positions(tail.read(&b, Position(13), 9)), Some((vec![], 13)));
        assert_eq!(tail.inner.read().users.len(), 0);
    }
}
