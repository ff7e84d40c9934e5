//! Time comes in through the front door: whoever needs it holds an `Arc<dyn Clock>`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds: since 1970 UTC for instants, a length for spans.
pub type Millis = u64;

/// Where time comes from.
pub trait Clock: Send + Sync + 'static {
    /// The wall clock, in milliseconds since 1970 UTC. May jump.
    fn now(&self) -> Millis;

    /// A clock that never goes backwards, from an arbitrary start.
    fn monotonic(&self) -> Duration;
}

/// The machine's clocks.
#[derive(Debug, Clone)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// Starts the monotonic clock at zero.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the clock")]
    fn now(&self) -> Millis {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as Millis)
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

/// A clock that stands still until it is moved: for tests and replays.
#[derive(Debug, Default)]
pub struct ManualClock {
    now: AtomicU64,
    elapsed: AtomicU64,
}

impl ManualClock {
    /// Stands at `now`, milliseconds since 1970 UTC.
    #[must_use]
    pub fn at(now: Millis) -> Self {
        Self { now: AtomicU64::new(now), elapsed: AtomicU64::new(0) }
    }

    /// Moves both clocks forward by `span` milliseconds.
    pub fn advance(&self, span: Millis) {
        self.now.fetch_add(span, Ordering::SeqCst);
        self.elapsed.fetch_add(span, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Millis {
        self.now.load(Ordering::SeqCst)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.elapsed.load(Ordering::SeqCst))
    }
}
