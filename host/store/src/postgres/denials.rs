//! Blocks and revocations.

use async_trait::async_trait;
use heddle_model::{Millis, UserId};
use sqlx::Executor as _;
use sqlx::postgres::PgConnection;

use super::PostgresStore;
use super::catalog::add_audit;
use super::text::{names, plain};
use crate::cell::{int, time, uint, user as user_of};
use crate::fault::Fault;
use crate::row::{DenialColumns, RevocationColumns, denial, revocation as revocation_of};
use crate::{AuditEntry, DENIAL_FORGOTTEN_MS, DenialRows, Denials, Noted, Revocation, StoreError};

#[async_trait]
impl DenialRows for PostgresStore {
    async fn set_block(
        &self,
        user: &UserId,
        other: &UserId,
        holds: bool,
        at: Millis,
        max: u32,
    ) -> Result<Noted, StoreError> {
        let pair = (user.clone(), other.clone());
        let write = self
            .connections
            .write("set block", move |connection| Box::pin(set_block(connection, pair.clone(), holds, at, max)));
        write.await
    }

    async fn blocks(&self, user: &UserId) -> Result<Vec<UserId>, StoreError> {
        let user = user.clone();
        let read = self.connections.read("blocks", move |connection| {
            let user = user.clone();
            Box::pin(async move {
                let rows: Vec<String> =
                    sqlx::query_scalar("SELECT other FROM blocks WHERE usr = $1 AND holds ORDER BY other")
                        .bind(user.as_str())
                        .fetch_all(connection)
                        .await?;
                rows.iter().map(|row| user_of("blocks", row)).collect()
            })
        });
        read.await
    }

