//! Blocks and revocations.

use async_trait::async_trait;
use heddle_model::{Millis, UserId};
use sqlx::sqlite::SqliteConnection;

use super::SqliteStore;
use super::catalog::add_audit;
use super::rows::texts;
use super::work::Work;
use crate::cell::{int, time, uint, user as user_of};
use crate::fault::Fault;
use crate::row::{DenialColumns, RevocationColumns, denial, revocation as revocation_of};
use crate::{AuditEntry, DENIAL_FORGOTTEN_MS, DenialRows, Denials, Noted, Revocation, StoreError};

#[async_trait]
impl DenialRows for SqliteStore {
    async fn set_block(
        &self,
        user: &UserId,
        other: &UserId,
        holds: bool,
        at: Millis,
        max: u32,
    ) -> Result<Noted, StoreError> {
        let work = Work::SetBlock { user: user.clone(), other: other.clone(), holds, at, max };
        Ok(self.writer.write(work).await?.noted())
    }

    async fn blocks(&self, user: &UserId) -> Result<Vec<UserId>, StoreError> {
        let user = user.clone();
        let read = self.reader.read("blocks", |connection| {
            Box::pin(async move {
                let rows: Vec<String> =
                    sqlx::query_scalar("SELECT other FROM blocks WHERE user = ?1 AND holds = 1 ORDER BY other")
                        .bind(user.as_str())
                        .fetch_all(connection)
                        .await?;
                rows.iter().map(|row| user_of("blocks", row)).collect()
            })
        });
        read.await
    }

    async fn blocks_between(&self, user: &UserId, others: &[UserId]) -> Result<Vec<(bool, bool)>, StoreError> {
        let (user, others) = (user.clone(), texts(others.iter().map(UserId::as_str)));
        let read = self.reader.read("blocks between", |connection| {
            Box::pin(async move {
                Ok(sqlx::query_as(
                    "SELECT EXISTS (SELECT 1 FROM blocks b WHERE b.user = ?1 AND b.other = j.value AND b.holds = 1),
                            EXISTS (SELECT 1 FROM blocks b WHERE b.user = j.value AND b.other = ?1 AND b.holds = 1)
                     FROM json_each(?2) j ORDER BY j.key",
                )
                .bind(user.as_str())
                .bind(others)
                .fetch_all(connection)
                .await?)
            })
        });
        read.await
    }

    async fn revoke(&self, revocation: Revocation, audit: AuditEntry, max: u32) -> Result<Noted, StoreError> {
        Ok(self.writer.write(Work::Revoke { revocation, audit, max }).await?.noted())
    }

    async fn restore(&self, user: &UserId, audit: AuditEntry) -> Result<bool, StoreError> {
        Ok(self.writer.write(Work::Restore { user: user.clone(), audit }).await?.changed())
    }

    async fn revocation(&self, user: &UserId) -> Result<Option<Revocation>, StoreError> {
        let user = user.clone();
        let read = self.reader.read("revocation", |connection| {
            Box::pin(async move {
                let row: Option<RevocationColumns> =
                    sqlx::query_as("SELECT user, upto, at, who, why FROM revocations WHERE user = ?1 AND holds = 1")
                        .bind(user.as_str())
                        .fetch_optional(connection)
                        .await?;
                row.map(revocation_of).transpose()
            })
        });
        read.await
    }

    async fn denials_since(&self, version: u64, limit: u32) -> Result<Denials, StoreError> {
        self.reader.read("denials", move |connection| Box::pin(since(connection, version, limit))).await
    }
}

async fn since(connection: &mut SqliteConnection, version: u64, limit: u32) -> Result<Denials, Fault> {
    let (newest, forgotten): (i64, i64) =
        sqlx::query_as("SELECT version, forgotten FROM denial_version").fetch_one(&mut *connection).await?;
    let (newest, forgotten) = (uint("denial_version", newest)?, uint("denial_version", forgotten)?);
    if newest <= version {
        return Ok(Denials { changes: Vec::new(), version: newest, forgotten });
    }
    let rows: Vec<DenialColumns> = sqlx::query_as(
        "SELECT version, user, other, holds, NULL FROM blocks WHERE version > ?1
         UNION ALL SELECT version, user, NULL, holds, upto FROM revocations WHERE version > ?1
         ORDER BY 1 LIMIT ?2",
    )
    .bind(int("denial_version", version)?)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    let changes = rows.into_iter().map(denial).collect::<Result<_, _>>()?;
    Ok(Denials { changes, version: newest, forgotten })
}

