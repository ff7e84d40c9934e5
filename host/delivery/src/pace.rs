//! When the archiver writes: once in its interval, sooner if a batch is full, at once if somebody waits for what the archive does not have.
//! Each transaction touches a few pages for every user who got something, so that few large ones cost far less than many small ones.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::NodeMessage;
use crate::delivery::Shared;

/// Between two transactions, however many wait; and between two looks at whether a batch is full.
pub(crate) const LEAST: Duration = Duration::from_millis(50);

/// Who waits for the archive.
#[derive(Default)]
pub(crate) struct Pace {
    /// Every archiver hears each word, one that is writing too.
    waiting: watch::Sender<()>,
    /// When other nodes were told last.
    told: Mutex<Option<Instant>>,
}

impl Pace {
    /// Somebody, here or on another node, waits for the archive.
    pub(crate) fn hurry(&self) {
        self.waiting.send_replace(());
    }

    /// For an archiver: changes when somebody waits.
    pub(crate) fn hurried(&self) -> watch::Receiver<()> {
        self.waiting.subscribe()
    }

    /// Tells every node that somebody waits; not more often than they write.
    pub(crate) async fn hurry_all(&self, shared: &Shared) {
        self.hurry();
        let now = Instant::now();
        let due = {
            let mut told = self.told.lock();
            let due = told.is_none_or(|before| now.duration_since(before) >= LEAST);
            if due {
                *told = Some(now);
            }
            due
        };
        if due {
            shared.bus.broadcast(Arc::new(NodeMessage::Hurry)).await;
        }
    }
}

/// Between two transactions of a shard where little is to be written. Where nodes share a log, one may be asked for a history and not reach the node that
/// archives; so what a history needs comes within half of the time that it waits.
pub(crate) fn interval(shared: &Shared) -> Duration {
    let interval = Duration::from_millis(shared.config.archive_interval_ms.max(1));
    if shared.follows { interval.min(Duration::from_millis(shared.config.history_wait_ms / 2)) } else { interval }
}

/// Waits until it is time to write this shard of the archive again; never less than [`LEAST`], or records that wait for their worker would keep a core busy.
pub(crate) async fn due(shared: &Shared, shard: u32, hurried: &mut watch::Receiver<()>, interval: Duration) {
    let end = Instant::now() + interval;
    tell_lag(shared);
    tokio::time::sleep(LEAST.min(interval)).await;
    let full = async {
        loop {
            tell_lag(shared);
            if shared.archive_lag_of(shard) >= shared.config.archive_batch_records as u64
                || shared.unarchived_bytes_of(shard) >= shared.config.archive_batch_bytes
            {
                return;
            }
            tokio::time::sleep(LEAST).await;
        }
    };
    tokio::select! {
        () = tokio::time::sleep_until(end) => {}
        // Its sender lives as long as `shared`.
        _ = hurried.changed() => {}
        () = full => {}
    }
}

/// How far the archive is behind, for `/metrics`.
pub(crate) fn tell_lag(shared: &Shared) {
    metrics::gauge!("heddle_archive_lag_records").set(shared.archive_lag() as f64);
}
