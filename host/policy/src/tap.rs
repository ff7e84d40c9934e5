//! A component whose calls are watched: some are repeated, some recorded, and all are shown to a plugin in its shadow.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use heddle_model::Clock;
use heddle_pack::contract::{
    Audience, Envelope, FanoutMode, Moment, Observation, RateLimitOutcome, RateLimitRequest, RoutingDecision, Sighting,
};

use crate::MessageView;
use crate::call::{Answer, Call, SeenMessage};
use crate::component::{Component, Fault};
use crate::health::Health;
use crate::rate::Told;
use crate::record::Recorded;
use crate::shadow::Shadow;
use crate::watch::{Repetition, Watch};

/// Answers as `inner` does.
pub(crate) struct Tapped {
    inner: Arc<dyn Component>,
    state_version: u32,
    /// Whose calls these are.
    health: Arc<Health>,
    watch: Arc<Watch>,
    clock: Arc<dyn Clock>,
    calls: AtomicU64,
    shadow: OnceLock<Arc<Shadow>>,
    /// Made when the first call is to be repeated.
    fresh: OnceLock<Option<Arc<dyn Component>>>,
}

/// What is to become of a call.
struct Wanted {
    repeat: bool,
    record: bool,
}

impl Tapped {
    pub(crate) fn new(
        inner: Arc<dyn Component>,
        state_version: u32,
        health: Arc<Health>,
        watch: Arc<Watch>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (calls, shadow, fresh) = (AtomicU64::new(0), OnceLock::new(), OnceLock::new());
        Self { inner, state_version, health, watch, clock, calls, shadow, fresh }
    }

    /// From now on this one sees all calls. Only the first is taken.
    pub(crate) fn show_to(&self, shadow: Arc<Shadow>) {
        let _ = self.shadow.set(shadow);
    }

    /// Answers, and hands on what is wanted of the call.
    fn tapped<T: Clone>(
        &self,
        at: Moment,
        ask: impl FnOnce(&dyn Component) -> Result<T, Fault>,
        call: impl FnOnce() -> Call,
        answer: impl FnOnce(T) -> Answer,
    ) -> Result<T, Fault> {
        let wanted = self.wanted();
        if !wanted.repeat && !wanted.record && self.shadow.get().is_none() {
            return ask(&*self.inner);
        }
        let start = self.clock.monotonic();
        let answered = ask(&*self.inner);
        let took = self.clock.monotonic().saturating_sub(start);
        self.hand_on(&wanted, at, call(), &answered, answer, took);
        answered
    }

    /// To whoever wants it.
    fn hand_on<T: Clone>(
        &self,
        wanted: &Wanted,
        at: Moment,
        call: Call,
        answered: &Result<T, Fault>,
        answer: impl FnOnce(T) -> Answer,
        took: Duration,
    ) {
        let said = match answered {
            Ok(said) => answer(said.clone()),
            Err(fault) => Answer::Fault(fault.kind.to_owned()),
        };
        if wanted.repeat && answered.is_ok() {
            self.repeat(at, &call, &said);
        }
        if let Some(shadow) = self.shadow.get() {
            self.watch.show(shadow, self.state_version, at, &call, &said);
        }
        if wanted.record {
            let health = &self.health;
            let (hook, plugin, digest) = (health.hook, health.name.to_string(), health.digest.to_string());
            let micros = took.as_secs_f64() * 1e6;
            self.watch.recorder.keep(Recorded {
                hook,
                plugin,
                digest,
                at,
                call,
                answer: said,
                micros,
                redacted: false,
            });
        }
    }

    /// A call that was made elsewhere, and decided.
    pub(crate) fn was_answered(
        &self,
        at: Moment,
        request: &RateLimitRequest,
        state: &[u8],
        answered: Result<RateLimitOutcome, Fault>,
        took: Duration,
    ) {
        let wanted = self.wanted();
        if wanted.repeat || wanted.record || self.shadow.get().is_some() {
            let call = Call::RateLimit { request: request.clone(), state: state.to_vec() };
            self.hand_on(&wanted, at, call, &answered, Answer::Outcome, took);
        }
    }

    /// As [`Self::was_answered`].
    pub(crate) fn was_told(&self, at: Moment, told: &Told) {
        self.was_answered(at, &told.request, &told.state, Ok(told.outcome.clone()), told.took);
    }

    fn wanted(&self) -> Wanted {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        let one_in = |one_in: u64| one_in > 0 && number.is_multiple_of(one_in);
        Wanted {
            // Not the first: it is a warming call.
            repeat: number > 0 && one_in(self.watch.repeat_one_in()),
            record: one_in(self.watch.recorder.one_in(self.health.hook)),
        }
    }

    fn repeat(&self, at: Moment, call: &Call, said: &Answer) {
        let Some(fresh) = self.fresh.get_or_init(|| self.inner.afresh()) else { return };
        let (component, health) = (Arc::clone(fresh), Arc::clone(&self.health));
        self.watch.repeat(Repetition { component, health, at, call: call.clone(), said: said.clone() });
    }
}

impl Component for Tapped {
    fn rate_limit(&self, at: Moment, request: &RateLimitRequest, state: &[u8]) -> Result<RateLimitOutcome, Fault> {
        self.tapped(
            at,
            |component| component.rate_limit(at, request, state),
            || Call::RateLimit { request: request.clone(), state: state.to_vec() },
            Answer::Outcome,
        )
    }

    fn migrate(&self, from_version: u32, state: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        self.inner.migrate(from_version, state)
    }

    fn route(&self, at: Moment, envelope: &Envelope, message: &MessageView<'_>) -> Result<RoutingDecision, Fault> {
        self.tapped(
            at,
            |component| component.route(at, envelope, message),
            || Call::Routing { envelope: envelope.clone(), message: SeenMessage::of(message) },
            Answer::Decision,
        )
    }

    fn plan(&self, at: Moment, audience: &Audience, message: &MessageView<'_>) -> Result<FanoutMode, Fault> {
        self.tapped(
            at,
            |component| component.plan(at, audience, message),
            || Call::Plan { audience: audience.clone(), message: SeenMessage::of(message) },
            Answer::Mode,
        )
    }

    fn sort(&self, at: Moment, audience: &Audience, message: &MessageView<'_>, facts: &[u8]) -> Result<Vec<u8>, Fault> {
        let call =
            || Call::Sort { audience: audience.clone(), message: SeenMessage::of(message), facts: facts.to_vec() };
        self.tapped(at, |component| component.sort(at, audience, message, facts), call, Answer::Codes)
    }

    fn observe(&self, at: Moment, observation: &Observation) -> Result<Sighting, Fault> {
        self.tapped(
            at,
            |component| component.observe(at, observation),
            || Call::Observe { observation: observation.clone() },
            Answer::Sighting,
        )
    }

    fn reveal(&self, at: Moment, subject: &str, relations: &[u8]) -> Result<Vec<u8>, Fault> {
        self.tapped(
            at,
            |component| component.reveal(at, subject, relations),
            || Call::Reveal { subject: subject.to_owned(), relations: relations.to_vec() },
            Answer::Codes,
        )
    }

    fn afresh(&self) -> Option<Arc<dyn Component>> {
        self.inner.afresh()
    }
}
