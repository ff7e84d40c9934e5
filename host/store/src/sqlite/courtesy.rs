//! The writer gives way. SQLite runs a statement to its end on a thread of its own; where cores are few, whoever wakes up beside it to deliver a
//! message waits for the kernel to take the core away, for milliseconds.

use std::sync::Arc;
use std::time::Duration;

use heddle_model::Clock;
use sqlx::sqlite::SqliteConnection;

/// Instructions of SQLite's machine between two offers: by reckoning some 20 µs of inserts.
const INSTRUCTIONS: i32 = 300;
/// So much more than it has worked itself the writer gives to others: beside threads that never rest it has half of the time that it would have had,
/// and comes on.
const AHEAD_MAX: Duration = Duration::from_millis(20);

/// Offers the core to others while a statement of this connection runs.
pub(super) async fn give_way(connection: &mut SqliteConnection, clock: Arc<dyn Clock>) -> Result<(), sqlx::Error> {
    let mut courtesy = Courtesy { ahead: Duration::ZERO, last: clock.monotonic() };
    connection.lock_handle().await?.set_progress_handler(INSTRUCTIONS, move || {
        courtesy.offer(&*clock, std::thread::yield_now);
        // Go on.
        true
    });
    Ok(())
}

/// What was given, and what was worked for since.
struct Courtesy {
    /// Given beyond the time worked.
    ahead: Duration,
    /// When the last offer ended, by the monotonic clock.
    last: Duration,
}

impl Courtesy {
    fn offer(&mut self, clock: &dyn Clock, give: impl FnOnce()) {
        let now = clock.monotonic();
        self.ahead = self.ahead.saturating_sub(now.saturating_sub(self.last));
        self.last = now;
        if self.ahead < AHEAD_MAX {
            give();
            self.last = clock.monotonic();
            self.ahead += self.last.saturating_sub(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use heddle_model::ManualClock;

    use super::*;

    #[test]
    fn beside_others_that_never_rest_the_writer_has_as_much_time_as_it_gives() {
        let clock = ManualClock::default();
        let mut courtesy = Courtesy { ahead: Duration::ZERO, last: clock.monotonic() };
        let (mut worked, mut given) = (0, 0);
        for _ in 0..10_000 {
            clock.advance(1);
            worked += 1;
            courtesy.offer(&clock, || {
                clock.advance(4);
                given += 4;
            });
        }
        assert!(given >= worked / 2, "{given} ms given, {worked} worked");
        assert!(given <= worked + 24, "{given} ms given, {worked} worked");
    }

    #[test]
    fn who_is_not_taken_up_on_it_offers_each_time() {
        let clock = ManualClock::default();
        let mut courtesy = Courtesy { ahead: Duration::ZERO, last: clock.monotonic() };
        let mut offers = 0;
        for _ in 0..1_000 {
            courtesy.offer(&clock, || offers += 1);
        }
        assert_eq!(offers, 1_000);
    }
}
