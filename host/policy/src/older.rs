//! Generations that decide no more: those whose records may still wait to be fanned out, and those that are kept for a quick way back.
//!
//! A generation is drained when nobody serves it any more and everything that the log held after that was worked on. Until then it is never
//! forgotten: where too many are loaded, one is let go and read from the catalog again when it is met.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZeroUsize;
use std::sync::{Arc, Weak};
use std::time::Duration;

use heddle_model::{Digest, Offset, TopicPartition};
use lru::LruCache;

use crate::{Generation, Policies};

/// Numbers that are remembered while they drain. What is forgotten beyond it is read from the catalog when it is met, like any other.
const NUMBERS_MAX: usize = 10_000;

/// Generations that decide no more, each list in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OlderNumbers {
    /// Those whose records may still wait to be fanned out.
    pub draining: Vec<u64>,
    /// Of those, the ones that are loaded; the others are read from the catalog when a record of theirs is met.
    pub loaded: Vec<u64>,
    /// Of the draining ones, those that nobody serves any more: they wait until the `derived` cursors have passed their records, and for nothing else.
    pub waiting: Vec<u64>,
    /// Drained ones that are kept loaded, for a quick way back.
    pub kept: Vec<u64>,
}

impl OlderNumbers {
    /// In a word, what is still done with this one: `draining` or `kept`.
    #[must_use]
    pub fn standing(&self, number: u64) -> Option<&'static str> {
        match number {
            _ if self.draining.contains(&number) => Some("draining"),
            _ if self.kept.contains(&number) => Some("kept"),
            _ => None,
        }
    }
}

/// All of them.
pub(crate) struct Older {
    draining: BTreeMap<u64, Draining>,
    kept: LruCache<u64, Arc<Generation>>,
    /// Draining ones that may be loaded.
    loaded_max: usize,
    /// Grows with each question.
    asked: u64,
}

struct Draining {
    loaded: Option<Arc<Generation>>,
    /// What decided here: whoever holds it beside us may still stamp a message with its number.
    served: Weak<Generation>,
    /// When it ceased to decide here, on the monotonic clock.
    since: Duration,
    /// Where the log ended when nobody served it any more.
    ends: Option<Arc<Vec<(TopicPartition, Offset)>>>,
    asked: u64,
    /// What it needs from the catalog when it is loaded again.
    files: BTreeSet<Digest>,
}

impl Draining {
    fn is_served(&self) -> bool {
        let ours = self.loaded.as_ref().is_some_and(|loaded| std::ptr::eq(Arc::as_ptr(loaded), self.served.as_ptr()));
        self.served.strong_count() > usize::from(ours)
    }
}

impl Older {
    pub(crate) fn new(kept_max: usize, loaded_max: usize) -> Self {
        let kept_max = NonZeroUsize::new(kept_max).unwrap_or(NonZeroUsize::MIN);
        Self { draining: BTreeMap::new(), kept: LruCache::new(kept_max), loaded_max: loaded_max.max(1), asked: 0 }
    }

    /// Other bounds hold, at once.
    pub(crate) fn bound(&mut self, kept_max: usize, loaded_max: usize) {
        self.kept.resize(NonZeroUsize::new(kept_max).unwrap_or(NonZeroUsize::MIN));
        self.loaded_max = loaded_max.max(1);
        self.unload_above();
    }

    /// It decided until now.
    pub(crate) fn retire(&mut self, generation: Arc<Generation>, now: Duration) {
        let (number, served) = (generation.number(), Arc::downgrade(&generation));
        let files = generation.files.clone();
        self.put(number, Draining { loaded: Some(generation), served, since: now, ends: None, asked: 0, files });
    }

    /// It was met and loaded from the catalog: there are records of it.
    pub(crate) fn met(&mut self, generation: Arc<Generation>, now: Duration) {
        let number = generation.number();
        let known = self.draining.remove(&number);
        let files = generation.files.clone();
        let unmet = || Draining { loaded: None, served: Weak::new(), since: now, ends: None, asked: 0, files };
        let known = known.unwrap_or_else(unmet);
        self.put(number, Draining { loaded: Some(generation), ..known });
    }

    fn put(&mut self, number: u64, draining: Draining) {
        self.asked += 1;
        self.kept.pop(&number);
        self.draining.insert(number, Draining { asked: self.asked, ..draining });
        self.unload_above();
        while self.draining.len() > NUMBERS_MAX {
            self.draining.pop_first();
        }
    }

    fn unload_above(&mut self) {
        while self.loaded() > self.loaded_max {
            let loaded = self.draining.values_mut().filter(|it| it.loaded.is_some());
            let Some(least) = loaded.min_by_key(|it| it.asked) else { break };
            least.loaded = None;
        }
    }

