//! The archive's port: streams, records, receipts; history and conversations stand beside.

use std::sync::Arc;

use async_trait::async_trait;
use heddle_model::{Conversation, MessageId, Position, ReceiptStatus, TopicPartition, UserId};
use sqlx::postgres::PgConnection;

use super::PostgresStore;
use super::archive;
use super::columns::{Prepared, count_rows};
use super::fault::{of, without_range};
use super::{conversations, history};
use crate::cell::{int, partition, partition_code, place, position, time, uint};
use crate::fault::{Fault, unavailable};
use crate::row::{DeadLetterColumns, RecordColumns, dead_letter, derived_row, present, record};
use crate::{
    Archive, ArchiveBatch, ArchivedRecord, ConversationRow, Cursor, DeadLetterRow, HistoryPage, HistoryQuery,
    ReceiptState, StoreError, StreamPage, StreamPoint, StreamRowRead, StreamSince, UNREAD_MAX,
};

#[async_trait]
impl Archive for PostgresStore {
    async fn write(&self, batch: ArchiveBatch) -> Result<(), StoreError> {
        count_rows(&batch);
        let prepared = Prepared::new(batch).map_err(|fault| of(fault, "archive"))?;
        self.write_prepared(&Arc::new(prepared)).await?;
        metrics::counter!("heddle_store_batches_total").increment(1);
        Ok(())
    }

    async fn cursors(&self) -> Result<Vec<Cursor>, StoreError> {
        let read = self.connections.read("cursors", |connection| {
            Box::pin(async move {
                let rows: Vec<(i64, i64, Vec<u8>)> =
                    sqlx::query_as("SELECT partition, upto, judge FROM cursors ORDER BY partition")
                        .fetch_all(connection)
                        .await?;
                let rows = rows.into_iter().map(|(code, upto, judge)| {
                    Ok(Cursor {
                        partition: partition("cursors", code)?,
                        upto: position("cursors", upto)?,
                        judge: judge.into(),
                    })
                });
                rows.collect()
            })
        });
        read.await
    }

    async fn keep_derived(&self, cursors: &[(TopicPartition, Position)]) -> Result<(), StoreError> {
        let cursors = cursors.to_vec();
        let write = self.connections.write("keep derived", move |connection| {
            let cursors = cursors.clone();
            Box::pin(async move { archive::keep_derived(connection, &cursors).await })
        });
        write.await
    }

    async fn derived(&self) -> Result<Vec<(TopicPartition, Position)>, StoreError> {
        let read = self.connections.read("derived", |connection| {
            Box::pin(async move {
                let rows: Vec<(i64, i64)> =
                    sqlx::query_as("SELECT partition, upto FROM derived_cursors ORDER BY partition")
                        .fetch_all(connection)
                        .await?;
                rows.into_iter().map(derived_row).collect()
            })
        });
        read.await
    }

    async fn dead_letters(&self, limit: u32) -> Result<Vec<DeadLetterRow>, StoreError> {
        let read = self.connections.read("dead letters", move |connection| {
            Box::pin(async move {
                let rows: Vec<DeadLetterColumns> = sqlx::query_as(
                    "SELECT partition, position, given_up_by, error, at, CAST(length(bytes) AS BIGINT) FROM dead_letters
                     ORDER BY at DESC, partition, position, given_up_by LIMIT $1",
                )
                .bind(i64::from(limit))
                .fetch_all(connection)
                .await?;
                rows.into_iter().map(dead_letter).collect()
            })
        });
        read.await
    }

    async fn stream(
        &self,
        user: &UserId,
        home: TopicPartition,
        after: Position,
        limit: u32,
    ) -> Result<StreamPage, StoreError> {
        let user = user.clone();
        let read = self
            .connections
            .read("stream", move |connection| Box::pin(page(connection, user.clone(), home, after, limit)));
        read.await
    }

    async fn stream_since(&self, user: &UserId, point: StreamPoint) -> Result<StreamSince, StoreError> {
        let user = user.clone();
        let read =
            self.connections.read("stream since", move |connection| Box::pin(since(connection, user.clone(), point)));
        read.await
    }

