//! Devices and reads.

use std::collections::BTreeSet;

use async_trait::async_trait;
use heddle_model::{Conversation, DeviceId, Position, UserId};
use sqlx::sqlite::SqliteConnection;

use super::SqliteStore;
use super::rows::{Cell, Rows, texts};
use super::work::{Outcome, Work};
use crate::cell::{conversation, id, int, place, position, time};
use crate::fault::Fault;
use crate::row::{DeviceColumns, device};
use crate::{DeviceRow, Devices, StoreError};

#[async_trait]
impl Devices for SqliteStore {
    async fn devices(&self, user: &UserId) -> Result<Vec<DeviceRow>, StoreError> {
        let user = user.clone();
        self.reader.read("devices", move |connection| Box::pin(devices(connection, user))).await
    }

    async fn save_devices(&self, rows: Vec<(UserId, DeviceRow)>, per_user_max: u32) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        self.writer.write(Work::SaveDevices { rows, per_user_max }).await.map(drop)
    }

    async fn reset_device(&self, user: &UserId, row: DeviceRow, per_user_max: u32) -> Result<(), StoreError> {
        self.writer.write(Work::ResetDevice { user: user.clone(), row, per_user_max }).await.map(drop)
    }

    async fn replay_devices(
        &self,
        user: &UserId,
        device: Option<&DeviceId>,
        to: Position,
    ) -> Result<Vec<DeviceId>, StoreError> {
        let work = Work::ReplayDevices { user: user.clone(), device: device.cloned(), to };
        match self.writer.write(work).await? {
            Outcome::Devices(devices) => Ok(devices),
            other => Err(StoreError::Broken { table: "devices", reason: format!("the writer answered {other:?}") }),
        }
    }

    async fn save_read(&self, user: &UserId, conversation: &Conversation, order: Position) -> Result<(), StoreError> {
        let work = Work::SaveRead { user: user.clone(), conversation: conversation.clone(), order };
        self.writer.write(work).await.map(drop)
    }

    async fn reads(&self, user: &UserId) -> Result<Vec<(Conversation, Position)>, StoreError> {
        let user = user.clone();
        self.reader.read("reads", move |connection| Box::pin(async move { reads(connection, &user).await })).await
    }
}

async fn devices(connection: &mut SqliteConnection, user: UserId) -> Result<Vec<DeviceRow>, Fault> {
    let rows: Vec<DeviceColumns> = sqlx::query_as(
        "SELECT device, position, seen_at, replay, turn FROM devices WHERE user = ?1 ORDER BY seen_at DESC, device DESC",
    )
    .bind(user.as_str())
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(device).collect()
}

/// How far the user has read each conversation.
pub(super) async fn reads(
    connection: &mut SqliteConnection,
    user: &UserId,
) -> Result<Vec<(Conversation, Position)>, Fault> {
    let rows: Vec<(String, i64)> =
        sqlx::query_as("SELECT conversation, ord FROM reads WHERE user = ?1 ORDER BY conversation")
            .bind(user.as_str())
            .fetch_all(connection)
            .await?;
    rows.iter().map(|(name, order)| Ok((conversation("reads", name)?, position("reads", *order)?))).collect()
}

pub(super) async fn save(
    connection: &mut SqliteConnection,
    rows: &[(UserId, DeviceRow)],
    per_user_max: u32,
) -> Result<(), Fault> {
    let mut columns = Rows::default();
    for (user, row) in rows {
        let at = Cell::Int(place("devices", row.position)?);
        let (seen_at, turn) = (Cell::Int(time(row.seen_at)), Cell::Int(int("devices", row.turn)?));
        columns.push(&[Cell::Text(user.as_str()), Cell::Text(row.device.as_str()), at, seen_at, turn]);
    }
    let Some(json) = columns.finish() else { return Ok(()) };
    sqlx::query(
        "INSERT INTO devices (user, device, position, seen_at, turn)
         SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4 FROM json_each(?1) WHERE true
         ON CONFLICT (user, device) DO UPDATE
         SET position = CASE WHEN excluded.turn = turn THEN max(position, excluded.position) ELSE position END,
             replay = CASE WHEN excluded.turn = turn AND excluded.position > replay THEN NULL ELSE replay END,
             seen_at = max(seen_at, excluded.seen_at)
         WHERE excluded.turn = turn AND excluded.position > min(position, coalesce(replay, position))
            OR excluded.seen_at > seen_at",
    )
    .bind(json)
    .execute(&mut *connection)
    .await?;
    let users: BTreeSet<&str> = rows.iter().map(|(user, _)| user.as_str()).collect();
    forget(connection, users, per_user_max).await
}

pub(super) async fn reset(
    connection: &mut SqliteConnection,
    user: &UserId,
    row: &DeviceRow,
    per_user_max: u32,
) -> Result<(), Fault> {
    sqlx::query(
        "INSERT INTO devices (user, device, position, seen_at, turn) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (user, device) DO UPDATE SET position = excluded.position, seen_at = max(seen_at, excluded.seen_at)
         WHERE excluded.turn = turn",
    )
    .bind(user.as_str())
    .bind(row.device.as_str())
    .bind(place("devices", row.position)?)
    .bind(time(row.seen_at))
    .bind(int("devices", row.turn)?)
    .execute(&mut *connection)
    .await?;
    forget(connection, BTreeSet::from([user.as_str()]), per_user_max).await
}

pub(super) async fn replay(
    connection: &mut SqliteConnection,
    user: &UserId,
    device: Option<&DeviceId>,
    to: Position,
) -> Result<Vec<DeviceId>, Fault> {
    let devices: Vec<String> = sqlx::query_scalar(
        "UPDATE devices SET replay = ?2, turn = turn + 1 WHERE user = ?1 AND (?3 IS NULL OR device = ?3)
         RETURNING device",
    )
    .bind(user.as_str())
    .bind(place("devices", to)?)
    .bind(device.map(DeviceId::as_str))
    .fetch_all(connection)
    .await?;
    devices.iter().map(|device| id("devices", DeviceId::new(device))).collect()
}

/// Keeps the most recently seen of each of these users.
async fn forget(connection: &mut SqliteConnection, users: BTreeSet<&str>, per_user_max: u32) -> Result<(), Fault> {
    sqlx::query(
        "DELETE FROM devices WHERE (user, device) IN (
             SELECT user, device FROM (
                 SELECT d.user, d.device,
                        row_number() OVER (PARTITION BY d.user ORDER BY d.seen_at DESC, d.device DESC) AS place
                 FROM json_each(?1) j CROSS JOIN devices d ON d.user = j.value
             ) WHERE place > ?2)",
    )
    .bind(texts(users.into_iter()))
    .bind(per_user_max)
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn save_read(
    connection: &mut SqliteConnection,
    user: &UserId,
    conversation: &Conversation,
    order: Position,
) -> Result<(), Fault> {
    sqlx::query(
        "INSERT INTO reads (user, conversation, ord) VALUES (?1, ?2, ?3)
         ON CONFLICT (user, conversation) DO UPDATE SET ord = excluded.ord WHERE excluded.ord > ord",
    )
    .bind(user.as_str())
    .bind(conversation.to_string())
    .bind(place("reads", order)?)
    .execute(connection)
    .await?;
    Ok(())
}
