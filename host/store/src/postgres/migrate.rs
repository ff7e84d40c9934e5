//! Bringing the schema up to date: one process at a time, each step in a transaction with its record.

use std::time::Duration;

use sqlx::Executor as _;
use sqlx::postgres::PgConnection;

use super::open::{PostgresError, at};

/// Each brings the schema from its index to the next version.
const MIGRATIONS: [&str; 7] = [
    include_str!("../../migrations/postgres/0001_store.sql"),
    include_str!("../../migrations/postgres/0002_derived.sql"),
    include_str!("../../migrations/postgres/0003_nodes.sql"),
    include_str!("../../migrations/postgres/0004_starts.sql"),
    include_str!("../../migrations/postgres/0005_denials.sql"),
    include_str!("../../migrations/postgres/0006_replays.sql"),
    include_str!("../../migrations/postgres/0007_shards.sql"),
];

/// Advisory locks stand beside each other: plus the code of a partition, that of its archive ("HDLE" is theirs in a database shared with others).
pub(super) const LOCK_PARTITION: i64 = 0x4844_4c45 << 32;
/// No partition has a code that leaves 3 when it is divided by 4. Under this one processes migrate one at a time,
const LOCK_SCHEMA: i64 = LOCK_PARTITION + 3;
/// and under this one they make tables as the log grows.
pub(super) const LOCK_RANGES: i64 = LOCK_PARTITION + 7;
/// This one is held by a node that is alone on its database.
pub(super) const LOCK_OWNER: i64 = LOCK_PARTITION + 11;
/// Under this one databases are marked as those of one list.
pub(super) const LOCK_MARKS: i64 = LOCK_PARTITION + 15;

/// How long a process waits for another's migration, and how long its own may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// Brings it up to date, or refuses what is newer.
pub(super) async fn migrate(connection: &mut PgConnection, server: &str) -> Result<(), PostgresError> {
    let steps = tokio::time::timeout(PATIENCE, run(connection, server)).await;
    steps.unwrap_or_else(|_| {
        let reason = format!(
            "migrations took longer than {} s, or another process holds their lock: see pg_locks",
            PATIENCE.as_secs()
        );
        Err(PostgresError::Unfit { server: server.to_owned(), reason })
    })
}

async fn run(connection: &mut PgConnection, server: &str) -> Result<(), PostgresError> {
    let failed = |operation| move |error: sqlx::Error| at(server, operation, &error);
    connection.execute("SET statement_timeout = 0").await.map_err(failed("set up"))?;
    loop {
        connection.execute("BEGIN").await.map_err(failed("migrate"))?;
        // Held to the end of the transaction, so that a process that dies leaves nothing behind.
        sqlx::query("SELECT pg_advisory_xact_lock($1)")
            .bind(LOCK_SCHEMA)
            .execute(&mut *connection)
            .await
            .map_err(failed("wait for another's migration"))?;
        let version = version(connection).await.map_err(failed("read its version"))?;
        let known = MIGRATIONS.len() as i64;
        let next = match usize::try_from(version).ok().and_then(|version| MIGRATIONS.get(version)) {
            Some(next) if version >= 0 => *next,
            _ => {
                connection.execute("COMMIT").await.map_err(failed("migrate"))?;
                if version > known {
                    return Err(PostgresError::Newer { server: server.to_owned(), found: version, known });
                }
                return Ok(());
            }
        };
        connection.execute(sqlx::raw_sql(next)).await.map_err(failed("migrate"))?;
        sqlx::query("INSERT INTO heddle_schema (version) VALUES ($1)")
            .bind(version + 1)
            .execute(&mut *connection)
            .await
            .map_err(failed("migrate"))?;
        connection.execute("COMMIT").await.map_err(failed("migrate"))?;
        tracing::info!(version = version + 1, "store: the schema is up to date with this step");
    }
}

/// The schema's version; 0 for none.
async fn version(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    let made: bool =
        sqlx::query_scalar("SELECT to_regclass('heddle_schema') IS NOT NULL").fetch_one(&mut *connection).await?;
    if !made {
        connection
            .execute(
                "CREATE TABLE heddle_schema (
                     version BIGINT NOT NULL PRIMARY KEY, applied_at TIMESTAMPTZ NOT NULL DEFAULT now())",
            )
            .await?;
    }
    sqlx::query_scalar("SELECT coalesce(max(version), 0) FROM heddle_schema").fetch_one(connection).await
}
