//! Lives of the log.

use async_trait::async_trait;
use heddle_model::{Position, TopicPartition, UserId};
use sqlx::sqlite::SqliteConnection;

use super::SqliteStore;
use super::work::{Outcome, Work};
use crate::cell::{epoch_in_range, fixed, int, partition, partition_code, place, position, uint};
use crate::fault::Fault;
use crate::{Epochs, Hole, StoreError};

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

    async fn newest(&self) -> Result<Option<([u8; 16], u32)>, StoreError> {
        let newest = self.reader.read("newest epoch", |connection| Box::pin(last(connection))).await?;
        Ok(newest.map(|(_, identity, partitions)| (identity, partitions)))
    }

    async fn repartition(
        &self,
        identity: [u8; 16],
        partitions: u32,
        starts: &[(TopicPartition, u64)],
    ) -> Result<Option<u32>, StoreError> {
        match self.writer.write(Work::Repartition { identity, partitions, starts: starts.to_vec() }).await? {
            Outcome::Epoch(epoch) => Ok(Some(epoch)),
            _ => Ok(None),
        }
    }

    async fn starts(&self, epoch: u32) -> Result<Vec<(TopicPartition, u64)>, StoreError> {
        self.reader.read("epoch starts", move |connection| Box::pin(starts(connection, epoch))).await
    }

    async fn holes(&self) -> Result<Vec<Hole>, StoreError> {
        self.reader.read("holes", |connection| Box::pin(holes(connection))).await
    }

    async fn add_hole(&self, hole: Hole) -> Result<(), StoreError> {
        self.writer.write(Work::AddHole(hole)).await.map(drop)
    }

    async fn add_loss(&self, user: &UserId, upto: Position) -> Result<(), StoreError> {
        self.writer.write(Work::AddLoss { user: user.clone(), upto }).await.map(drop)
    }

    async fn losses(&self, user: &UserId) -> Result<Vec<Position>, StoreError> {
        let user = user.clone();
        self.reader.read("losses", move |connection| Box::pin(losses(connection, user))).await
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
        let known = epoch_in_range(known)?;
        if !lies_below(connection, known, heads).await? {
            return Ok(known);
        }
    }
    let newest: Option<(i64, i64)> = sqlx::query_as("SELECT epoch, partitions FROM epochs ORDER BY epoch DESC LIMIT 1")
        .fetch_optional(&mut *connection)
        .await?;
    let epoch = epoch_in_range(newest.map_or(0, |(newest, _)| newest + 1))?;
    if newest.is_some_and(|(_, of_before)| of_before == i64::from(partitions)) {
        for (partition, _) in heads {
            let after = cursor(connection, "cursors", *partition).await?.unwrap_or(Position::START);
            add_hole(connection, &Hole { partition: *partition, after, upto: Position(Position::new(epoch, 0).0 - 1) })
                .await?;
        }
    }
    insert(connection, epoch, identity, partitions).await?;
    Ok(epoch)
}

/// The newest epoch, with its log and that log's partitions.
async fn last(connection: &mut SqliteConnection) -> Result<Option<(u32, [u8; 16], u32)>, Fault> {
    let newest: Option<(i64, Vec<u8>, i64)> =
        sqlx::query_as("SELECT epoch, identity, partitions FROM epochs ORDER BY epoch DESC LIMIT 1")
            .fetch_optional(connection)
            .await?;
    let Some((epoch, identity, partitions)) = newest else { return Ok(None) };
    let partitions =
        u32::try_from(partitions).map_err(|_| Fault::broken("epochs", format!("a log of {partitions} partitions")))?;
    Ok(Some((epoch_in_range(epoch)?, fixed("epochs", &identity)?, partitions)))
}

pub(super) async fn repartition(
    connection: &mut SqliteConnection,
    identity: [u8; 16],
    partitions: u32,
    starts: &[(TopicPartition, u64)],
) -> Result<Option<u32>, Fault> {
    let newest = last(connection).await?;
    if let Some((epoch, of, cut)) = newest
        && (of, cut) == (identity, partitions)
    {
        return Ok(Some(epoch));
    }
    let before = newest.map_or(0, |(epoch, ..)| epoch);
    for (partition, start) in starts {
        for table in ["cursors", "derived_cursors"] {
            let upto = cursor(connection, table, *partition).await?.unwrap_or(Position::START);
            if upto.next_offset(before).is_none_or(|covered| covered < *start) {
                return Ok(None);
            }
        }
    }
    let epoch = epoch_in_range(i64::from(before) + 1)?;
    insert(connection, epoch, identity, partitions).await?;
    for (partition, start) in starts {
        sqlx::query("INSERT INTO epoch_starts (epoch, partition, start) VALUES (?1, ?2, ?3)")
            .bind(i64::from(epoch))
            .bind(partition_code(*partition))
            .bind(int("epoch_starts", *start)?)
            .execute(&mut *connection)
            .await?;
        let upto = Position(Position::new(epoch, *start).0 - 1);
        for sql in [
            "UPDATE cursors SET upto = ?2 WHERE partition = ?1",
            "UPDATE derived_cursors SET upto = ?2 WHERE partition = ?1",
        ] {
            sqlx::query(sql)
                .bind(partition_code(*partition))
                .bind(place("cursors", upto)?)
                .execute(&mut *connection)
                .await?;
        }
    }
    Ok(Some(epoch))
}

