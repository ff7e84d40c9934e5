//! A batch of the archiver, cut by database.

use std::collections::BTreeMap;
use std::sync::Arc;

use heddle_model::Position;

use super::PostgresShards;
use crate::postgres::columns::{Heads, Prepared, count_rows};
use crate::postgres::fault::of;
use crate::{ArchiveBatch, GroupLogRow, StoreError};

/// A batch, cut and laid out.
pub(super) struct Parts {
    main: Arc<Prepared>,
    /// Of each shard, if it has any.
    pub(super) shards: Vec<Option<Arc<Prepared>>>,
}

impl PostgresShards {
    /// Writes what belongs in the main database, then every shard's part: those that answer have it, whatever the others do.
    pub(super) async fn write_batch(&self, batch: ArchiveBatch) -> Result<(), StoreError> {
        count_rows(&batch);
        let parts = self.prepare(batch)?;
        self.write_main(&parts).await?;
        self.write_shards(&parts).await?;
        metrics::counter!("heddle_store_batches_total").increment(1);
        Ok(())
    }

    /// Lays out all of it before any is written: what cannot be written leaves nothing.
    pub(super) fn prepare(&self, batch: ArchiveBatch) -> Result<Parts, StoreError> {
        let prepared = |batch| Prepared::new(batch).map_err(|fault| of(fault, "archive"));
        let (main, parts) = self.split(batch);
        let mut main = prepared(main)?;
        let mut shards = Vec::with_capacity(parts.len());
        for part in parts {
            if part == ArchiveBatch::default() {
                shards.push(None);
                continue;
            }
            // The main database has the newest messages of groups.
            let part = Prepared { heads: Heads::default(), ..prepared(part)? };
            main.elsewhere.extend(part.cursors.iter().map(|(code, upto, _)| (*code, epoch(*upto))));
            shards.push(Some(Arc::new(part)));
        }
        Ok(Parts { main: Arc::new(main), shards })
    }

    pub(super) async fn write_main(&self, parts: &Parts) -> Result<(), StoreError> {
        if parts.main.has_any() { self.main.write_prepared(&parts.main).await } else { Ok(()) }
    }

    pub(super) async fn write_shards(&self, parts: &Parts) -> Result<(), StoreError> {
        let written = self.all(|nth, shard| {
            let part = parts.shards.get(nth).cloned().flatten();
            async move {
                match part {
                    Some(part) => shard.write_prepared(&part).await,
                    None => Ok(()),
                }
            }
        });
        written.await.map(drop)
    }

    /// What belongs in the main database, and in each shard.
    fn split(&self, batch: ArchiveBatch) -> (ArchiveBatch, Vec<ArchiveBatch>) {
        let ArchiveBatch { records, stream, receipts, groups, group_log, users, dead, cursors } = batch;
        let main = ArchiveBatch { groups, users, group_log: heads(&group_log), ..ArchiveBatch::default() };
        let mut parts = vec![ArchiveBatch::default(); self.shards.len()];
        for record in records {
            parts[self.of(record.partition)].records.push(record);
        }
        for row in stream {
            parts[self.of_user(&row.user)].stream.push(row);
        }
        for row in receipts {
            parts[self.of_user(&row.sender)].receipts.push(row);
        }
        for row in group_log.into_iter().filter(|row| row.pulled && !row.discarded) {
            parts[self.of(row.partition)].group_log.push(row);
        }
        for letter in dead {
            parts[self.of(letter.partition)].dead.push(letter);
        }
        for cursor in cursors {
            parts[self.of(cursor.partition)].cursors.push(cursor);
        }
        (main, parts)
    }
}

/// The epoch of a cursor as it is stored.
fn epoch(upto: i64) -> i64 {
    i64::from(Position(upto.unsigned_abs()).epoch())
}

/// The newest message of each group: all that the main database has of them.
fn heads(rows: &[GroupLogRow]) -> Vec<GroupLogRow> {
    let mut heads = BTreeMap::new();
    for row in rows.iter().filter(|row| !row.discarded) {
        let head = heads.entry(&row.group).or_insert(row);
        if row.order > head.order {
            *head = row;
        }
    }
    heads.into_values().map(|row| GroupLogRow { pulled: false, only: None, ..row.clone() }).collect()
}
