//! One node alone on a database, where its log is its own: two logs in one archive would take each other's positions for theirs. Nodes that share
//! a log share the lock too, so that nobody repairs the archive while one of them runs.
//!
//! A session holds a lock for as long as it lives. When the server cuts it, a new session takes the lock again; should another node have
//! been quicker, this one writes no more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::Connection as _;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use tokio::task::JoinHandle;

use super::migrate::LOCK_OWNER;
use super::open::{PostgresError, at, place};

/// Between two looks at the session that holds the lock.
const LOOK: Duration = Duration::from_secs(1);
/// Between two tries while the session of a node that was killed is still there.
const RETRY: Duration = Duration::from_millis(100);

/// Holds the lock until it is dropped.
#[derive(Debug)]
pub(super) struct Owner {
    lost: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Owner {
    /// Takes the lock, or a part in it; waits at most `deadline` for the session of a node that is gone.
    pub(super) async fn take(
        options: &PgConnectOptions,
        deadline: Duration,
        alone: bool,
    ) -> Result<Self, PostgresError> {
        let server = place(options);
        let failed = |error: sqlx::Error| at(&server, "take its lock", &error);
        let mut connection = PgConnection::connect_with(options).await.map_err(failed)?;
        let taking = async {
            while !try_lock(&mut connection, alone).await? {
                tokio::time::sleep(RETRY).await;
            }
            Ok(())
        };
        match tokio::time::timeout(deadline, taking).await {
            Ok(taken) => taken.map_err(failed)?,
            // That connection was in the middle of something.
            Err(_) => {
                let mut beside = PgConnection::connect_with(options).await.map_err(failed)?;
                let by = holder(&mut beside).await.map_err(failed)?;
                return Err(PostgresError::InUse { server, by });
            }
        }
        let lost = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(keep(connection, options.clone(), deadline, alone, Arc::clone(&lost)));
        Ok(Self { lost, task })
    }

    /// Another node has it now.
    pub(super) fn lost(&self) -> bool {
        self.lost.load(Ordering::SeqCst)
    }

    /// Gives it back.
    pub(super) fn release(&self) {
        self.task.abort();
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Its connection is used for nothing else, so that it may be dropped at any point.
async fn keep(
    mut connection: PgConnection,
    options: PgConnectOptions,
    deadline: Duration,
    alone: bool,
    lost: Arc<AtomicBool>,
) {
    loop {
        tokio::time::sleep(LOOK).await;
        if matches!(tokio::time::timeout(deadline, connection.ping()).await, Ok(Ok(()))) {
            continue;
        }
        connection = loop {
            let again = tokio::time::timeout(deadline, async {
                let mut connection = PgConnection::connect_with(&options).await?;
                let taken = try_lock(&mut connection, alone).await?;
                Ok::<_, sqlx::Error>((connection, taken))
            });
            if let Ok(Ok((connection, taken))) = again.await {
                if !taken {
                    tracing::error!("store: another node uses this database now, nothing more is archived from here");
                }
                lost.store(!taken, Ordering::SeqCst);
                if taken {
                    break connection;
                }
            }
            tokio::time::sleep(LOOK).await;
        };
    }
}

async fn try_lock(connection: &mut PgConnection, alone: bool) -> Result<bool, sqlx::Error> {
    let sql = if alone { "SELECT pg_try_advisory_lock($1)" } else { "SELECT pg_try_advisory_lock_shared($1)" };
    sqlx::query_scalar(sql).bind(LOCK_OWNER).fetch_one(connection).await
}

/// Who has it, as the server sees it.
async fn holder(connection: &mut PgConnection) -> Result<String, sqlx::Error> {
    let row: Option<(String, i32)> = sqlx::query_as(
        "SELECT coalesce(host(a.client_addr), 'this machine'), a.client_port FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
         WHERE l.locktype = 'advisory' AND l.granted AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
           AND (l.classid::bigint << 32) + l.objid::bigint = $1 LIMIT 1",
    )
    .bind(LOCK_OWNER)
    .fetch_optional(connection)
    .await?;
    Ok(row.map_or_else(
        || "another node".to_owned(),
        |(host, port)| format!("a node at {host}, port {port} of its connection"),
    ))
}