    /// If it is loaded.
    pub(crate) fn get(&mut self, number: u64) -> Option<Arc<Generation>> {
        self.asked += 1;
        let Some(draining) = self.draining.get_mut(&number) else { return self.kept.get(&number).cloned() };
        draining.asked = self.asked;
        draining.loaded.clone()
    }

    /// It is to be loaded anew when it is met: what its records need is another now.
    pub(crate) fn unload(&mut self, number: u64) {
        self.kept.pop(&number);
        if let Some(draining) = self.draining.get_mut(&number) {
            draining.loaded = None;
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Generation>> {
        self.draining.values().filter_map(|it| it.loaded.as_ref()).chain(self.kept.iter().map(|(_, kept)| kept))
    }

    /// Of each the number and what it needs from the catalog.
    pub(crate) fn files(&self) -> impl Iterator<Item = (u64, &BTreeSet<Digest>)> {
        let kept = self.kept.iter().map(|(number, kept)| (*number, &kept.files));
        self.draining.iter().map(|(number, it)| (*number, &it.files)).chain(kept)
    }

    /// Draining ones that are loaded.
    pub(crate) fn loaded(&self) -> usize {
        self.draining.values().filter(|it| it.loaded.is_some()).count()
    }

    pub(crate) fn kept(&self) -> usize {
        self.kept.len()
    }

    fn quiet(&self, before: Duration) -> Vec<u64> {
        let quiet = |it: &Draining| it.ends.is_none() && it.since <= before && !it.is_served();
        self.draining.iter().filter(|(_, it)| quiet(it)).map(|(number, _)| *number).collect()
    }

    fn mark(&mut self, numbers: &[u64], ends: &Arc<Vec<(TopicPartition, Offset)>>) {
        for number in numbers {
            if let Some(draining) = self.draining.get_mut(number) {
                draining.ends = Some(Arc::clone(ends));
            }
        }
    }

    /// Those that are drained now.
    fn drain(&mut self, derived: &HashMap<TopicPartition, Offset>) -> Vec<u64> {
        let passed = |(partition, end): &(TopicPartition, Offset)| derived.get(partition).copied().unwrap_or(0) >= *end;
        let drained = |it: &Draining| it.ends.as_ref().is_some_and(|ends| ends.iter().all(passed));
        let numbers: Vec<u64> = self.draining.iter().filter(|(_, it)| drained(it)).map(|(number, _)| *number).collect();
        for number in &numbers {
            if let Some(loaded) = self.draining.remove(number).and_then(|it| it.loaded) {
                self.kept.put(*number, loaded);
            }
        }
        numbers
    }
}

/// Who works on the log says how far it is: this crate knows no log.
impl Policies {
    /// Generations that have not decided for `long` and that nobody holds who could stamp a message with them. To be told where the log ends, read
    /// after this call: [`Policies::ended`].
    #[must_use]
    pub fn quiet(&self, long: Duration) -> Vec<u64> {
        let now = self.shared.floor.deps.clock.monotonic();
        now.checked_sub(long).map_or_else(Vec::new, |before| self.shared.older.lock().quiet(before))
    }

    /// No record of these generations stands behind these ends of the log's partitions.
    pub fn ended(&self, numbers: &[u64], ends: Vec<(TopicPartition, Offset)>) {
        self.shared.older.lock().mark(numbers, &Arc::new(ends));
    }

    /// Is there a generation that waits only for its records to be worked on?
    #[must_use]
    pub fn drains(&self) -> bool {
        self.shared.older.lock().draining.values().any(|it| it.ends.is_some())
    }

    /// Everything below these offsets was worked on: what lay there needs its generation no more.
    pub fn worked(&self, derived: &HashMap<TopicPartition, Offset>) {
        let drained = self.shared.older.lock().drain(derived);
        if !drained.is_empty() {
            tracing::debug!(generations = ?drained, "generations are drained");
        }
    }

    /// Those that decide no more and are not forgotten.
    #[must_use]
    pub fn older(&self) -> OlderNumbers {
        let older = self.shared.older.lock();
        let those = |so: fn(&Draining) -> bool| {
            older.draining.iter().filter(|(_, it)| so(it)).map(|(number, _)| *number).collect::<Vec<_>>()
        };
        let mut kept: Vec<u64> = older.kept.iter().map(|(number, _)| *number).collect();
        kept.sort_unstable();
        let (loaded, waiting) = (those(|it| it.loaded.is_some()), those(|it| it.ends.is_some()));
        OlderNumbers { draining: older.draining.keys().copied().collect(), loaded, waiting, kept }
    }
}