    async fn message(&self, id: &MessageId) -> Result<Option<ArchivedRecord>, StoreError> {
        let id = *id;
        let read = self.connections.read("message", move |connection| {
            Box::pin(async move {
                let row: Option<RecordColumns> = sqlx::query_as(
                    "SELECT partition, position, appended_at, message_id, bytes FROM records WHERE message_id = $1
                     ORDER BY appended_at, partition, position LIMIT 1",
                )
                .bind(id.0.as_slice())
                .fetch_optional(connection)
                .await?;
                row.map(record).transpose()
            })
        });
        read.await
    }

    async fn record(&self, partition: TopicPartition, at: Position) -> Result<Option<ArchivedRecord>, StoreError> {
        let read = self.connections.read("record", move |connection| {
            Box::pin(async move {
                let row: Option<RecordColumns> = sqlx::query_as(
                    "SELECT partition, position, appended_at, message_id, bytes FROM records
                     WHERE partition = $1 AND position = $2",
                )
                .bind(partition_code(partition))
                .bind(place("records", at)?)
                .fetch_optional(connection)
                .await?;
                row.map(record).transpose()
            })
        });
        read.await
    }

    async fn history(&self, query: HistoryQuery) -> Result<HistoryPage, StoreError> {
        self.connections
            .read("history", move |connection| Box::pin(history::page(connection, query.clone(), Vec::new())))
            .await
    }

    async fn conversations(
        &self,
        user: &UserId,
        _home: TopicPartition,
        limit: u32,
    ) -> Result<Vec<ConversationRow>, StoreError> {
        let user = user.clone();
        let read = self
            .connections
            .read("conversations", move |connection| Box::pin(conversations::list(connection, user.clone(), limit)));
        read.await
    }

    async fn receipt(
        &self,
        sender: &UserId,
        conversation: &Conversation,
        by: &UserId,
    ) -> Result<Option<ReceiptState>, StoreError> {
        let (sender, name, by) = (sender.clone(), conversation.to_string(), by.clone());
        let read = self.connections.read("receipt", move |connection| {
            let (sender, name, by) = (sender.clone(), name.clone(), by.clone());
            Box::pin(async move {
                let row: Option<(i64, i64)> = sqlx::query_as(
                    "SELECT delivered, read FROM receipts WHERE sender = $1 AND conversation = $2 AND reader = $3",
                )
                .bind(sender.as_str())
                .bind(name)
                .bind(by.as_str())
                .fetch_optional(connection)
                .await?;
                let Some((delivered, read)) = row else { return Ok(None) };
                let (delivered, read) = (position("receipts", delivered)?, position("receipts", read)?);
                Ok(Some(ReceiptState { by, delivered, read }))
            })
        });
        read.await
    }

    async fn reached(
        &self,
        sender: &UserId,
        conversation: &Conversation,
        status: ReceiptStatus,
        order: Position,
    ) -> Result<u64, StoreError> {
        let (sender, name) = (sender.clone(), conversation.to_string());
        let read = self.connections.read("reached", move |connection| {
            let (sender, name) = (sender.clone(), name.clone());
            Box::pin(async move {
                let sql = match status {
                    ReceiptStatus::Delivered => {
                        "SELECT count(*) FROM receipts WHERE sender = $1 AND conversation = $2 AND delivered >= $3"
                    }
                    ReceiptStatus::Read => {
                        "SELECT count(*) FROM receipts WHERE sender = $1 AND conversation = $2 AND read >= $3"
                    }
                };
                let order = place("receipts", order)?;
                let (count,): (i64,) =
                    sqlx::query_as(sql).bind(sender.as_str()).bind(name).bind(order).fetch_one(connection).await?;
                uint("receipts", count)
            })
        });
        read.await
    }
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    Whole,
    /// A row has no table: nothing was written.
    WithoutRange,
}

