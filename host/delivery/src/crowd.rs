//! Receipts of large groups: counted in rows, told to each sender at most once a second. (DELIVERY 19)

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use heddle_model::{Conversation, ReceiptStatus, Record, UserId};
use heddle_store::{ArchiveBatch, ReceiptRow};
use lru::LruCache;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::delivery::Shared;
use crate::receipts::{CrowdMarks, Key, LAST_MAX, Mark, raise, record};

/// Whose messages, where, and how far.
type About = (UserId, Conversation, ReceiptStatus);

/// What is known of large groups.
struct Crowd {
    /// Not in the store yet.
    rows: HashMap<Key, Mark>,
    /// Not told yet: the newest message, and the last reader of it.
    untold: HashMap<About, (Mark, UserId)>,
    last: LruCache<About, Instant>,
}

/// Counts until told to stop.
pub(crate) async fn run(shared: Arc<Shared>, mut marks: mpsc::Receiver<CrowdMarks>, interval: Duration) {
    let mut crowd = Crowd::new();
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            more = marks.recv() => {
                let Some(more) = more else { return };
                crowd.take(more);
                while let Ok(more) = marks.try_recv() {
                    crowd.take(more);
                }
            }
            _ = ticks.tick() => {}
            () = shared.stop.cancelled() => return,
        }
        crowd.tell(&shared, interval).await;
    }
}

impl Crowd {
    fn new() -> Self {
        let last = LruCache::new(NonZeroUsize::new(LAST_MAX).unwrap_or(NonZeroUsize::MIN));
        Self { rows: HashMap::new(), untold: HashMap::new(), last }
    }

    fn take(&mut self, marks: HashMap<Key, Mark>) {
        for (key, mark) in marks {
            raise(&mut self.rows, key, mark);
        }
    }

    /// Counts, then tells the senders for whom an interval has passed.
    async fn tell(&mut self, shared: &Shared, interval: Duration) {
        if !self.count(shared).await || shared.policies.knows().is_err() {
            return;
        }
        let now = Instant::now();
        let due: Vec<About> = self
            .untold
            .keys()
            .filter(|about| self.last.peek(about).is_none_or(|at| now.duration_since(*at) >= interval))
            .cloned()
            .collect();
        for about in due {
            let Some((mark, reader)) = self.untold.get(&about).cloned() else { continue };
            let (sender, conversation, status) = &about;
            let count = match shared.store.archive.reached(sender, conversation, *status, mark.order).await {
                Ok(count) => u32::try_from(count).unwrap_or(u32::MAX),
                Err(error) => {
                    tracing::warn!(%error, "a receipt of a large group waits");
                    return;
                }
            };
            let key = Key { sender: sender.clone(), conversation: conversation.clone(), reader, status: *status };
            let receipt = Record::Receipt(record(&key, mark, shared.clock.now(), Some(count)));
            let home = shared.numbering.partitioning.home(sender);
            match shared.log.append(home, None, receipt.encode()).await {
                Ok(_) => {
                    self.untold.remove(&about);
                    self.last.put(about, now);
                }
                Err(error) => tracing::warn!(%error, "a receipt of a large group waits for the next try"),
            }
        }
    }

    /// Writes the rows that are counted; false if they wait.
    async fn count(&mut self, shared: &Shared) -> bool {
        if self.rows.is_empty() {
            return true;
        }
        let at = shared.clock.now();
        let rows = self.rows.iter().map(|(key, mark)| ReceiptRow {
            sender: key.sender.clone(),
            conversation: key.conversation.clone(),
            by: key.reader.clone(),
            status: key.status,
            order: mark.order,
            at,
        });
        let batch = ArchiveBatch { receipts: rows.collect(), ..ArchiveBatch::default() };
        if let Err(error) = shared.store.archive.write(batch).await {
            tracing::warn!(%error, "receipts of large groups wait for the store");
            return false;
        }
        for (key, mark) in self.rows.drain() {
            let about = (key.sender, key.conversation, key.status);
            let newest = self.untold.entry(about).or_insert_with(|| (mark, key.reader.clone()));
            if newest.0.order <= mark.order {
                *newest = (mark, key.reader);
            }
        }
        true
    }
}
