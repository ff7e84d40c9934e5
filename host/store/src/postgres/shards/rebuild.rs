//! Making rows of the archive anew: each stretch in the shard of its partition, groups in the main database.

use async_trait::async_trait;
use heddle_model::{GroupId, Position, TopicPartition};

use super::PostgresShards;
use crate::{
    ArchiveBatch, ArchivedRecord, GroupDelta, Rebuild, ReceiptCut, ReceiptKept, ReceiptRow, StoreError, Stretch,
    StretchRows,
};

#[async_trait]
impl Rebuild for PostgresShards {
    async fn prepare_rebuild(&self) -> Result<(), StoreError> {
        self.all(|_, shard| async move { shard.prepare_rebuild().await }).await.map(drop)
    }

    async fn end_rebuild(&self) -> Result<(), StoreError> {
        self.all(|_, shard| async move { shard.end_rebuild().await }).await.map(drop)
    }

    async fn stretch(&self, stretch: Stretch) -> Result<StretchRows, StoreError> {
        self.ask(self.of(stretch.partition), |shard| async move { shard.stretch(stretch).await }).await
    }

    async fn replace(&self, stretch: Stretch, batch: ArchiveBatch) -> Result<(), StoreError> {
        let nth = self.of(stretch.partition);
        let mut parts = self.prepare(batch)?;
        self.write_main(&parts).await?;
        let own = parts.shards.get_mut(nth).and_then(Option::take).unwrap_or_default();
        self.ask(nth, |shard| async move { shard.replace_prepared(stretch, own).await }).await?;
        // There is nothing for others, but what names another partition than the stretch.
        self.write_shards(&parts).await
    }

    async fn records_below(
        &self,
        partition: TopicPartition,
        below: Position,
        limit: u32,
    ) -> Result<Vec<ArchivedRecord>, StoreError> {
        let nth = self.of(partition);
        self.ask(nth, |shard| async move { shard.records_below(partition, below, limit).await }).await
    }

    async fn groups_above(&self, after: Option<&GroupId>, limit: u32) -> Result<Vec<(GroupId, Position)>, StoreError> {
        self.main.groups_above(after, limit).await
    }

    async fn remake_group(
        &self,
        group: &GroupId,
        after: Position,
        changes: Vec<GroupDelta>,
        keep: bool,
    ) -> Result<bool, StoreError> {
        self.main.remake_group(group, after, changes, keep).await
    }

    async fn set_head(&self, group: &GroupId, head: Position) -> Result<(), StoreError> {
        self.main.set_head(group, head).await
    }

    async fn receipts_above(&self, after: Option<&ReceiptKept>, limit: u32) -> Result<Vec<ReceiptKept>, StoreError> {
        let after = after.cloned();
        let rows = self.all(|_, shard| {
            let after = after.clone();
            async move { shard.receipts_above(after.as_ref(), limit).await }
        });
        let mut rows = rows.await?.concat();
        rows.sort_by_cached_key(|row| (row.sender.clone(), row.conversation.to_string(), row.by.clone()));
        rows.truncate(limit as usize);
        Ok(rows)
    }

    async fn remake_receipts(&self, cuts: Vec<ReceiptCut>, rows: Vec<ReceiptRow>) -> Result<(), StoreError> {
        for nth in 0..self.shards.len() {
            let cuts: Vec<_> = cuts.iter().filter(|cut| self.of_user(&cut.row.sender) == nth).cloned().collect();
            let rows: Vec<_> = rows.iter().filter(|row| self.of_user(&row.sender) == nth).cloned().collect();
            if !(cuts.is_empty() && rows.is_empty()) {
                self.ask(nth, |shard| async move { shard.remake_receipts(cuts, rows).await }).await?;
            }
        }
        Ok(())
    }

    async fn remake_conversations(&self, stretches: &[Stretch], keep: bool) -> Result<u64, StoreError> {
        // A row that names a partition of another shard is wrong too.
        let counts = self.all(|_, shard| {
            let stretches = stretches.to_vec();
            async move { shard.remake_conversations(&stretches, keep).await }
        });
        Ok(counts.await?.into_iter().sum())
    }
}
