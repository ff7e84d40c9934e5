//! The archive's port: each question to the shard that has the answer.

use async_trait::async_trait;
use heddle_model::{Conversation, MessageId, Position, ReceiptStatus, TopicPartition, UserId};

use super::PostgresShards;
use crate::{
    Archive, ArchiveBatch, ArchivedRecord, ConversationRow, Cursor, DeadLetterRow, HistoryPage, HistoryQuery,
    ReceiptState, StoreError, StreamPage, StreamPoint, StreamSince,
};

#[async_trait]
impl Archive for PostgresShards {
    async fn write(&self, batch: ArchiveBatch) -> Result<(), StoreError> {
        self.write_batch(batch).await
    }

    async fn cursors(&self) -> Result<Vec<Cursor>, StoreError> {
        let cursors = self.all(|_, shard| async move { shard.cursors().await }).await?;
        let mut cursors = cursors.concat();
        cursors.sort_unstable_by_key(|cursor| cursor.partition);
        Ok(cursors)
    }

    fn shards(&self) -> u32 {
        self.shards.len() as u32
    }

    fn shard(&self, partition: TopicPartition) -> u32 {
        self.of(partition) as u32
    }

    async fn cursors_of(&self, shard: u32) -> Result<Vec<Cursor>, StoreError> {
        self.ask(shard as usize, |shard| async move { shard.cursors().await }).await
    }

    async fn keep_derived(&self, cursors: &[(TopicPartition, Position)]) -> Result<(), StoreError> {
        self.main.keep_derived(cursors).await
    }

    async fn derived(&self) -> Result<Vec<(TopicPartition, Position)>, StoreError> {
        self.main.derived().await
    }

    async fn stream(
        &self,
        user: &UserId,
        home: TopicPartition,
        after: Position,
        limit: u32,
    ) -> Result<StreamPage, StoreError> {
        self.ask(self.of_user(user), |shard| async move { shard.stream(user, home, after, limit).await }).await
    }

    async fn stream_since(&self, user: &UserId, point: StreamPoint) -> Result<StreamSince, StoreError> {
        self.ask(self.of_user(user), |shard| async move { shard.stream_since(user, point).await }).await
    }

    /// Its id does not say where it stands. A copy that was found is one, whoever did not answer; that there is none, all must say.
    async fn message(&self, id: &MessageId) -> Result<Option<ArchivedRecord>, StoreError> {
        let id = *id;
        let answers = self.each(move |_, shard| async move { shard.message(&id).await }).await;
        let (found, failed): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
        let found = found.into_iter().flatten().flatten();
        match (
            found.min_by_key(|record| (record.appended_at, record.partition, record.position)),
            failed.into_iter().next(),
        ) {
            (None, Some(failed)) => failed,
            (found, _) => Ok(found),
        }
    }

    async fn record(&self, partition: TopicPartition, at: Position) -> Result<Option<ArchivedRecord>, StoreError> {
        self.ask(self.of(partition), |shard| async move { shard.record(partition, at).await }).await
    }

    async fn dead_letters(&self, limit: u32) -> Result<Vec<DeadLetterRow>, StoreError> {
        let letters = self.all(move |_, shard| async move { shard.dead_letters(limit).await }).await?;
        let mut letters = letters.concat();
        letters.sort_by(|a, b| {
            let key = |row: &DeadLetterRow| (row.partition, row.position, row.by.clone());
            b.at.cmp(&a.at).then_with(|| key(a).cmp(&key(b)))
        });
        letters.truncate(limit as usize);
        Ok(letters)
    }

    async fn history(&self, query: HistoryQuery) -> Result<HistoryPage, StoreError> {
        self.page(query).await
    }

    async fn conversations(
        &self,
        user: &UserId,
        _home: TopicPartition,
        limit: u32,
    ) -> Result<Vec<ConversationRow>, StoreError> {
        self.list(user, limit).await
    }

    async fn receipt(
        &self,
        sender: &UserId,
        conversation: &Conversation,
        by: &UserId,
    ) -> Result<Option<ReceiptState>, StoreError> {
        self.ask(self.of_user(sender), |shard| async move { shard.receipt(sender, conversation, by).await }).await
    }

    async fn reached(
        &self,
        sender: &UserId,
        conversation: &Conversation,
        status: ReceiptStatus,
        order: Position,
    ) -> Result<u64, StoreError> {
        self.ask(self.of_user(sender), |shard| async move { shard.reached(sender, conversation, status, order).await })
            .await
    }
}
