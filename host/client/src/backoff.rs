//! How long to wait before the next try.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

/// Doubling waits with full jitter, so that a thousand clients do not come back in one moment.
#[derive(Debug, Clone)]
pub struct Backoff {
    base_ms: u64,
    max_ms: u64,
    tries: u32,
    jitter: RandomState,
}

impl Backoff {
    /// The first wait lies between half of `base_ms` and `base_ms`; none exceeds `max_ms`.
    #[must_use]
    pub fn new(base_ms: u64, max_ms: u64) -> Self {
        Self { base_ms, max_ms, tries: 0, jitter: RandomState::new() }
    }

    /// Forgets the failures: a connection has worked.
    pub fn reset(&mut self) {
        self.tries = 0;
    }

    /// How long to wait now; `at_least_ms` is what the server asked for.
    pub fn next(&mut self, at_least_ms: Option<u64>) -> Duration {
        let top = self.base_ms.saturating_mul(1 << self.tries.min(16)).min(self.max_ms).max(1);
        self.tries = self.tries.saturating_add(1);
        let span = top - top / 2;
        let jittered = top / 2 + self.jitter.hash_one(self.tries) % span.max(1);
        Duration::from_millis(jittered.max(at_least_ms.unwrap_or(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::Backoff;
    use std::time::Duration;

    #[test]
    fn waits_grow_stay_below_their_bound_and_heed_the_server() {
        let mut backoff = Backoff::new(100, 1_000);
        for top in [100, 200, 400, 800, 1_000, 1_000] {
            let wait = backoff.next(None).as_millis();
            assert!((top / 2..=top).contains(&wait), "{wait} for {top}");
        }
        assert_eq!(backoff.next(Some(5_000)), Duration::from_secs(5));
        backoff.reset();
        assert!(backoff.next(None) <= Duration::from_millis(100));
    }
}
