//! What rate limits remember: bytes per (plugin, state_version, scope, key), on this node, bounded, kept across generations.

use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use heddle_model::Millis;
use heddle_pack::contract::Scope;
use lru::LruCache;
use parking_lot::{Mutex, MutexGuard};

const SHARDS: usize = 256;

/// Whose state: the plugin's name, so that a new version finds it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct StateKey {
    pub(crate) plugin: Box<str>,
    /// The plugin's `state_version`.
    pub(crate) version: u32,
    pub(crate) scope: Scope,
    pub(crate) key: Arc<str>,
}

/// What is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) bytes: Box<[u8]>,
    pub(crate) keep: Millis,
    until: Millis,
}

type Shard = LruCache<StateKey, State>;

/// All of it. Its memory is at most `states_max` x (256 bytes of state and up to 600 of key).
pub(crate) struct States {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    bytes: AtomicUsize,
    held: AtomicUsize,
}

/// The shards of one decision's keys, locked in the order of their numbers: two decisions cannot wait for each other in a circle,
/// and calls for one key come one after the other.
pub(crate) struct Locked<'a> {
    states: &'a States,
    guards: Vec<(usize, MutexGuard<'a, Shard>)>,
}

impl States {
    pub(crate) fn new(states_max: usize) -> Self {
        let each = NonZeroUsize::new(states_max.div_ceil(SHARDS)).unwrap_or(NonZeroUsize::MIN);
        Self {
            shards: (0..SHARDS).map(|_| Mutex::new(LruCache::new(each))).collect(),
            hasher: RandomState::new(),
            bytes: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
        }
    }

    /// Another bound holds, at once: what was not asked for longest goes.
    pub(crate) fn bound(&self, states_max: usize) {
        let each = NonZeroUsize::new(states_max.div_ceil(SHARDS)).unwrap_or(NonZeroUsize::MIN);
        for shard in &self.shards {
            let mut shard = shard.lock();
            while shard.len() > each.get() {
                let Some((key, state)) = shard.pop_lru() else { break };
                self.count(None, Some(size(&key, &state)));
            }
            shard.resize(each);
        }
    }

    pub(crate) fn lock(&self, keys: &[(Scope, Arc<str>)]) -> Locked<'_> {
        let mut numbers: Vec<usize> = keys.iter().map(|(scope, key)| self.shard(*scope, key)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        Locked { states: self, guards: numbers.into_iter().map(|at| (at, self.shards[at].lock())).collect() }
    }

    /// Keys held, and the bytes of their keys and states.
    pub(crate) fn figures(&self) -> (usize, usize) {
        (self.held.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }

    /// By scope and key only: a decision's plugins share the locks.
    fn shard(&self, scope: Scope, key: &str) -> usize {
        usize::try_from(self.hasher.hash_one((scope, key)) % SHARDS as u64).unwrap_or(0)
    }
}

impl Locked<'_> {
    /// What is remembered and has not expired.
    pub(crate) fn get(&mut self, key: &StateKey, now: Millis) -> Option<State> {
        let shard = self.shard(key)?;
        shard.get(key).filter(|state| state.until > now).cloned()
    }

    /// Remembers; no bytes: forgets.
    pub(crate) fn put(&mut self, key: StateKey, bytes: Box<[u8]>, keep: Millis, now: Millis) {
        let states = self.states;
        let Some(shard) = self.shard(&key) else { return };
        while let Some((oldest, state)) = shard.peek_lru()
            && state.until <= now
        {
            let (oldest, size) = (oldest.clone(), size(oldest, state));
            shard.pop(&oldest);
            states.count(None, Some(size));
        }
        if bytes.is_empty() || keep == 0 {
            let gone = shard.pop(&key).map(|state| size(&key, &state));
            states.count(None, gone);
            return;
        }
        let state = State { bytes, keep, until: now.saturating_add(keep) };
        let came = size(&key, &state);
        let gone = shard.push(key, state).map(|(key, state)| size(&key, &state));
        states.count(Some(came), gone);
    }

    /// Remembers what was seen elsewhere, if there is anything.
    pub(crate) fn remember(&mut self, key: &StateKey, bytes: &[u8], keep: Millis, now: Millis) {
        if !bytes.is_empty() && keep > 0 {
            self.put(key.clone(), bytes.into(), keep, now);
        }
    }

    fn shard(&mut self, key: &StateKey) -> Option<&mut Shard> {
        let at = self.states.shard(key.scope, &key.key);
        self.guards.iter_mut().find(|(number, _)| *number == at).map(|(_, guard)| &mut **guard)
    }
}

impl States {
    fn count(&self, came: Option<usize>, gone: Option<usize>) {
        if let Some(bytes) = came {
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
            self.held.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(bytes) = gone {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.held.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn size(key: &StateKey, state: &State) -> usize {
    key.plugin.len() + key.key.len() + state.bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> StateKey {
        StateKey { plugin: "p".into(), version: 1, scope: Scope::User, key: name.into() }
    }

    fn put(states: &States, name: &str, bytes: &[u8], keep: Millis, now: Millis) {
        states.lock(&[(Scope::User, name.into())]).put(key(name), bytes.into(), keep, now);
    }

    fn get(states: &States, name: &str, now: Millis) -> Option<State> {
        states.lock(&[(Scope::User, name.into())]).get(&key(name), now)
    }

    #[test]
    fn state_expires_after_its_last_use() {
        let states = States::new(1_000);
        put(&states, "a", b"x", 100, 1_000);
        assert_eq!(get(&states, "a", 1_099).map(|state| state.bytes), Some(b"x".as_slice().into()));
        assert_eq!(get(&states, "a", 1_100), None);
    }

    #[test]
    fn memory_is_bounded_and_measured_and_the_oldest_go() {
        let states = States::new(2_560);
        for n in 0..100_000 {
            put(&states, &format!("u{n}"), &[7; 256], 86_400_000, n);
        }
        let (held, bytes) = states.figures();
        assert!(held <= 2_560 && held > 2_000, "{held}");
        assert_eq!(states.shards.iter().map(|shard| shard.lock().len()).sum::<usize>(), held);
        assert!(bytes <= 2_560 * (256 + 8), "{bytes}");
        assert_eq!(get(&states, "u0", 0), None);
        assert!(get(&states, "u99999", 100_000).is_some());
        states.bound(256);
        let (held, bytes) = states.figures();
        assert!(held <= 256 && bytes <= 256 * (256 + 8), "a smaller bound holds at once: {held}");
        assert!(get(&states, "u99999", 100_000).is_some(), "the oldest go");
    }

    #[test]
    fn expired_states_leave_when_others_come() {
        let states = States::new(256_000);
        for n in 0..10_000 {
            put(&states, &format!("u{n}"), b"x", 10, 0);
        }
        for n in 0..10_000 {
            put(&states, &format!("v{n}"), b"x", 10, 1_000);
        }
        assert_eq!(states.figures().0, 10_000);
    }

    #[test]
    fn decisions_that_share_keys_in_any_order_never_wait_in_a_circle() {
        let states = States::new(1_000);
        let names: Vec<(Scope, Arc<str>)> = (0..5).map(|n| (Scope::User, format!("u{n}").into())).collect();
        std::thread::scope(|scope| {
            for turn in 0..4 {
                let (states, mut names) = (&states, names.clone());
                names.rotate_left(turn);
                scope.spawn(move || (0..2_000).for_each(|_| drop(states.lock(&names))));
            }
        });
    }
}
