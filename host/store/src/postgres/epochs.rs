//! Lives of the log.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use heddle_model::{Position, TopicPartition, UserId};
use sqlx::Executor as _;
use sqlx::postgres::PgConnection;

use super::PostgresStore;
use crate::cell::{epoch_in_range, fixed, int, partition, partition_code, place, position, uint};
use crate::fault::Fault;
use crate::{Epochs, Hole, StoreError};

#[async_trait]
impl Epochs for PostgresStore {
    async fn epoch(
        &self,
        identity: [u8; 16],
        partitions: u32,
        heads: &[(TopicPartition, u64)],
    ) -> Result<u32, StoreError> {
        self.open_epoch(identity, partitions, heads, Archived::Here).await
    }

    async fn newest(&self) -> Result<Option<([u8; 16], u32)>, StoreError> {
        let newest = self.connections.read("newest epoch", |connection| Box::pin(last(connection))).await?;
        Ok(newest.map(|(_, identity, partitions)| (identity, partitions)))
    }

    async fn repartition(
        &self,
        identity: [u8; 16],
        partitions: u32,
        starts: &[(TopicPartition, u64)],
    ) -> Result<Option<u32>, StoreError> {
        self.cut(identity, partitions, starts, Archived::Here).await
    }

    async fn starts(&self, epoch: u32) -> Result<Vec<(TopicPartition, u64)>, StoreError> {
        self.connections.read("epoch starts", move |connection| Box::pin(starts(connection, epoch))).await
    }

    async fn holes(&self) -> Result<Vec<Hole>, StoreError> {
        self.connections.read("holes", |connection| Box::pin(holes(connection))).await
    }

    async fn add_hole(&self, hole: Hole) -> Result<(), StoreError> {
        let write = self
            .connections
            .write("add hole", move |connection| Box::pin(async move { add_hole(connection, &hole).await }));
        write.await
    }

    async fn add_loss(&self, user: &UserId, upto: Position) -> Result<(), StoreError> {
        let user = user.clone();
        self.connections.write("add loss", move |connection| Box::pin(add_loss(connection, user.clone(), upto))).await
    }

    async fn losses(&self, user: &UserId) -> Result<Vec<Position>, StoreError> {
        let user = user.clone();
        self.connections.read("losses", move |connection| Box::pin(losses(connection, user.clone()))).await
    }
}

/// Where the `archived` cursors stand.
#[derive(Debug, Clone)]
pub(super) enum Archived {
    /// Beside the epochs.
    Here,
    /// In other databases, which were asked before: they only grow.
    There(Arc<HashMap<TopicPartition, Position>>),
}

impl Archived {
    async fn upto(&self, connection: &mut PgConnection, partition: TopicPartition) -> Result<Option<Position>, Fault> {
        match self {
            Self::Here => cursor(connection, "cursors", partition).await,
            Self::There(cursors) => Ok(cursors.get(&partition).copied()),
        }
    }
}

impl PostgresStore {
    /// [`Epochs::epoch`], with the cursors wherever they stand.
    pub(super) async fn open_epoch(
        &self,
        identity: [u8; 16],
        partitions: u32,
        heads: &[(TopicPartition, u64)],
        archived: Archived,
    ) -> Result<u32, StoreError> {
        let heads = heads.to_vec();
        let write = self.connections.write("epoch", move |connection| {
            let (heads, archived) = (heads.clone(), archived.clone());
            Box::pin(async move { epoch(connection, identity, partitions, &heads, &archived).await })
        });
        write.await
    }

    /// [`Epochs::repartition`], with the cursors wherever they stand. Those in other databases are not moved.
    pub(super) async fn cut(
        &self,
        identity: [u8; 16],
        partitions: u32,
        starts: &[(TopicPartition, u64)],
        archived: Archived,
    ) -> Result<Option<u32>, StoreError> {
        let starts = starts.to_vec();
        let write = self.connections.write("repartition", move |connection| {
            let (starts, archived) = (starts.clone(), archived.clone());
            Box::pin(async move { repartition(connection, identity, partitions, &starts, &archived).await })
        });
        write.await
    }

