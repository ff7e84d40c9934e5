//! Devices and reads.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use heddle_model::{Conversation, DeviceId, Position, UserId};
use sqlx::postgres::PgConnection;

use super::PostgresStore;
use super::fault::of;
use crate::cell::{conversation, id, int, place, position, time};
use crate::fault::Fault;
use crate::row::{DeviceColumns, device};
use crate::{DeviceRow, Devices, StoreError};

#[async_trait]
impl Devices for PostgresStore {
    async fn devices(&self, user: &UserId) -> Result<Vec<DeviceRow>, StoreError> {
        let user = user.clone();
        self.connections.read("devices", move |connection| Box::pin(devices(connection, user.clone()))).await
    }

    async fn save_devices(&self, rows: Vec<(UserId, DeviceRow)>, per_user_max: u32) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let columns = Arc::new(columns(&rows).map_err(|fault| of(fault, "save devices"))?);
        let write = self.connections.write("save devices", move |connection| {
            let columns = Arc::clone(&columns);
            Box::pin(async move { save(connection, &columns, per_user_max).await })
        });
        write.await
    }

    async fn reset_device(&self, user: &UserId, row: DeviceRow, per_user_max: u32) -> Result<(), StoreError> {
        let user = user.clone();
        let write = self.connections.write("reset device", move |connection| {
            Box::pin(reset(connection, user.clone(), row.clone(), per_user_max))
        });
        write.await
    }

    async fn replay_devices(
        &self,
        user: &UserId,
        device: Option<&DeviceId>,
        to: Position,
    ) -> Result<Vec<DeviceId>, StoreError> {
        let (user, device) = (user.clone(), device.cloned());
        let write = self
            .connections
            .write("replay devices", move |connection| Box::pin(replay(connection, user.clone(), device.clone(), to)));
        write.await
    }

    async fn save_read(&self, user: &UserId, conversation: &Conversation, order: Position) -> Result<(), StoreError> {
        let (user, name) = (user.clone(), conversation.to_string());
        let write = self
            .connections
            .write("save read", move |connection| Box::pin(save_read(connection, user.clone(), name.clone(), order)));
        write.await
    }

    async fn reads(&self, user: &UserId) -> Result<Vec<(Conversation, Position)>, StoreError> {
        let user = user.clone();
        let read = self.connections.read("reads", move |connection| {
            let user = user.clone();
            Box::pin(async move { reads(connection, &user).await })
        });
        read.await
    }
}

async fn devices(connection: &mut PgConnection, user: UserId) -> Result<Vec<DeviceRow>, Fault> {
    let rows: Vec<DeviceColumns> = sqlx::query_as(
        "SELECT device, position, seen_at, replay, turn FROM devices WHERE usr = $1 ORDER BY seen_at DESC, device DESC",
    )
    .bind(user.as_str())
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(device).collect()
}

/// How far the user has read each conversation.
pub(super) async fn reads(
    connection: &mut PgConnection,
    user: &UserId,
) -> Result<Vec<(Conversation, Position)>, Fault> {
    let rows: Vec<(String, i64)> =
        sqlx::query_as("SELECT conversation, ord FROM reads WHERE usr = $1 ORDER BY conversation")
            .bind(user.as_str())
            .fetch_all(connection)
            .await?;
    rows.iter().map(|(name, order)| Ok((conversation("reads", name)?, position("reads", *order)?))).collect()
}

/// Rows as columns, in the order of the key: user, device, position, seen, turn.
#[derive(Debug, Default)]
struct Columns {
    user: Vec<String>,
    device: Vec<String>,
    position: Vec<i64>,
    seen_at: Vec<i64>,
    turn: Vec<i64>,
}

/// Turn and position; when it was seen.
type Newest = ((i64, i64), i64);

