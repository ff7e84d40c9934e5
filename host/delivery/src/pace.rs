//! When the archiver writes: once in its interval, sooner if a batch is full, at once if somebody waits for what the archive does not have.
//! Each transaction touches a few pages for every user who got something, so that few large ones cost far less than many small ones.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::NodeMessage;
use crate::delivery::Shared;

/// Between two transactions, however many wait; and between two looks at whether a batch is full.
pub(crate) const LEAST: Duration = Duration::from_millis(50);

/// Who waits for the archive.
#[derive(Default)]
pub(crate) struct Pace {
    waiting: Notify,
    /// When other nodes were told last.
    told: Mutex<Option<Instant>>,
}

impl Pace {
    /// Somebody, here or on another node, waits for the archive.
    pub(crate) fn hurry(&self) {
        self.waiting.notify_one();
    }

    /// Tells every node that somebody waits; not more often than they write.
    pub(crate) async fn hurry_all(&self, shared: &Shared) {
        self.hurry();
        let now = Instant::now();
        let before = self.told.lock().replace(now);
        if before.is_none_or(|before| now.duration_since(before) >= LEAST) {
            shared.bus.broadcast(Arc::new(NodeMessage::Hurry)).await;
        } else {
            *self.told.lock() = before;
        }
    }

    /// Waits until it is time to write again.
    pub(crate) async fn due(&self, shared: &Shared, interval: Duration) {
        let end = Instant::now() + interval;
        let asked = async {
            tokio::time::sleep(LEAST.min(interval)).await;
            self.waiting.notified().await;
        };
        let full = async {
            loop {
                let lag = shared.archive_lag();
                metrics::gauge!("heddle_archive_lag_records").set(lag as f64);
                if lag >= shared.config.archive_batch_records as u64 {
                    return;
                }
                tokio::time::sleep(LEAST).await;
            }
        };
        tokio::select! {
            () = tokio::time::sleep_until(end) => {}
            () = asked => {}
            () = full => {}
        }
    }
}