    /// Moves cursors to where these partitions begin in an epoch, those that are not beyond.
    pub(super) async fn move_cursors(&self, epoch: u32, starts: Vec<(TopicPartition, u64)>) -> Result<(), StoreError> {
        let write = self.connections.write("move cursors", move |connection| {
            let starts = starts.clone();
            Box::pin(async move {
                for (partition, start) in starts {
                    sqlx::query("UPDATE cursors SET upto = $2 WHERE partition = $1 AND upto < $2")
                        .bind(partition_code(partition))
                        .bind(place("cursors", before(epoch, start))?)
                        .execute(&mut *connection)
                        .await?;
                }
                Ok(())
            })
        });
        write.await
    }
}

/// The last position before a partition goes on.
fn before(epoch: u32, start: u64) -> Position {
    Position(Position::new(epoch, start).0 - 1)
}

async fn epoch(
    connection: &mut PgConnection,
    identity: [u8; 16],
    partitions: u32,
    heads: &[(TopicPartition, u64)],
    archived: &Archived,
) -> Result<u32, Fault> {
    // One node at a time: two that find the same log new must agree.
    connection.execute("LOCK TABLE epochs IN SHARE ROW EXCLUSIVE MODE").await?;
    let known: Option<i64> =
        sqlx::query_scalar("SELECT max(epoch) FROM epochs WHERE identity = $1 AND partitions = $2")
            .bind(identity.as_slice())
            .bind(i64::from(partitions))
            .fetch_one(&mut *connection)
            .await?;
    if let Some(known) = known {
        let known = epoch_in_range(known)?;
        if !lies_below(connection, known, heads, archived).await? {
            return Ok(known);
        }
    }
    let newest: Option<(i64, i64)> = sqlx::query_as("SELECT epoch, partitions FROM epochs ORDER BY epoch DESC LIMIT 1")
        .fetch_optional(&mut *connection)
        .await?;
    let epoch = epoch_in_range(newest.map_or(0, |(newest, _)| newest + 1))?;
    if newest.is_some_and(|(_, of_before)| of_before == i64::from(partitions)) {
        for (partition, _) in heads {
            let after = archived.upto(connection, *partition).await?.unwrap_or(Position::START);
            add_hole(connection, &Hole { partition: *partition, after, upto: before(epoch, 0) }).await?;
        }
    }
    insert(connection, epoch, identity, partitions).await?;
    Ok(epoch)
}

/// The newest epoch, with its log and that log's partitions.
async fn last(connection: &mut PgConnection) -> Result<Option<(u32, [u8; 16], u32)>, Fault> {
    let newest: Option<(i64, Vec<u8>, i64)> =
        sqlx::query_as("SELECT epoch, identity, partitions FROM epochs ORDER BY epoch DESC LIMIT 1")
            .fetch_optional(connection)
            .await?;
    let Some((epoch, identity, partitions)) = newest else { return Ok(None) };
    let partitions =
        u32::try_from(partitions).map_err(|_| Fault::broken("epochs", format!("a log of {partitions} partitions")))?;
    Ok(Some((epoch_in_range(epoch)?, fixed("epochs", &identity)?, partitions)))
}

