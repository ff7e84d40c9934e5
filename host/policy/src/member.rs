//! One plugin in one chain, and what decides when it cannot.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use heddle_model::{Clock, Conversation, Decision, Digest, Fallback, Hook};
use heddle_pack::OnFailure;
use heddle_pack::contract::Scope;
use metrics::{Counter, Histogram, counter, histogram};

use crate::component::{Component, Fault};

/// A plugin as a generation holds it.
pub(crate) struct Member {
    pub(crate) hook: Hook,
    pub(crate) name: Box<str>,
    pub(crate) version: Box<str>,
    pub(crate) digest: Digest,
    pub(crate) state_version: u32,
    pub(crate) scopes: Vec<Scope>,
    pub(crate) on_failure: OnFailure,
    pub(crate) redirect_to: Vec<Conversation>,
    pub(crate) reads_body: bool,
    pub(crate) component: Arc<dyn Component>,
    pub(crate) previous: Option<Arc<Member>>,
    pub(crate) meters: Meters,
}

/// Counted per plugin, hook and generation.
pub(crate) struct Meters {
    calls: Counter,
    seconds: Histogram,
    pub(crate) refusals: Counter,
    generation: String,
    faults: AtomicU64,
}

impl Meters {
    pub(crate) fn new(hook: Hook, plugin: &str, generation: u64) -> Self {
        let generation = generation.to_string();
        let labels =
            [("hook", hook.name().to_owned()), ("plugin", plugin.to_owned()), ("generation", generation.clone())];
        Self {
            calls: counter!("heddle_policy_calls_total", &labels),
            seconds: histogram!("heddle_policy_call_seconds", &labels),
            refusals: counter!("heddle_policy_refusals_total", &labels),
            generation,
            faults: AtomicU64::new(0),
        }
    }
}

/// Who answered, and what.
pub(crate) enum Turn<T> {
    /// The plugin, or what its failure mode puts in its place.
    Answered(T, Option<Fallback>),
    /// Nobody: the closed answer of the hook.
    Closed,
    /// Nobody: it passes.
    Open,
}

/// A turn and what it took.
pub(crate) struct Timed<T> {
    pub(crate) turn: Turn<T>,
    pub(crate) micros: u32,
}

impl<T> Timed<T> {
    pub(crate) fn fallback(&self) -> Option<Fallback> {
        match &self.turn {
            Turn::Answered(_, fallback) => *fallback,
            Turn::Closed => Some(Fallback::Closed),
            Turn::Open => Some(Fallback::Open),
        }
    }
}

impl Member {
    /// Asks the plugin; if it fails, what its manifest names instead. `call` must be checked for bounds: what it returns stands.
    pub(crate) fn ask<T>(
        &self,
        clock: &dyn Clock,
        builtin: &Self,
        on_failure: OnFailure,
        mut call: impl FnMut(&Self) -> Result<T, Fault>,
    ) -> Timed<T> {
        let start = clock.monotonic();
        let turn = match self.try_ask(clock, &mut call) {
            Some(answer) => Turn::Answered(answer, None),
            None => self.instead(clock, builtin, on_failure, &mut call),
        };
        Timed { turn, micros: micros(clock.monotonic().saturating_sub(start)) }
    }

    fn instead<T>(
        &self,
        clock: &dyn Clock,
        builtin: &Self,
        on_failure: OnFailure,
        call: &mut impl FnMut(&Self) -> Result<T, Fault>,
    ) -> Turn<T> {
        match on_failure {
            OnFailure::Closed => return Turn::Closed,
            OnFailure::Open => return Turn::Open,
            OnFailure::Previous => {
                if let Some(answer) = self.previous.as_ref().and_then(|previous| previous.try_ask(clock, call)) {
                    return Turn::Answered(answer, Some(Fallback::Previous));
                }
            }
            OnFailure::Builtin => {}
        }
        // The built-in one in its own place has had its turn.
        if std::ptr::eq(self, builtin) || self.digest == builtin.digest {
            return Turn::Closed;
        }
        match builtin.try_ask(clock, call) {
            Some(answer) => Turn::Answered(answer, Some(Fallback::Builtin)),
            None => Turn::Closed,
        }
    }

    fn try_ask<T>(&self, clock: &dyn Clock, call: &mut impl FnMut(&Self) -> Result<T, Fault>) -> Option<T> {
        let start = clock.monotonic();
        let answer = call(self);
        self.meters.calls.increment(1);
        self.meters.seconds.record(clock.monotonic().saturating_sub(start).as_secs_f64());
        answer.map_err(|fault| self.count(&fault)).ok()
    }

    fn count(&self, fault: &Fault) {
        let labels = [
            ("hook", self.hook.name().to_owned()),
            ("plugin", self.name.to_string()),
            ("generation", self.meters.generation.clone()),
            ("kind", fault.kind.to_owned()),
        ];
        counter!("heddle_policy_faults_total", &labels).increment(1);
        let faults = self.meters.faults.fetch_add(1, Ordering::Relaxed) + 1;
        // A plugin under attack must not fill the disk with its traps.
        if faults.is_power_of_two() {
            tracing::warn!(hook = %self.hook, plugin = %self.name, digest = %self.digest, kind = fault.kind, faults,
                text = %fault.text, "policy failed");
        }
    }

    pub(crate) fn decision<T>(&self, timed: &Timed<T>, verdict: &str) -> Decision {
        Decision {
            hook: self.hook,
            plugin: self.name.clone(),
            version: self.version.clone(),
            digest: self.digest,
            micros: timed.micros,
            verdict: verdict.into(),
            fallback: timed.fallback(),
        }
    }
}

/// Rounded up.
fn micros(span: Duration) -> u32 {
    u32::try_from(span.as_nanos().div_ceil(1_000)).unwrap_or(u32::MAX)
}
