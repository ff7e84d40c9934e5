//! While the writer's statements run, others are offered its core: it looks at the clock at each offer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use heddle_model::{Clock, Millis, SystemClock};
use heddle_store::{ArchiveBatch, SqliteStore, StoreConfig};

use crate::fixture::*;

/// Counts who looks at it.
#[derive(Default)]
struct Looks {
    clock: SystemClock,
    count: AtomicUsize,
}

impl Clock for Looks {
    fn now(&self) -> Millis {
        self.clock.now()
    }

    fn monotonic(&self) -> Duration {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.clock.monotonic()
    }
}

#[tokio::test]
async fn the_writer_offers_its_core_within_a_transaction() {
    const MESSAGES: u64 = 500;
    let directory = tempfile::tempdir().unwrap();
    let looks = Arc::new(Looks::default());
    let config = StoreConfig { readers: 1, ..StoreConfig::at(directory.path().join("store.db")) };
    let store = SqliteStore::open(config, looks.clone()).await.unwrap();
    let mut batch = ArchiveBatch::default();
    for n in 1..=MESSAGES {
        direct(&mut batch, n, n, n);
    }
    looks.count.store(0, Ordering::Relaxed);
    store.store().archive.write(batch).await.unwrap();
    let offered = looks.count.load(Ordering::Relaxed);
    // Two at each offer, which comes once in a few messages; without offers it looks at the clock twice for the job.
    assert!(offered as u64 > MESSAGES / 5, "{offered} looks at the clock in a transaction of {MESSAGES} messages");
    store.close().await;
}
