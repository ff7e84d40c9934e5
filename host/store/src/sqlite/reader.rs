//! Reads: each in one snapshot, on one of a few connections, in a task of its own so that a caller that goes away leaves no half-read connection.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use heddle_model::Clock;
use sqlx::sqlite::{SqliteConnection, SqlitePool};
use tokio::sync::Semaphore;

use super::fault::of;
use crate::StoreError;
use crate::fault::{Fault, unavailable};

/// How long a read waits for a connection.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// What a read does.
pub(super) type Reading<'c, T> = Pin<Box<dyn Future<Output = Result<T, Fault>> + Send + 'c>>;

/// The read connections.
#[derive(Clone)]
pub(super) struct Reader {
    pool: SqlitePool,
    permits: Arc<Semaphore>,
    clock: Arc<dyn Clock>,
}

impl Reader {
    /// As many reads at once as the pool has connections.
    pub(super) fn new(pool: SqlitePool, connections: usize, clock: Arc<dyn Clock>) -> Self {
        Self { pool, permits: Arc::new(Semaphore::new(connections)), clock }
    }

    /// Runs `read` in one snapshot.
    pub(super) async fn read<T, F>(&self, operation: &'static str, read: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> Reading<'c, T> + Send + 'static,
    {
        let started = self.clock.monotonic();
        let permit = tokio::time::timeout(READ_TIMEOUT, Arc::clone(&self.permits).acquire_owned()).await;
        let permit = permit.map_err(|_| unavailable(operation, "no read connection became free for 5 s"))?;
        let permit = permit.map_err(|_| unavailable(operation, "it is closed"))?;
        let pool = self.pool.clone();
        let task = tokio::spawn(async move {
            let mut transaction = pool.begin().await?;
            let value = read(&mut transaction).await;
            transaction.rollback().await?;
            drop(permit);
            value
        });
        let value = task.await.map_err(|error| unavailable(operation, &error.to_string()))?;
        metrics::histogram!("heddle_store_read_seconds", "operation" => operation)
            .record((self.clock.monotonic() - started).as_secs_f64());
        value.map_err(|fault| of(fault, operation))
    }

    /// Waits until every read is done, refuses later ones.
    pub(super) async fn close(&self) {
        self.permits.close();
        self.pool.close().await;
    }
}
