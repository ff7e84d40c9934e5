//! Lives of the log: epochs and holes stand in the main database, the `archived` cursors in the shards.
//!
//! A cut into another number of partitions is decided by one transaction of the main database; the shards' cursors follow, as often as it takes: whoever
//! opens the epoch or cuts anew sees to that first, so that a node which died between leaves nothing half done. An archiver that does not know of the
//! cut is refused by the main database from the decision on.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use heddle_model::{Position, TopicPartition, UserId};

use super::PostgresShards;
use crate::fault::unavailable;
use crate::postgres::epochs::Archived;
use crate::{Archive, Epochs, Hole, StoreError};

#[async_trait]
impl Epochs for PostgresShards {
    async fn epoch(
        &self,
        identity: [u8; 16],
        partitions: u32,
        heads: &[(TopicPartition, u64)],
    ) -> Result<u32, StoreError> {
        self.fits(partitions)?;
        let archived = self.archived().await?;
        let epoch = self.main.open_epoch(identity, partitions, heads, archived).await?;
        self.follow_cut(epoch).await?;
        Ok(epoch)
    }

    async fn newest(&self) -> Result<Option<([u8; 16], u32)>, StoreError> {
        self.main.newest().await
    }

    async fn repartition(
        &self,
        identity: [u8; 16],
        partitions: u32,
        starts: &[(TopicPartition, u64)],
    ) -> Result<Option<u32>, StoreError> {
        self.fits(partitions)?;
        let archived = self.archived().await?;
        let epoch = self.main.cut(identity, partitions, starts, archived).await?;
        if let Some(epoch) = epoch {
            self.follow_cut(epoch).await?;
        }
        Ok(epoch)
    }

    async fn starts(&self, epoch: u32) -> Result<Vec<(TopicPartition, u64)>, StoreError> {
        self.main.starts(epoch).await
    }

    async fn holes(&self) -> Result<Vec<Hole>, StoreError> {
        self.main.holes().await
    }

    async fn add_hole(&self, hole: Hole) -> Result<(), StoreError> {
        self.main.add_hole(hole).await
    }

    async fn add_loss(&self, user: &UserId, upto: Position) -> Result<(), StoreError> {
        self.main.add_loss(user, upto).await
    }

    async fn losses(&self, user: &UserId) -> Result<Vec<Position>, StoreError> {
        self.main.losses(user).await
    }
}

impl PostgresShards {
    async fn archived(&self) -> Result<Archived, StoreError> {
        let cursors: HashMap<_, _> =
            self.cursors().await?.into_iter().map(|cursor| (cursor.partition, cursor.upto)).collect();
        Ok(Archived::There(Arc::new(cursors)))
    }

    /// Moves the shards' cursors to where an epoch begins, if the log was cut then.
    async fn follow_cut(&self, epoch: u32) -> Result<(), StoreError> {
        let starts = self.main.starts(epoch).await?;
        if starts.is_empty() {
            return Ok(());
        }
        self.all(|nth, shard| {
            let own: Vec<_> = starts.iter().filter(|(partition, _)| self.of(*partition) == nth).copied().collect();
            async move { shard.move_cursors(epoch, own).await }
        })
        .await?;
        Ok(())
    }

    /// Homes stay in their shards only where every number of partitions is a multiple of that of the shards.
    fn fits(&self, partitions: u32) -> Result<(), StoreError> {
        let shards = self.shards();
        if partitions.is_multiple_of(shards) {
            return Ok(());
        }
        let reason = format!(
            "a log of {partitions} partitions cannot be spread over {shards} shards: cut it into a multiple of {shards}"
        );
        Err(unavailable("epoch", &reason))
    }
}