async fn repartition(
    connection: &mut PgConnection,
    identity: [u8; 16],
    partitions: u32,
    starts: &[(TopicPartition, u64)],
    archived: &Archived,
) -> Result<Option<u32>, Fault> {
    connection.execute("LOCK TABLE epochs IN SHARE ROW EXCLUSIVE MODE").await?;
    let newest = last(connection).await?;
    if let Some((epoch, of, cut)) = newest
        && (of, cut) == (identity, partitions)
    {
        return Ok(Some(epoch));
    }
    let last = newest.map_or(0, |(epoch, ..)| epoch);
    for (partition, start) in starts {
        for upto in
            [archived.upto(connection, *partition).await?, cursor(connection, "derived_cursors", *partition).await?]
        {
            if upto.unwrap_or(Position::START).next_offset(last).is_none_or(|covered| covered < *start) {
                return Ok(None);
            }
        }
    }
    let epoch = epoch_in_range(i64::from(last) + 1)?;
    insert(connection, epoch, identity, partitions).await?;
    for (partition, start) in starts {
        sqlx::query("INSERT INTO epoch_starts (epoch, partition, start) VALUES ($1, $2, $3)")
            .bind(i64::from(epoch))
            .bind(partition_code(*partition))
            .bind(int("epoch_starts", *start)?)
            .execute(&mut *connection)
            .await?;
        let upto = before(epoch, *start);
        for sql in [
            "UPDATE cursors SET upto = $2 WHERE partition = $1",
            "UPDATE derived_cursors SET upto = $2 WHERE partition = $1",
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

async fn insert(connection: &mut PgConnection, epoch: u32, identity: [u8; 16], partitions: u32) -> Result<(), Fault> {
    sqlx::query("INSERT INTO epochs (epoch, identity, partitions) VALUES ($1, $2, $3)")
        .bind(i64::from(epoch))
        .bind(identity.as_slice())
        .bind(i64::from(partitions))
        .execute(connection)
        .await?;
    Ok(())
}

async fn starts(connection: &mut PgConnection, epoch: u32) -> Result<Vec<(TopicPartition, u64)>, Fault> {
    let rows: Vec<(i64, i64)> =
        sqlx::query_as("SELECT partition, start FROM epoch_starts WHERE epoch = $1 ORDER BY partition")
            .bind(i64::from(epoch))
            .fetch_all(connection)
            .await?;
    rows.into_iter().map(|(of, start)| Ok((partition("epoch_starts", of)?, uint("epoch_starts", start)?))).collect()
}

/// Whether a head lies below a stored cursor: the cursor covers a record that the log does not have, or one of a newer epoch.
async fn lies_below(
    connection: &mut PgConnection,
    epoch: u32,
    heads: &[(TopicPartition, u64)],
    archived: &Archived,
) -> Result<bool, Fault> {
    for (partition, head) in heads {
        if let Some(upto) = archived.upto(connection, *partition).await?
            && upto.next_offset(epoch).is_none_or(|covered| covered > *head)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// How far the archive has come, or the workers.
async fn cursor(
    connection: &mut PgConnection,
    table: &'static str,
    partition: TopicPartition,
) -> Result<Option<Position>, Fault> {
    let sql = match table {
        "cursors" => "SELECT upto FROM cursors WHERE partition = $1",
        _ => "SELECT upto FROM derived_cursors WHERE partition = $1",
    };
    let upto: Option<i64> = sqlx::query_scalar(sql).bind(partition_code(partition)).fetch_optional(connection).await?;
    upto.map(|upto| position(table, upto)).transpose()
}

async fn add_hole(connection: &mut PgConnection, hole: &Hole) -> Result<(), Fault> {
    sqlx::query("INSERT INTO holes (partition, after, upto) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING")
        .bind(partition_code(hole.partition))
        .bind(place("holes", hole.after)?)
        .bind(place("holes", hole.upto)?)
        .execute(connection)
        .await?;
    Ok(())
}

async fn holes(connection: &mut PgConnection) -> Result<Vec<Hole>, Fault> {
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

async fn add_loss(connection: &mut PgConnection, user: UserId, upto: Position) -> Result<(), Fault> {
    sqlx::query("INSERT INTO losses (usr, upto) VALUES ($1, $2) ON CONFLICT DO NOTHING")
        .bind(user.as_str())
        .bind(place("losses", upto)?)
        .execute(connection)
        .await?;
    Ok(())
}

async fn losses(connection: &mut PgConnection, user: UserId) -> Result<Vec<Position>, Fault> {
    let rows: Vec<i64> = sqlx::query_scalar("SELECT upto FROM losses WHERE usr = $1 ORDER BY upto")
        .bind(user.as_str())
        .fetch_all(connection)
        .await?;
    rows.into_iter().map(|upto| position("losses", upto)).collect()
}
