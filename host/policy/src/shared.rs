//! The states of rate limits that all nodes share: read and changed by compare-and-set, within a few milliseconds or not at all.
//!
//! Who asks about one key on one node at one time asks together: a task a key takes all that wait, asks the plugins in order and stores what
//! they leave in one change. So only nodes meet each other there, and not the commands of one.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::{join_all, try_join};
use heddle_model::{Clock, Millis};
use heddle_pack::contract::{self, Moment, Verdict};
use heddle_registry::{KeyedStates, RegistryError, Swap, Versioned};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::member::Member;
use crate::rate::{Told, ask_unwatched, migrated};
use crate::state::{StateKey, States};

/// What one decision may wait, in all.
pub(crate) const WITHIN: Duration = Duration::from_millis(5);
/// Changes that are tried, each on what the one before found.
const TRIES_MAX: u32 = 3;
/// Commands that wait for one key's turn.
const WAITING_MAX: usize = 1_024;
/// After a failure nobody asks for so long, twice as long after the next, up to the last: then one asks, and the others wait for its answer.
const REST: Duration = Duration::from_millis(100);
const REST_MAX: Duration = Duration::from_secs(1);
const LATE: &str = "no answer in time";

/// What was read, by key.
pub(crate) type Seen = HashMap<StateKey, State>;

/// A state as it was read.
#[derive(Debug, Clone)]
pub(crate) struct State {
    /// 0: nothing is there.
    version: u64,
    /// What the plugin is given: that, or what it made of an older version of its state.
    pub(crate) given: Vec<u8>,
}

/// What became of a change.
pub(crate) enum Settled {
    /// It is stored.
    Allowed,
    /// With what is there now the plugin refuses.
    Refused(contract::Refusal),
    /// Others were first, each time.
    Late,
    /// Nobody knows; or the plugin failed on what is there now.
    Away,
}

/// A change that waits for its key's turn.
struct Waiting {
    member: Arc<Member>,
    /// The user, whom a plugin that fails on them is spared.
    about: Box<str>,
    at: Moment,
    told: Told,
    seen: State,
    reply: oneshot::Sender<Settled>,
    /// The plugin has no answer to what is there.
    failed: bool,
}

/// States of all nodes, and this node's way to them.
pub(crate) struct SharedStates {
    all: Arc<dyn KeyedStates>,
    /// This node's copy, which decides when the others cannot be asked.
    own: Arc<States>,
    clock: Arc<dyn Clock>,
    /// Keys that a task looks after, and who waits there.
    turns: Mutex<HashMap<StateKey, Vec<Waiting>>>,
    rest: Rest,
}