async fn insert(
    connection: &mut SqliteConnection,
    epoch: u32,
    identity: [u8; 16],
    partitions: u32,
) -> Result<(), Fault> {
    sqlx::query("INSERT INTO epochs (epoch, identity, partitions) VALUES (?1, ?2, ?3)")
        .bind(i64::from(epoch))
        .bind(identity.as_slice())
        .bind(i64::from(partitions))
        .execute(connection)
        .await?;
    Ok(())
}

async fn starts(connection: &mut SqliteConnection, epoch: u32) -> Result<Vec<(TopicPartition, u64)>, Fault> {
    let rows: Vec<(i64, i64)> =
        sqlx::query_as("SELECT partition, start FROM epoch_starts WHERE epoch = ?1 ORDER BY partition")
            .bind(i64::from(epoch))
            .fetch_all(connection)
            .await?;
    rows.into_iter().map(|(of, start)| Ok((partition("epoch_starts", of)?, uint("epoch_starts", start)?))).collect()
}

/// Whether a head lies below a stored cursor: the cursor covers a record that the log does not have, or one of a newer epoch.
async fn lies_below(
    connection: &mut SqliteConnection,
    epoch: u32,
    heads: &[(TopicPartition, u64)],
) -> Result<bool, Fault> {
    for (partition, head) in heads {
        if let Some(upto) = cursor(connection, "cursors", *partition).await?
            && upto.next_offset(epoch).is_none_or(|covered| covered > *head)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// How far the archive has come, or the workers.
async fn cursor(
    connection: &mut SqliteConnection,
    table: &'static str,
    partition: TopicPartition,
) -> Result<Option<Position>, Fault> {
    let sql = match table {
        "cursors" => "SELECT upto FROM cursors WHERE partition = ?1",
        _ => "SELECT upto FROM derived_cursors WHERE partition = ?1",
    };
    let upto: Option<i64> = sqlx::query_scalar(sql).bind(partition_code(partition)).fetch_optional(connection).await?;
    upto.map(|upto| position(table, upto)).transpose()
}

pub(super) async fn add_hole(connection: &mut SqliteConnection, hole: &Hole) -> Result<(), Fault> {
    sqlx::query("INSERT OR IGNORE INTO holes (partition, after, upto) VALUES (?1, ?2, ?3)")
        .bind(partition_code(hole.partition))
        .bind(place("holes", hole.after)?)
        .bind(place("holes", hole.upto)?)
        .execute(connection)
        .await?;
    Ok(())
}

async fn holes(connection: &mut SqliteConnection) -> Result<Vec<Hole>, Fault> {
    let rows: Vec<(i64, i64, i64)> =
        sqlx::query_as("SELECT partition, after, upto FROM holes ORDER BY upto").fetch_all(connection).await?;
    rows.into_iter()
        .map(|(of, after, upto)| {
            Ok(Hole {
                partition: partition("holes", of)?,
                after: position("holes", after)?,
                upto: position("holes", upto)?,
            })
        })
        .collect()
}

pub(super) async fn add_loss(connection: &mut SqliteConnection, user: &UserId, upto: Position) -> Result<(), Fault> {
    sqlx::query("INSERT OR IGNORE INTO losses (user, upto) VALUES (?1, ?2)")
        .bind(user.as_str())
        .bind(place("losses", upto)?)
        .execute(connection)
        .await?;
    Ok(())
}

async fn losses(connection: &mut SqliteConnection, user: UserId) -> Result<Vec<Position>, Fault> {
    let rows: Vec<i64> = sqlx::query_scalar("SELECT upto FROM losses WHERE user = ?1 ORDER BY upto")
        .bind(user.as_str())
        .fetch_all(connection)
        .await?;
    rows.into_iter().map(|upto| position("losses", upto)).collect()
}
