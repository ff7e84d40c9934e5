//! One plugin in one chain, and what decides when it cannot.

use std::sync::Arc;
use std::time::Duration;

use heddle_model::{Conversation, Decision, Digest, Fallback, Hook};
use heddle_pack::OnFailure;
use heddle_pack::contract::Scope;
use serde_json::{Map, Value};

use crate::Generation;
use crate::component::{Component, Fault};
use crate::health::Health;
use crate::tap::Tapped;

/// A plugin as a generation holds it.
pub(crate) struct Member {
    pub(crate) hook: Hook,
    pub(crate) name: Box<str>,
    pub(crate) version: Box<str>,
    pub(crate) digest: Digest,
    pub(crate) config: Map<String, Value>,
    pub(crate) state_version: u32,
    /// What was remembered under this one is migrated.
    pub(crate) state_from: Option<u32>,
    pub(crate) scopes: Vec<Scope>,
    /// Its state is all nodes'.
    pub(crate) shares: bool,
    pub(crate) on_failure: OnFailure,
    pub(crate) redirect_to: Vec<Conversation>,
    pub(crate) reads_body: bool,
    /// What its manifest asks for.
    pub(crate) asks: heddle_pack::Limits,
    /// Watched: what decides is asked here.
    pub(crate) component: Tapped,
    /// Unwatched.
    pub(crate) bare: Arc<dyn Component>,
    pub(crate) previous: Option<Arc<Self>>,
    pub(crate) health: Arc<Health>,
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
    /// Who answered in the plugin's place.
    stood_in: Option<Arc<Member>>,
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
    /// Asks the plugin; if it fails, what its manifest names instead. `about`: the key that it may be spared.
    /// `call` must be checked for bounds: what it returns stands.
    pub(crate) fn ask<T>(
        &self,
        generation: &Generation,
        about: &str,
        on_failure: OnFailure,
        mut call: impl FnMut(&Self) -> Result<T, Fault>,
    ) -> Timed<T> {
        let start = generation.clock.monotonic();
        let (answer, end) = self.try_ask(generation, about, start, &mut call);
        let ((turn, stood_in), end) = match answer {
            Some(answer) => ((Turn::Answered(answer, None), None), end),
            None => {
                let turn = self.instead(generation, about, on_failure, &mut call);
                (turn, generation.clock.monotonic())
            }
        };
        Timed { turn, micros: micros(end.saturating_sub(start)), stood_in }
    }

    fn instead<T>(
        &self,
        generation: &Generation,
        about: &str,
        on_failure: OnFailure,
        call: &mut impl FnMut(&Self) -> Result<T, Fault>,
    ) -> (Turn<T>, Option<Arc<Self>>) {
        let mut try_ask = |member: &Self| member.try_ask(generation, about, generation.clock.monotonic(), call).0;
        match on_failure {
            OnFailure::Closed => return (Turn::Closed, None),
            OnFailure::Open => return (Turn::Open, None),
            OnFailure::Previous => {
                if let Some(previous) = &self.previous
                    && let Some(answer) = try_ask(previous)
                {
                    return (Turn::Answered(answer, Some(Fallback::Previous)), Some(Arc::clone(previous)));
                }
            }
            OnFailure::Builtin => {}
        }
        let builtin = generation.builtin(self.hook);
        // The built-in one in its own place has had its turn.
        if std::ptr::eq(self, &**builtin) || self.digest == builtin.digest {
            return (Turn::Closed, None);
        }
        match try_ask(builtin) {
            Some(answer) => (Turn::Answered(answer, Some(Fallback::Builtin)), Some(Arc::clone(builtin))),
            None => (Turn::Closed, None),
        }
    }

    /// The answer, and when it came.
    fn try_ask<T>(
        &self,
        generation: &Generation,
        about: &str,
        start: Duration,
        call: &mut impl FnMut(&Self) -> Result<T, Fault>,
    ) -> (Option<T>, Duration) {
        if self.health.spared(about, start) {
            return (None, start);
        }
        let answer = call(self);
        let end = generation.clock.monotonic();
        let took = end.saturating_sub(start);
        match answer {
            Ok(answer) => {
                self.health.well(took);
                (Some(answer), end)
            }
            Err(fault) => {
                self.health.failed(&fault, about, took, end);
                (None, end)
            }
        }
    }

    /// Under the name of the plugin whose place it is, with version and file of who answered there.
    pub(crate) fn decision<T>(&self, timed: &Timed<T>, verdict: &str) -> Decision {
        let answered = timed.stood_in.as_deref().unwrap_or(self);
        Decision {
            hook: self.hook,
            plugin: self.name.clone(),
            version: answered.version.clone(),
            digest: answered.digest,
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
