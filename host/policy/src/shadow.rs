//! A plugin that sees what another decides, off the path, and says what it would have said: nobody waits for it.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use heddle_model::Clock;
use heddle_pack::contract::{Delivery, FanoutMode, Moment, RoutingDecision, Scope, Verdict, Visibility};
use lru::LruCache;
use parking_lot::Mutex;
use serde::Serialize;

use crate::call::{Answer, Call};
use crate::component::Component;
use crate::record::Recorder;

/// Differences that are kept, the newest.
const DIFFERENCES_MAX: usize = 100;
/// Keys whose state it remembers, if that is not the state of the plugin that decides.
const STATES_MAX: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();

/// One plugin in the shadow of another, at one hook.
pub(crate) struct Shadow {
    component: Arc<dyn Component>,
    state_version: u32,
    /// It would stand in the place of the one that decides; else after it.
    instead: bool,
    counts: Counts,
    differences: Mutex<VecDeque<Difference>>,
    states: Mutex<LruCache<(Scope, String), Vec<u8>>>,
}

#[derive(Default)]
struct Counts {
    same: AtomicU64,
    changed: AtomicU64,
    faults: AtomicU64,
    dropped: AtomicU64,
    nanos: AtomicU64,
}

/// What a shadow would have said otherwise.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// When.
    pub at: Moment,
    /// About what.
    pub call: Call,
    /// What was decided; for a plugin that would come after all others: what leaves it at that.
    pub decided: Answer,
    /// What it would have said.
    pub would: Answer,
}

/// What a shadow has seen.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ShadowReport {
    /// Calls for which it said the same.
    pub same: u64,
    /// Calls for which it said something else.
    pub changed: u64,
    /// Of those, calls for which it had no usable answer.
    pub faults: u64,
    /// Calls that it was too slow for.
    pub dropped: u64,
    /// Mean microseconds of its calls.
    pub micros: f64,
    /// The newest differences, at most a hundred.
    pub differences: Vec<Difference>,
}

impl Shadow {
    pub(crate) fn new(component: Arc<dyn Component>, state_version: u32, instead: bool) -> Self {
        Self {
            component,
            state_version,
            instead,
            counts: Counts::default(),
            differences: Mutex::default(),
            states: Mutex::new(LruCache::new(STATES_MAX)),
        }
    }

    pub(crate) fn dropped(&self) {
        self.counts.dropped.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn report(&self) -> ShadowReport {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (same, changed) = (count(&self.counts.same), count(&self.counts.changed));
        let seen = Duration::from_nanos(count(&self.counts.nanos)).as_secs_f64() * 1e6;
        ShadowReport {
            same,
            changed,
            faults: count(&self.counts.faults),
            dropped: count(&self.counts.dropped),
            micros: if same + changed == 0 { 0.0 } else { seen / (same + changed) as f64 },
            differences: self.differences.lock().iter().cloned().collect(),
        }
    }

    /// Is asked the same, and compared.
    pub(crate) fn see(
        &self,
        clock: &dyn Clock,
        recorder: &Recorder,
        live_version: u32,
        at: Moment,
        mut call: Call,
        said: Answer,
    ) {
        let Some(mut decided) = (if self.instead { Some(said) } else { passed(&call, said) }) else { return };
        if !self.instead || self.state_version != live_version {
            self.recall(&mut call);
        }
        let start = clock.monotonic();
        let mut would = call.make(at, &*self.component);
        let took = clock.monotonic().saturating_sub(start);
        self.counts.nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.remember(&call, &would);
        if decided.decides_as(&would) {
            self.counts.same.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.counts.changed.fetch_add(1, Ordering::Relaxed);
        if matches!(would, Answer::Fault(_)) {
            self.counts.faults.fetch_add(1, Ordering::Relaxed);
        }
        recorder.redact(&mut call, [&mut decided, &mut would]);
        let mut differences = self.differences.lock();
        if differences.len() >= DIFFERENCES_MAX {
            differences.pop_front();
        }
        differences.push_back(Difference { at, call, decided, would });
    }

    /// Its own state in place of the other's.
    fn recall(&self, call: &mut Call) {
        if let Call::RateLimit { request, state } = call {
            *state = self.states.lock().get(&(request.scope, request.key.clone())).cloned().unwrap_or_default();
        }
    }

    fn remember(&self, call: &Call, answer: &Answer) {
        if let (Call::RateLimit { request, .. }, Answer::Outcome(outcome)) = (call, answer)
            && outcome.verdict == Verdict::Allow
        {
            self.states.lock().put((request.scope, request.key.clone()), outcome.state.clone());
        }
    }
}

/// What leaves it at the decision of those before; none: it would not have been asked.
pub(crate) fn passed(call: &Call, said: Answer) -> Option<Answer> {
    match (call, said) {
        (_, Answer::Outcome(outcome)) if outcome.verdict != Verdict::Allow => None,
        (_, Answer::Decision(RoutingDecision::Reject(_) | RoutingDecision::Discard) | Answer::Fault(_)) => None,
        (_, Answer::Decision(_)) => Some(Answer::Decision(RoutingDecision::Accept)),
        (_, Answer::Mode(_)) => Some(Answer::Mode(FanoutMode::Push)),
        (Call::Sort { facts, .. }, Answer::Codes(_)) => Some(Answer::Codes(vec![Delivery::Push as u8; facts.len()])),
        (Call::Reveal { relations, .. }, Answer::Codes(_)) => {
            Some(Answer::Codes(vec![Visibility::StatusAndLastSeen as u8; relations.len()]))
        }
        (_, said) => Some(said),
    }
}