impl PostgresStore {
    /// Writes a batch in one transaction.
    pub(super) async fn write_prepared(&self, batch: &Arc<Prepared>) -> Result<(), StoreError> {
        if self.owner.lost() {
            return Err(unavailable("archive", "another node, or a repair, uses this database now: stop one of them"));
        }
        self.ranges.ensure(&self.connections, batch.positions.iter()).await?;
        if self.write_batch(batch).await? == Written::WithoutRange {
            // Somebody dropped a table that this process knew: made again once, then it is not our fault.
            self.ranges.forget();
            self.ranges.ensure(&self.connections, batch.positions.iter()).await?;
            if self.write_batch(batch).await? == Written::WithoutRange {
                return Err(unavailable(
                    "archive",
                    "tables of the archive vanish while they are made: see archive_ranges",
                ));
            }
        }
        Ok(())
    }

    async fn write_batch(&self, batch: &Arc<Prepared>) -> Result<Written, StoreError> {
        let batch = Arc::clone(batch);
        let write = self.connections.write_at_leisure("archive", move |connection| {
            let batch = Arc::clone(&batch);
            Box::pin(async move {
                match archive::write(connection, &batch).await {
                    // The server has given the transaction up: its commit is a rollback.
                    Err(fault) if without_range(&fault) => Ok(Written::WithoutRange),
                    written => written.map(|()| Written::Whole),
                }
            })
        });
        write.await
    }
}

async fn page(
    connection: &mut PgConnection,
    user: UserId,
    home: TopicPartition,
    after: Position,
    limit: u32,
) -> Result<StreamPage, Fault> {
    let archived = cursor(connection, home).await?;
    let rows: Vec<(i64, Option<Vec<u8>>)> = sqlx::query_as(
        "SELECT s.position, r.bytes FROM stream s
         LEFT JOIN records r ON r.partition = s.partition AND r.position = s.position
         WHERE s.usr = $1 AND s.position > $2 ORDER BY s.position LIMIT $3",
    )
    .bind(user.as_str())
    .bind(place("stream", after)?)
    .bind(i64::from(limit))
    .fetch_all(connection)
    .await?;
    let rows = rows.into_iter().map(|(at, bytes)| {
        let bytes = present(bytes, at)?;
        Ok(StreamRowRead { position: position("stream", at)?, bytes: bytes.into() })
    });
    Ok(StreamPage { rows: rows.collect::<Result<_, Fault>>()?, archived })
}

async fn since(connection: &mut PgConnection, user: UserId, point: StreamPoint) -> Result<StreamSince, Fault> {
    let after: i64 = match point {
        StreamPoint::Position(after) => place("stream", after)?,
        StreamPoint::Time(at) => {
            // From the newest down: what is above the point is what is asked for.
            let last: Option<i64> = sqlx::query_scalar(
                "SELECT s.position FROM stream s JOIN records r ON r.partition = s.partition AND r.position = s.position
                 WHERE s.usr = $1 AND r.appended_at < $2 ORDER BY s.position DESC LIMIT 1",
            )
            .bind(user.as_str())
            .bind(time(at))
            .fetch_optional(&mut *connection)
            .await?;
            last.unwrap_or(0)
        }
    };
    let events: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM (SELECT 1 FROM stream WHERE usr = $1 AND position > $2 LIMIT $3) above",
    )
    .bind(user.as_str())
    .bind(after)
    .bind(int("stream", UNREAD_MAX)?)
    .fetch_one(&mut *connection)
    .await?;
    let oldest: Option<i64> = sqlx::query_scalar(
        "SELECT r.appended_at FROM stream s JOIN records r ON r.partition = s.partition AND r.position = s.position
         WHERE s.usr = $1 ORDER BY s.position LIMIT 1",
    )
    .bind(user.as_str())
    .fetch_optional(connection)
    .await?;
    Ok(StreamSince {
        after: position("stream", after)?,
        events: uint("stream", events)?,
        oldest: oldest.map(|at| uint("records", at)).transpose()?,
    })
}

/// The `archived` cursor; 0 if there is none.
pub(super) async fn cursor(connection: &mut PgConnection, partition: TopicPartition) -> Result<Position, Fault> {
    let upto: Option<i64> = sqlx::query_scalar("SELECT upto FROM cursors WHERE partition = $1")
        .bind(partition_code(partition))
        .fetch_optional(connection)
        .await?;
    position("cursors", upto.unwrap_or(0))
}