    async fn blocks_between(&self, user: &UserId, others: &[UserId]) -> Result<Vec<(bool, bool)>, StoreError> {
        let (user, others) = (user.clone(), names(others));
        let read = self.connections.read("blocks between", move |connection| {
            let (user, others) = (user.clone(), others.clone());
            Box::pin(async move {
                Ok(sqlx::query_as(
                    "SELECT EXISTS (SELECT 1 FROM blocks b WHERE b.usr = $1 AND b.other = o.usr AND b.holds),
                            EXISTS (SELECT 1 FROM blocks b WHERE b.usr = o.usr AND b.other = $1 AND b.holds)
                     FROM unnest($2::text[]) WITH ORDINALITY AS o (usr, nth) ORDER BY o.nth",
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
        let write = self
            .connections
            .write("revoke", move |connection| Box::pin(revoke(connection, revocation.clone(), audit.clone(), max)));
        write.await
    }

    async fn restore(&self, user: &UserId, audit: AuditEntry) -> Result<bool, StoreError> {
        let user = user.clone();
        let write = self
            .connections
            .write("restore", move |connection| Box::pin(restore(connection, user.clone(), audit.clone())));
        write.await
    }

    async fn revocation(&self, user: &UserId) -> Result<Option<Revocation>, StoreError> {
        let user = user.clone();
        let read = self.connections.read("revocation", move |connection| {
            let user = user.clone();
            Box::pin(async move {
                let row: Option<RevocationColumns> =
                    sqlx::query_as("SELECT usr, upto, at, who, why FROM revocations WHERE usr = $1 AND holds")
                        .bind(user.as_str())
                        .fetch_optional(connection)
                        .await?;
                row.map(revocation_of).transpose()
            })
        });
        read.await
    }

    async fn denials_since(&self, version: u64, limit: u32) -> Result<Denials, StoreError> {
        self.connections.read("denials", move |connection| Box::pin(since(connection, version, limit))).await
    }
}

async fn since(connection: &mut PgConnection, version: u64, limit: u32) -> Result<Denials, Fault> {
    let (newest, forgotten): (i64, i64) =
        sqlx::query_as("SELECT version, forgotten FROM denial_version").fetch_one(&mut *connection).await?;
    let (newest, forgotten) = (uint("denial_version", newest)?, uint("denial_version", forgotten)?);
    if newest <= version {
        return Ok(Denials { changes: Vec::new(), version: newest, forgotten });
    }
    let rows: Vec<DenialColumns> = sqlx::query_as(
        "SELECT version, usr, other, holds, NULL::bigint FROM blocks WHERE version > $1
         UNION ALL SELECT version, usr, NULL, holds, upto FROM revocations WHERE version > $1
         ORDER BY 1 LIMIT $2",
    )
    .bind(int("denial_version", version)?)
    .bind(i64::from(limit))
    .fetch_all(connection)
    .await?;
    let changes = rows.into_iter().map(denial).collect::<Result<_, _>>()?;
    Ok(Denials { changes, version: newest, forgotten })
}

/// Who changes something waits here for whoever does so already: what is read after it stays true until the commit, and versions become visible in
/// their order.
async fn one_at_a_time(connection: &mut PgConnection) -> Result<(), Fault> {
    connection.execute("SELECT 1 FROM denial_version FOR UPDATE").await?;
    Ok(())
}

/// The number of the change that is being made. What was over long ago is forgotten with it.
async fn next_version(connection: &mut PgConnection, at: Millis) -> Result<i64, Fault> {
    let old = time(at.saturating_sub(DENIAL_FORGOTTEN_MS));
    let forgotten: i64 = sqlx::query_scalar(
        "WITH blocked AS (DELETE FROM blocks WHERE NOT holds AND at < $1 RETURNING version),
              revoked AS (DELETE FROM revocations WHERE NOT holds AND at < $1 RETURNING version)
         SELECT coalesce(max(version), 0) FROM (SELECT version FROM blocked UNION ALL SELECT version FROM revoked) gone",
    )
    .bind(old)
    .fetch_one(&mut *connection)
    .await?;
    Ok(sqlx::query_scalar(
        "UPDATE denial_version SET version = version + 1, forgotten = greatest(forgotten, $1) RETURNING version",
    )
    .bind(forgotten)
    .fetch_one(connection)
    .await?)
}

async fn set_block(
    connection: &mut PgConnection,
    (user, other): (UserId, UserId),
    holds: bool,
    at: Millis,
    max: u32,
) -> Result<Noted, Fault> {
    one_at_a_time(connection).await?;
    let held: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM blocks WHERE usr = $1 AND other = $2 AND holds)")
        .bind(user.as_str())
        .bind(other.as_str())
        .fetch_one(&mut *connection)
        .await?;
    if held == holds {
        return Ok(Noted::Unchanged);
    }
    if holds {
        let has: i64 = sqlx::query_scalar("SELECT count(*) FROM blocks WHERE usr = $1 AND holds")
            .bind(user.as_str())
            .fetch_one(&mut *connection)
            .await?;
        if has >= i64::from(max) {
            return Ok(Noted::Full);
        }
    }
    let version = next_version(connection, at).await?;
    sqlx::query(
        "INSERT INTO blocks (usr, other, holds, at, version) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (usr, other) DO UPDATE SET holds = excluded.holds, at = excluded.at, version = excluded.version",
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

async fn revoke(
    connection: &mut PgConnection,
    revocation: Revocation,
    audit: AuditEntry,
    max: u32,
) -> Result<Noted, Fault> {
    one_at_a_time(connection).await?;
    let others: i64 = sqlx::query_scalar("SELECT count(*) FROM revocations WHERE holds AND usr <> $1")
        .bind(revocation.user.as_str())
        .fetch_one(&mut *connection)
        .await?;
    if others >= i64::from(max) {
        return Ok(Noted::Full);
    }
    let version = next_version(connection, revocation.at).await?;
    sqlx::query(
        "INSERT INTO revocations (usr, holds, upto, at, who, why, version) VALUES ($1, true, $2, $3, $4, $5, $6)
         ON CONFLICT (usr) DO UPDATE SET holds = true, upto = excluded.upto, at = excluded.at, who = excluded.who,
             why = excluded.why, version = excluded.version",
    )
    .bind(revocation.user.as_str())
    .bind(time(revocation.upto))
    .bind(time(revocation.at))
    .bind(plain(&revocation.who))
    .bind(plain(&revocation.why))
    .bind(version)
    .execute(&mut *connection)
    .await?;
    add_audit(connection, &audit).await?;
    Ok(Noted::Changed)
}

async fn restore(connection: &mut PgConnection, user: UserId, audit: AuditEntry) -> Result<bool, Fault> {
    one_at_a_time(connection).await?;
    let held: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM revocations WHERE usr = $1 AND holds)")
        .bind(user.as_str())
        .fetch_one(&mut *connection)
        .await?;
    if !held {
        return Ok(false);
    }
    let version = next_version(connection, audit.at).await?;
    sqlx::query("UPDATE revocations SET holds = false, at = $2, version = $3 WHERE usr = $1")
        .bind(user.as_str())
        .bind(time(audit.at))
        .bind(version)
        .execute(&mut *connection)
        .await?;
    add_audit(connection, &audit).await?;
    Ok(true)
}