impl SharedStates {
    pub(crate) fn new(all: Arc<dyn KeyedStates>, own: Arc<States>, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { all, own, clock, turns: Mutex::default(), rest: Rest::default() })
    }

    /// Not while it is left alone after a failure.
    pub(crate) fn may_be_asked(&self) -> bool {
        self.rest.is_over(self.clock.monotonic())
    }

    /// Reads all of these at once; none if one of them was not read in time.
    pub(crate) async fn read(&self, wanted: Vec<(StateKey, &Arc<Member>)>) -> Option<Seen> {
        let reads = join_all(wanted.into_iter().map(|(key, member)| self.read_one(key, member)));
        let read = match timeout(WITHIN, reads).await {
            Ok(read) => read.into_iter().collect::<Result<Seen, _>>().map_err(|error| error.to_string()),
            Err(_) => Err(LATE.to_owned()),
        };
        match read {
            Ok(seen) => {
                self.rest.end();
                Some(seen)
            }
            Err(error) => {
                self.failed(&error);
                None
            }
        }
    }

    async fn read_one(&self, key: StateKey, member: &Arc<Member>) -> Result<(StateKey, State), RegistryError> {
        let name = name(&key);
        let (there, older) = match member.state_from {
            None => (self.all.get(&name).await?, None),
            Some(version) => {
                let older = self::name(&StateKey { version, ..key.clone() });
                let (there, older) = try_join(self.all.get(&name), self.all.get(&older)).await?;
                (there, older.map(|older| (version, older.bytes)))
            }
        };
        let state = match (there, older) {
            (Some(there), _) => State::of(there),
            (None, Some((version, bytes))) => State { version: 0, given: migrated(member, version, &bytes) },
            (None, None) => State::nothing(),
        };
        Ok((key, state))
    }

    /// Stores what a plugin wants to remember, or asks it again with what is there by then. `within`: what is left of the time.
    pub(crate) async fn settle(
        self: &Arc<Self>,
        member: &Arc<Member>,
        about: &str,
        at: Moment,
        told: Told,
        seen: State,
        within: Duration,
    ) -> Settled {
        let (reply, answer) = oneshot::channel();
        let key = told.key.clone();
        let waiting = Waiting { member: Arc::clone(member), about: about.into(), at, told, seen, reply, failed: false };
        {
            let mut turns = self.turns.lock();
            match turns.get_mut(&key) {
                Some(line) if line.len() >= WAITING_MAX => return Settled::Late,
                Some(line) => line.push(waiting),
                None => {
                    turns.insert(key.clone(), vec![waiting]);
                    tokio::spawn(Arc::clone(self).take_turns(key));
                }
            }
        }
        match timeout(within, answer).await {
            Ok(Ok(settled)) => settled,
            _ => Settled::Away,
        }
    }

    /// Looks after a key until nobody waits there.
    async fn take_turns(self: Arc<Self>, key: StateKey) {
        let name = name(&key);
        let mut known = None;
        loop {
            let batch = {
                let mut turns = self.turns.lock();
                match turns.get_mut(&key).filter(|line| !line.is_empty()) {
                    Some(line) => std::mem::take(line),
                    None => {
                        turns.remove(&key);
                        return;
                    }
                }
            };
            known = self.turn(&key, &name, batch, known).await;
        }
    }

    /// All that wait, in one change; what is there then, if that is known. Who does not wait any more is not counted.
    async fn turn(&self, key: &StateKey, name: &str, mut batch: Vec<Waiting>, known: Option<State>) -> Option<State> {
        batch.retain(|waiting| !waiting.reply.is_closed());
        let mut there = known.or_else(|| batch.first().map(|first| first.seen.clone()))?;
        for _ in 0..TRIES_MAX {
            let mut left = Left { bytes: there.given.clone(), keep: None };
            batch.iter_mut().for_each(|waiting| waiting.ask(&mut left, &*self.clock));
            let Left { bytes, keep: Some(keep) } = left else {
                self.tell(key, batch);
                return Some(there);
            };
            match self.swap(name, there.version, &bytes, keep).await {
                Ok(Swap::Done(version)) => {
                    let now = batch.first().map_or(0, |first| first.at.now);
                    let mut own = self.own.lock(&[(key.scope, Arc::clone(&key.key))]);
                    own.put(key.clone(), bytes.clone().into(), keep, now);
                    drop(own);
                    self.tell(key, batch);
                    return Some(State { version, given: if version == 0 { Vec::new() } else { bytes } });
                }
                Ok(Swap::Conflict(now)) => there = now.map_or_else(State::nothing, State::of),
                Err(error) => {
                    self.failed(&error);
                    batch.into_iter().for_each(|waiting| drop(waiting.reply.send(Settled::Away)));
                    return None;
                }
            }
        }
        batch.into_iter().for_each(|waiting| drop(waiting.reply.send(Settled::Late)));
        Some(there)
    }

    async fn swap(&self, name: &str, seen: u64, bytes: &[u8], keep: Millis) -> Result<Swap, String> {
        if seen == 0 && (bytes.is_empty() || keep == 0) {
            // Nothing is there, and nothing is to be.
            return Ok(Swap::Done(0));
        }
        match timeout(WITHIN, self.all.swap(name, seen, bytes, keep)).await {
            Ok(swapped) => swapped.map_err(|error| error.to_string()),
            Err(_) => Err(LATE.to_owned()),
        }
    }

    /// The answers that stand; they are what is recorded of the plugins' calls.
    fn tell(&self, key: &StateKey, batch: Vec<Waiting>) {
        for Waiting { member, at, told, reply, failed, .. } in batch {
            let settled = match &told.outcome.verdict {
                _ if failed => Settled::Away,
                Verdict::Allow => Settled::Allowed,
                Verdict::Deny(refusal) => {
                    let mut own = self.own.lock(&[(key.scope, Arc::clone(&key.key))]);
                    own.remember(key, &told.state, told.outcome.keep, at.now);
                    Settled::Refused(refusal.clone())
                }
            };
            // Who has gone was answered from this node's own copy.
            if reply.send(settled).is_ok() && !failed {
                member.component.was_told(at, &told);
            }
        }
    }

    fn failed(&self, error: &str) {
        self.rest.begin(self.clock.monotonic());
        tracing::debug!(error, "what nodes share of rate limits cannot be had; this node counts alone for a while");
    }
}

