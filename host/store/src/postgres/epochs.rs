//! Lives of the log.

use async_trait::async_trait;
use heddle_model::{Position, TopicPartition, UserId};
use sqlx::Executor as _;
use sqlx::postgres::PgConnection;

use super::PostgresStore;
use crate::cell::{epoch_in_range, partition, partition_code, place, position};
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
        let heads = heads.to_vec();
        let write = self.connections.write("epoch", move |connection| {
            let heads = heads.clone();
            Box::pin(async move { epoch(connection, identity, partitions, &heads).await })
        });
        write.await
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

async fn epoch(
    connection: &mut PgConnection,
    identity: [u8; 16],
    partitions: u32,
    heads: &[(TopicPartition, u64)],
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
            let after = cursor(connection, *partition).await?.unwrap_or(Position::START);
            add_hole(connection, &Hole { partition: *partition, after, upto: Position(Position::new(epoch, 0).0 - 1) })
                .await?;
        }
    }
    sqlx::query("INSERT INTO epochs (epoch, identity, partitions) VALUES ($1, $2, $3)")
        .bind(i64::from(epoch))
        .bind(identity.as_slice())
        .bind(i64::from(partitions))
        .execute(&mut *connection)
        .await?;
    Ok(epoch)
}

/// Whether a head lies below a stored cursor: the cursor covers a record that the log does not have, or one of a newer epoch.
async fn lies_below(connection: &mut PgConnection, epoch: u32, heads: &[(TopicPartition, u64)]) -> Result<bool, Fault> {
    for (partition, head) in heads {
        if let Some(upto) = cursor(connection, *partition).await?
            && upto.next_offset(epoch).is_none_or(|covered| covered > *head)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// How far the archive has come.
async fn cursor(connection: &mut PgConnection, partition: TopicPartition) -> Result<Option<Position>, Fault> {
    let upto: Option<i64> = sqlx::query_scalar("SELECT upto FROM cursors WHERE partition = $1")
        .bind(partition_code(partition))
        .fetch_optional(connection)
        .await?;
    upto.map(|upto| position("cursors", upto)).transpose()
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
