//! Lives of the log.

use async_trait::async_trait;
use heddle_model::TopicPartition;
use sqlx::sqlite::SqliteConnection;

use super::SqliteStore;
use super::cell::{partition_code, position};
use super::fault::Fault;
use super::work::{Outcome, Work};
use crate::{Epochs, StoreError};

/// Positions have 10 bits for it.
const EPOCH_MAX: i64 = 1023;

#[async_trait]
impl Epochs for SqliteStore {
    async fn epoch(
        &self,
        identity: [u8; 16],
        partitions: u32,
        heads: &[(TopicPartition, u64)],
    ) -> Result<u32, StoreError> {
        match self.writer.write(Work::Epoch { identity, partitions, heads: heads.to_vec() }).await? {
            Outcome::Epoch(epoch) => Ok(epoch),
            other => Err(StoreError::Broken { table: "epochs", reason: format!("the writer answered {other:?}") }),
        }
    }
}

pub(super) async fn epoch(
    connection: &mut SqliteConnection,
    identity: [u8; 16],
    partitions: u32,
    heads: &[(TopicPartition, u64)],
) -> Result<u32, Fault> {
    let known: Option<i64> =
        sqlx::query_scalar("SELECT max(epoch) FROM epochs WHERE identity = ?1 AND partitions = ?2")
            .bind(identity.as_slice())
            .bind(i64::from(partitions))
            .fetch_one(&mut *connection)
            .await?;
    if let Some(known) = known {
        let known = in_range(known)?;
        if !lies_below(connection, known, heads).await? {
            return Ok(known);
        }
    }
    let newest: Option<i64> = sqlx::query_scalar("SELECT max(epoch) FROM epochs").fetch_one(&mut *connection).await?;
    let epoch = in_range(newest.map_or(0, |newest| newest + 1))?;
    sqlx::query("INSERT INTO epochs (epoch, identity, partitions) VALUES (?1, ?2, ?3)")
        .bind(i64::from(epoch))
        .bind(identity.as_slice())
        .bind(i64::from(partitions))
        .execute(&mut *connection)
        .await?;
    Ok(epoch)
}

/// Whether a head lies below a stored cursor: the cursor covers a record that the log does not have, or one of a newer epoch.
async fn lies_below(
    connection: &mut SqliteConnection,
    epoch: u32,
    heads: &[(TopicPartition, u64)],
) -> Result<bool, Fault> {
    for (partition, head) in heads {
        let upto: Option<i64> = sqlx::query_scalar("SELECT upto FROM cursors WHERE partition = ?1")
            .bind(partition_code(*partition))
            .fetch_optional(&mut *connection)
            .await?;
        if let Some(upto) = upto
            && position("cursors", upto)?.next_offset(epoch).is_none_or(|covered| covered > *head)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

fn in_range(epoch: i64) -> Result<u32, Fault> {
    if !(0..=EPOCH_MAX).contains(&epoch) {
        return Err(Fault::broken("epochs", format!("epoch {epoch} is beyond {EPOCH_MAX}")));
    }
    Ok(epoch as u32)
}
