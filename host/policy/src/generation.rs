use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use heddle_model::{Clock, Digest, Hook, MessageId};
use heddle_pack::contract::Scope;

use crate::member::Member;
use crate::state::States;

/// One whole, immutable policy set. Calls are synchronous: microseconds, at most their deadlines.
pub struct Generation {
    pub(crate) number: u64,
    pub(crate) rate_limit: Vec<Arc<Member>>,
    pub(crate) routing: Vec<Arc<Member>>,
    pub(crate) fanout: Vec<Arc<Member>>,
    pub(crate) presence: Vec<Arc<Member>>,
    /// One a hook, in the order of [`Hook::ALL`].
    pub(crate) builtins: [Arc<Member>; 4],
    /// All that any rate limit of it counts, fallbacks included: a decision locks them beforehand.
    pub(crate) scopes: Vec<Scope>,
    pub(crate) states: Arc<States>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) luck: Luck,
    pub(crate) micros: Vec<(Hook, usize, f64)>,
}

/// One plugin of a generation, for people.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyInfo {
    /// Where it decides.
    pub hook: Hook,
    /// The manifest's name.
    pub name: Box<str>,
    /// The manifest's version.
    pub version: Box<str>,
    /// SHA-256 of the file.
    pub digest: Digest,
    /// Of a call, as measured at start: the median of some; 0 if it failed.
    pub micros: f64,
}

impl Generation {
    /// Its number; numbers only grow.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Its plugins, by hook and place in the chain.
    #[must_use]
    pub fn describe(&self) -> Vec<PolicyInfo> {
        let infos = Hook::ALL.into_iter().flat_map(|hook| {
            self.chain(hook).iter().enumerate().map(move |(at, member)| PolicyInfo {
                hook,
                name: member.name.clone(),
                version: member.version.clone(),
                digest: member.digest,
                micros: self
                    .micros
                    .iter()
                    .find(|(of, place, _)| (*of, *place) == (hook, at))
                    .map_or(0.0, |found| found.2),
            })
        });
        infos.collect()
    }

    pub(crate) fn chain(&self, hook: Hook) -> &[Arc<Member>] {
        match hook {
            Hook::RateLimit => &self.rate_limit,
            Hook::Routing => &self.routing,
            Hook::Fanout => &self.fanout,
            Hook::Presence => &self.presence,
        }
    }

    pub(crate) fn builtin(&self, hook: Hook) -> &Member {
        match hook {
            Hook::RateLimit => &self.builtins[0],
            Hook::Routing => &self.builtins[1],
            Hook::Fanout => &self.builtins[2],
            Hook::Presence => &self.builtins[3],
        }
    }

    pub(crate) fn luck(&self) -> u64 {
        self.luck.next()
    }
}

/// A message's luck: the same at each of its decisions, and at each repetition.
pub(crate) fn seed(id: MessageId) -> u64 {
    id.0.iter().take(8).fold(0, |seed, byte| seed << 8 | u64::from(*byte))
}

/// Seeds for decisions that are about no message: a counter, stirred, from a start that differs from process to process.
pub(crate) struct Luck(AtomicU64);

impl Luck {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(RandomState::new().hash_one(())))
    }

    /// The finaliser of splitmix64 (Steele, Lea, Flood 2014).
    fn next(&self) -> u64 {
        let mut z = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