/// Each device once: its last turn, in that the larger position; the later time.
fn columns(rows: &[(UserId, DeviceRow)]) -> Result<Columns, Fault> {
    let mut newest: BTreeMap<(&str, &str), Newest> = BTreeMap::new();
    for (user, row) in rows {
        let at = (int("devices", row.turn)?, place("devices", row.position)?);
        let seen_at = time(row.seen_at);
        let kept = newest.entry((user.as_str(), row.device.as_str())).or_insert((at, seen_at));
        *kept = (kept.0.max(at), kept.1.max(seen_at));
    }
    let mut columns = Columns::default();
    for ((user, device), ((turn, at), seen_at)) in newest {
        columns.user.push(user.to_owned());
        columns.device.push(device.to_owned());
        columns.position.push(at);
        columns.seen_at.push(seen_at);
        columns.turn.push(turn);
    }
    Ok(columns)
}

async fn save(connection: &mut PgConnection, columns: &Columns, per_user_max: u32) -> Result<(), Fault> {
    sqlx::query(
        "INSERT INTO devices AS d (usr, device, position, seen_at, turn)
         SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[])
         ON CONFLICT (usr, device) DO UPDATE
         SET position = CASE WHEN excluded.turn = d.turn THEN greatest(d.position, excluded.position) ELSE d.position END,
             replay = CASE WHEN excluded.turn = d.turn AND excluded.position > d.replay THEN NULL ELSE d.replay END,
             seen_at = greatest(d.seen_at, excluded.seen_at)
         WHERE excluded.turn = d.turn AND excluded.position > least(d.position, d.replay) OR excluded.seen_at > d.seen_at",
    )
    .bind(&columns.user)
    .bind(&columns.device)
    .bind(&columns.position)
    .bind(&columns.seen_at)
    .bind(&columns.turn)
    .execute(&mut *connection)
    .await?;
    let mut users = columns.user.clone();
    users.dedup();
    forget(connection, users, per_user_max).await
}

async fn reset(connection: &mut PgConnection, user: UserId, row: DeviceRow, per_user_max: u32) -> Result<(), Fault> {
    sqlx::query(
        "INSERT INTO devices AS d (usr, device, position, seen_at, turn) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (usr, device) DO UPDATE
         SET position = excluded.position, seen_at = greatest(d.seen_at, excluded.seen_at)
         WHERE excluded.turn = d.turn",
    )
    .bind(user.as_str())
    .bind(row.device.as_str())
    .bind(place("devices", row.position)?)
    .bind(time(row.seen_at))
    .bind(int("devices", row.turn)?)
    .execute(&mut *connection)
    .await?;
    forget(connection, vec![user.as_str().to_owned()], per_user_max).await
}

async fn replay(
    connection: &mut PgConnection,
    user: UserId,
    device: Option<DeviceId>,
    to: Position,
) -> Result<Vec<DeviceId>, Fault> {
    let devices: Vec<String> = sqlx::query_scalar(
        "UPDATE devices SET replay = $2, turn = turn + 1 WHERE usr = $1 AND ($3::text IS NULL OR device = $3)
         RETURNING device",
    )
    .bind(user.as_str())
    .bind(place("devices", to)?)
    .bind(device.as_ref().map(DeviceId::as_str))
    .fetch_all(connection)
    .await?;
    devices.iter().map(|device| id("devices", DeviceId::new(device))).collect()
}

/// Keeps the most recently seen of each of these users.
async fn forget(connection: &mut PgConnection, users: Vec<String>, per_user_max: u32) -> Result<(), Fault> {
    sqlx::query(
        "DELETE FROM devices d USING (
             SELECT o.usr, o.device, row_number() OVER (PARTITION BY o.usr ORDER BY o.seen_at DESC, o.device DESC) AS nth
             FROM devices o WHERE o.usr = ANY ($1)) old
         WHERE d.usr = old.usr AND d.device = old.device AND old.nth > $2",
    )
    .bind(users)
    .bind(i64::from(per_user_max))
    .execute(connection)
    .await?;
    Ok(())
}

async fn save_read(connection: &mut PgConnection, user: UserId, name: String, order: Position) -> Result<(), Fault> {
    sqlx::query(
        "INSERT INTO reads AS r (usr, conversation, ord) VALUES ($1, $2, $3)
         ON CONFLICT (usr, conversation) DO UPDATE SET ord = excluded.ord WHERE excluded.ord > r.ord",
    )
    .bind(user.as_str())
    .bind(name)
    .bind(place("reads", order)?)
    .execute(connection)
    .await?;
    Ok(())
}