/// What a turn leaves in its key; without `keep` nothing was changed.
struct Left {
    bytes: Vec<u8>,
    keep: Option<Millis>,
}

impl Waiting {
    /// Asks the plugin about what the one before left, unless that is what it was asked about already.
    fn ask(&mut self, left: &mut Left, clock: &dyn Clock) {
        self.failed = false;
        if self.told.state != left.bytes {
            let began = clock.monotonic();
            let outcome = ask_unwatched(&self.member, self.at, &self.told.request, &left.bytes);
            let end = clock.monotonic();
            self.told.took = end.saturating_sub(began);
            match outcome {
                Ok(outcome) => {
                    self.member.health.well(self.told.took);
                    self.told.state.clone_from(&left.bytes);
                    self.told.outcome = outcome;
                }
                Err(fault) => {
                    self.member.health.failed(&fault, &self.about, self.told.took, end);
                    self.failed = true;
                    return;
                }
            }
        }
        if self.told.outcome.verdict == Verdict::Allow {
            left.bytes.clone_from(&self.told.outcome.state);
            left.keep = Some(self.told.outcome.keep);
        }
    }
}

impl State {
    fn nothing() -> Self {
        Self { version: 0, given: Vec::new() }
    }

    fn of(there: Versioned) -> Self {
        Self { version: there.version, given: there.bytes.into() }
    }
}

/// The name that all nodes have for a key. A plugin's name has no colon, and whose key it is stands last. deploy/redis.md shows it.
fn name(key: &StateKey) -> String {
    format!("{}:{}:{}:{}", key.plugin, key.version, key.scope.as_str(), key.key)
}

/// When nobody asks, because it was in vain a moment ago. Times are milliseconds of the monotonic clock.
#[derive(Default)]
struct Rest {
    /// In a row.
    failures: AtomicU32,
    began: AtomicU64,
    until: AtomicU64,
}

impl Rest {
    /// May this one ask? Once a rest is over one may, and those after it rest on until it is known what became of that.
    fn is_over(&self, now: Duration) -> bool {
        let failures = self.failures.load(Ordering::Acquire);
        if failures == 0 {
            return true;
        }
        let (now, until) = (millis(now), self.until.load(Ordering::Acquire));
        let next = now + rest(failures);
        now >= until && self.until.compare_exchange(until, next, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Those who asked at the same time fail together, and that counts once.
    fn begin(&self, now: Duration) {
        let (now, began) = (millis(now), self.began.load(Ordering::Acquire));
        if self.failures.load(Ordering::Acquire) > 0 && now.saturating_sub(began) < rest(1) {
            return;
        }
        self.began.store(now, Ordering::Release);
        let failures = self.failures.fetch_add(1, Ordering::AcqRel).saturating_add(1);
        self.until.store(now + rest(failures), Ordering::Release);
    }

    fn end(&self) {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Release);
        }
    }
}

fn rest(failures: u32) -> Millis {
    let doubled = REST * 2_u32.saturating_pow(failures.saturating_sub(1).min(8));
    millis(doubled.min(REST_MAX))
}

fn millis(span: Duration) -> Millis {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
