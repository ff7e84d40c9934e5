//! While the database is away, one call at a time finds out; the others are told at once.

use std::sync::Arc;
use std::time::Duration;

use heddle_model::Clock;
use parking_lot::Mutex;

/// The first pause after a failure; it doubles up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(50);
/// The longest pause: so long after the database came back it is used again.
const PAUSE_MAX: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// It answers.
    Closed,
    /// It does not; nobody asks before `until`, on the monotonic clock.
    Open { until: Duration, pause: Duration, reason: Arc<str> },
    /// One call asks.
    Probing { pause: Duration, reason: Arc<str> },
}

/// Shared by all calls of a store.
pub(super) struct Breaker {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

/// Leave to ask. Dropped without a word it counts as a failure, so that a probe that was lost locks nobody out.
pub(super) struct Leave {
    breaker: Arc<Breaker>,
    settled: bool,
}

impl Breaker {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { clock, state: Mutex::new(State::Closed) })
    }

    /// Leave to ask, or why the database was away a moment ago.
    pub(super) fn enter(self: &Arc<Self>) -> Result<Leave, Arc<str>> {
        let mut state = self.state.lock();
        let next = match &*state {
            State::Closed => State::Closed,
            State::Open { until, pause, reason } if self.clock.monotonic() >= *until => {
                State::Probing { pause: *pause, reason: Arc::clone(reason) }
            }
            State::Open { reason, .. } | State::Probing { reason, .. } => return Err(Arc::clone(reason)),
        };
        *state = next;
        Ok(Leave { breaker: Arc::clone(self), settled: false })
    }

    fn fail(&self, why: &str) {
        let mut state = self.state.lock();
        let pause = match &*state {
            State::Closed => PAUSE,
            State::Probing { pause, .. } => (*pause * 2).min(PAUSE_MAX),
            // Others failed at the same time: the pause that is on stands.
            State::Open { .. } => return,
        };
        metrics::gauge!("heddle_store_away").set(1.0);
        *state = State::Open { until: self.clock.monotonic() + pause, pause, reason: why.into() };
    }

    fn succeed(&self) {
        let mut state = self.state.lock();
        if *state != State::Closed {
            metrics::gauge!("heddle_store_away").set(0.0);
            *state = State::Closed;
        }
    }
}

impl Leave {
    /// The database answered, with whatever.
    pub(super) fn answered(mut self) {
        self.settled = true;
        self.breaker.succeed();
    }

    /// It did not.
    pub(super) fn away(mut self, why: &str) {
        self.settled = true;
        self.breaker.fail(why);
    }
}

impl Drop for Leave {
    fn drop(&mut self) {
        if !self.settled {
            self.breaker.fail("a call ended without an answer");
        }
    }
}

#[cfg(test)]
mod tests {
    use heddle_model::ManualClock;

    use super::*;

    #[test]
    fn one_call_at_a_time_finds_out_whether_the_database_is_back() {
        let clock = Arc::new(ManualClock::at(0));
        let breaker = Breaker::new(Arc::clone(&clock) as Arc<dyn Clock>);
        let (first, second) = (breaker.enter().ok().unwrap(), breaker.enter().ok().unwrap());
        first.away("refused");
        second.away("refused later");
        assert_eq!(breaker.enter().err().as_deref(), Some("refused"));
        clock.advance(PAUSE.as_millis() as u64);
        let probe = breaker.enter().ok().unwrap();
        assert!(breaker.enter().is_err(), "a second call asks beside the probe");
        drop(probe);
        clock.advance(PAUSE.as_millis() as u64);
        assert!(breaker.enter().is_err(), "the pause did not double");
        clock.advance(PAUSE.as_millis() as u64);
        breaker.enter().ok().unwrap().answered();
        let both = [breaker.enter(), breaker.enter()];
        assert!(both.iter().all(Result::is_ok));
    }
}