/// The number of the change that is being made. What was over long ago is forgotten with it.
async fn next_version(connection: &mut SqliteConnection, at: Millis) -> Result<i64, Fault> {
    let old = time(at.saturating_sub(DENIAL_FORGOTTEN_MS));
    let mut forgotten: i64 = 0;
    for table in [
        "DELETE FROM blocks WHERE holds = 0 AND at < ?1 RETURNING version",
        "DELETE FROM revocations WHERE holds = 0 AND at < ?1 RETURNING version",
    ] {
        let gone: Vec<i64> = sqlx::query_scalar(table).bind(old).fetch_all(&mut *connection).await?;
        forgotten = gone.into_iter().max().unwrap_or(0).max(forgotten);
    }
    Ok(sqlx::query_scalar(
        "UPDATE denial_version SET version = version + 1, forgotten = max(forgotten, ?1) RETURNING version",
    )
    .bind(forgotten)
    .fetch_one(connection)
    .await?)
}

pub(super) async fn set_block(
    connection: &mut SqliteConnection,
    user: &UserId,
    other: &UserId,
    holds: bool,
    at: Millis,
    max: u32,
) -> Result<Noted, Fault> {
    let held: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM blocks WHERE user = ?1 AND other = ?2 AND holds = 1)")
            .bind(user.as_str())
            .bind(other.as_str())
            .fetch_one(&mut *connection)
            .await?;
    if held == holds {
        return Ok(Noted::Unchanged);
    }
    if holds {
        let has: i64 = sqlx::query_scalar("SELECT count(*) FROM blocks WHERE user = ?1 AND holds = 1")
            .bind(user.as_str())
            .fetch_one(&mut *connection)
            .await?;
        if has >= i64::from(max) {
            return Ok(Noted::Full);
        }
    }
    let version = next_version(connection, at).await?;
    sqlx::query(
        "INSERT INTO blocks (user, other, holds, at, version) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (user, other) DO UPDATE SET holds = excluded.holds, at = excluded.at, version = excluded.version",
    )
    .bind(user.as_str())
    .bind(other.as_str())
    .bind(holds)
    .bind(time(at))
    .bind(version)
    .execute(connection)
    .await?;
    Ok(Noted::Changed)
}

pub(super) async fn revoke(
    connection: &mut SqliteConnection,
    revocation: &Revocation,
    audit: &AuditEntry,
    max: u32,
) -> Result<Noted, Fault> {
    let others: i64 = sqlx::query_scalar("SELECT count(*) FROM revocations WHERE holds = 1 AND user <> ?1")
        .bind(revocation.user.as_str())
        .fetch_one(&mut *connection)
        .await?;
    if others >= i64::from(max) {
        return Ok(Noted::Full);
    }
    let version = next_version(connection, revocation.at).await?;
    sqlx::query(
        "INSERT INTO revocations (user, holds, upto, at, who, why, version) VALUES (?1, 1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (user) DO UPDATE SET holds = 1, upto = excluded.upto, at = excluded.at, who = excluded.who,
             why = excluded.why, version = excluded.version",
    )
    .bind(revocation.user.as_str())
    .bind(time(revocation.upto))
    .bind(time(revocation.at))
    .bind(&revocation.who)
    .bind(&revocation.why)
    .bind(version)
    .execute(&mut *connection)
    .await?;
    add_audit(connection, audit).await?;
    Ok(Noted::Changed)
}

pub(super) async fn restore(
    connection: &mut SqliteConnection,
    user: &UserId,
    audit: &AuditEntry,
) -> Result<bool, Fault> {
    let held: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM revocations WHERE user = ?1 AND holds = 1)")
        .bind(user.as_str())
        .fetch_one(&mut *connection)
        .await?;
    if !held {
        return Ok(false);
    }
    let version = next_version(connection, audit.at).await?;
    sqlx::query("UPDATE revocations SET holds = 0, at = ?2, version = ?3 WHERE user = ?1")
        .bind(user.as_str())
        .bind(time(audit.at))
        .bind(version)
        .execute(&mut *connection)
        .await?;
    add_audit(connection, audit).await?;
    Ok(true)
}
