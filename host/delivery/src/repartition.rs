//! The log cut into another number of partitions. (DELIVERY 26)
//!
//! Nodes agree in `control` that nobody sends any more; when all that was accepted is derived from and archived, the store opens an epoch in which every
//! partition goes on where it stands. Any node may do this, and all of them may at once: the store takes the first.

use std::collections::HashMap;
use std::time::Duration;

use heddle_model::{Offset, TopicPartition};
use heddle_store::StoreError;

use crate::Delivery;
use crate::delivery::Shared;

/// Between two looks at the cursors.
const LOOK: Duration = Duration::from_millis(200);
/// Between two tries of something that failed.
const RETRY: Duration = Duration::from_secs(1);

impl Delivery {
    /// Waits until everything in the log is derived from and archived, by whatever node, and opens the epoch in which it has so many partitions.
    /// Nobody may append anything new to it meanwhile; what still lands is taken in.
    pub async fn repartition(&self, partitions: u32) {
        loop {
            match self.shared.cut(partitions).await {
                Ok(Some(epoch)) => {
                    tracing::info!(partitions, epoch, "the log is cut anew");
                    return;
                }
                // Something landed meanwhile.
                Ok(None) => tokio::time::sleep(LOOK).await,
                Err(reason) => {
                    tracing::warn!(reason, partitions, "the log waits to be cut; sends are refused meanwhile");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }
}

impl Shared {
    /// Whether what was read by now may be of the next epoch, where it has other positions, although this node is of the one before. A record of that
    /// epoch is appended after the store has opened it, and not earlier than 6 s after every node could know that this would be: so who asks after it
    /// has read is told.
    pub(crate) async fn is_cut(&self) -> bool {
        let (count, identity) = (self.numbering.partitioning.count, self.log.layout().identity.0);
        loop {
            let cut = self.policies.cut();
            // Partitions only become more.
            if cut.done.is_some_and(|done| done > count) {
                return true;
            }
            let expected = cut.under_way.is_some();
            // One that stood still has not been told yet.
            if !expected && self.policies.knows().is_ok() {
                return false;
            }
            match self.store.epochs.newest().await {
                Ok(newest) => return newest.is_some_and(|(of, partitions)| of == identity && partitions > count),
                Err(_) if !expected => return false,
                Err(error) => tracing::warn!(%error, "pushes wait for the store: the log may be cut by now"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn cut(&self, partitions: u32) -> Result<Option<u32>, String> {
        let (epochs, identity) = (&self.store.epochs, self.log.layout().identity.0);
        let ends = self.ends().await?;
        loop {
            // Another node may have been quicker.
            let newest = epochs.newest().await.map_err(|error| error.to_string())?;
            if newest == Some((identity, partitions)) {
                break;
            }
            let missing = self.missing(&ends).await.map_err(|error| error.to_string())?;
            if missing.is_empty() {
                // What is derived is appended too.
                if self.ends().await? != ends {
                    return Ok(None);
                }
                break;
            }
            tracing::debug!(?missing, "partitions whose end is not derived from or not archived");
            tokio::time::sleep(LOOK).await;
        }
        epochs.repartition(identity, partitions, &ends).await.map_err(|error| error.to_string())
    }

    /// Where all partitions end now.
    async fn ends(&self) -> Result<Vec<(TopicPartition, Offset)>, String> {
        let mut ends = Vec::new();
        for partition in self.numbering.partitioning.all() {
            ends.push((partition, self.log.head_now(partition).await?));
        }
        Ok(ends)
    }

    /// The partitions with records below these ends that a cursor in the store does not cover.
    async fn missing(&self, ends: &[(TopicPartition, Offset)]) -> Result<Vec<TopicPartition>, StoreError> {
        let archive = &self.store.archive;
        let archived: HashMap<_, _> =
            archive.cursors().await?.into_iter().map(|cursor| (cursor.partition, cursor.upto)).collect();
        let derived: HashMap<_, _> = archive.derived().await?.into_iter().collect();
        let covers = |upto: Option<&_>, end| upto.and_then(|upto| self.numbering.next(*upto)).unwrap_or(0) >= end;
        let missing = ends
            .iter()
            .filter(|(partition, end)| !covers(archived.get(partition), *end) || !covers(derived.get(partition), *end));
        Ok(missing.map(|(partition, _)| *partition).collect())
    }
}
