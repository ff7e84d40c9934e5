//! Connections to one server, and what runs on them.
//!
//! Each piece of work runs in a task of its own, so that a caller that goes away leaves no half-used connection, and within a deadline
//! that covers the wait for a connection, connecting, the statements and the commit. A connection on which anything went wrong but a
//! statement is never used again: it is dropped with its future, and the server ends what it was doing by its own time limits.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use heddle_model::Clock;
use parking_lot::Mutex;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection as _, Executor as _};
use tokio::sync::Semaphore;

use super::breaker::Breaker;
use super::fault::{away, collided, of};
use crate::StoreError;
use crate::fault::{Fault, unavailable};

/// A connection that lay idle for so long is not used again: firewalls and proxies forget about it without a word.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// Times that a transaction which collided with another is tried.
const TRIES: usize = 5;

/// A snapshot of everything: rows and cursors of one page belong together.
const READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY";
/// Each statement sees what is committed; what must not change meanwhile is locked.
const WRITE: &str = "BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE";

/// What a piece of work does on a connection.
pub(super) type Working<'c, T> = Pin<Box<dyn Future<Output = Result<T, Fault>> + Send + 'c>>;

/// A cheap handle.
#[derive(Clone)]
pub(super) struct Connections {
    shared: Arc<Shared>,
}

struct Shared {
    options: PgConnectOptions,
    deadline: Duration,
    most: u32,
    permits: Semaphore,
    /// With the moment at which each was last used.
    idle: Mutex<Vec<(PgConnection, Duration)>>,
    breaker: Arc<Breaker>,
    clock: Arc<dyn Clock>,
}

/// Why no transaction began.
enum Refused {
    Away(String),
    Fault(Fault),
}

impl Connections {
    /// Up to `most` of them; none is made yet.
    pub(super) fn new(options: PgConnectOptions, most: u32, deadline: Duration, clock: Arc<dyn Clock>) -> Self {
        Self {
            shared: Arc::new(Shared {
                options,
                deadline,
                most: most.max(1),
                permits: Semaphore::new(most.max(1) as usize),
                idle: Mutex::new(Vec::new()),
                breaker: Breaker::new(Arc::clone(&clock)),
                clock,
            }),
        }
    }

    /// Reads in one snapshot.
    pub(super) async fn read<T, F>(&self, operation: &'static str, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> Fn(&'c mut PgConnection) -> Working<'c, T> + Send + Sync + 'static,
    {
        self.run(operation, READ, self.shared.deadline, work).await
    }

    /// Writes in one transaction; runs again from the start if it collided with another.
    pub(super) async fn write<T, F>(&self, operation: &'static str, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> Fn(&'c mut PgConnection) -> Working<'c, T> + Send + Sync + 'static,
    {
        self.run(operation, WRITE, self.shared.deadline, work).await
    }

    /// As [`write`](Self::write), with more time: nobody waits for it.
    pub(super) async fn write_at_leisure<T, F>(&self, operation: &'static str, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> Fn(&'c mut PgConnection) -> Working<'c, T> + Send + Sync + 'static,
    {
        self.run(operation, WRITE, self.shared.deadline * super::BATCH_DEADLINES, work).await
    }

    /// As [`write`](Self::write), within this deadline.
    pub(super) async fn write_for<T, F>(
        &self,
        operation: &'static str,
        deadline: Duration,
        work: F,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> Fn(&'c mut PgConnection) -> Working<'c, T> + Send + Sync + 'static,
    {
        self.run(operation, WRITE, deadline, work).await
    }

    async fn run<T, F>(
        &self,
        operation: &'static str,
        begin: &'static str,
        deadline: Duration,
        work: F,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> Fn(&'c mut PgConnection) -> Working<'c, T> + Send + Sync + 'static,
    {
        let started = self.shared.clock.monotonic();
        let shared = Arc::clone(&self.shared);
        let task = tokio::spawn(async move { shared.attempt(operation, begin, deadline, work).await });
        let answer = task.await.map_err(|error| unavailable(operation, &error.to_string()))?;
        let took = (self.shared.clock.monotonic() - started).as_secs_f64();
        metrics::histogram!("heddle_store_call_seconds", "operation" => operation).record(took);
        if answer.is_err() {
            metrics::counter!("heddle_store_failed_calls_total", "operation" => operation).increment(1);
        }
        answer
    }

    /// Waits for what runs, closes every connection and refuses later work.
    pub(super) async fn close(&self) {
        let shared = &self.shared;
        // Too long a batch ends with the process: it is written again by the next one.
        let _ = tokio::time::timeout(shared.deadline, shared.permits.acquire_many(shared.most)).await;
        shared.permits.close();
        let idle = std::mem::take(&mut *shared.idle.lock());
        for (connection, _) in idle {
            let _ = tokio::time::timeout(shared.deadline, connection.close()).await;
        }
    }
}

impl Shared {
    async fn attempt<T, F>(
        &self,
        operation: &'static str,
        begin: &'static str,
        deadline: Duration,
        work: F,
    ) -> Result<T, StoreError>
    where
        F: for<'c> Fn(&'c mut PgConnection) -> Working<'c, T>,
    {
        let leave = self.breaker.enter().map_err(|reason| unavailable(operation, &reason))?;
        let mut held = false;
        let outcome = tokio::time::timeout(deadline, async {
            let permit = self.permits.acquire().await;
            let permit = permit.map_err(|_| Refused::Fault(Fault::Database(sqlx::Error::PoolClosed)))?;
            held = true;
            let mut tries = 1;
            let value = loop {
                match self.transact(begin, &work).await {
                    Err(Refused::Fault(fault)) if collided(&fault) && tries < TRIES => tries += 1,
                    other => break other,
                }
            };
            drop(permit);
            value
        })
        .await;
        match outcome {
            Ok(Ok(value)) => {
                leave.answered();
                Ok(value)
            }
            Ok(Err(Refused::Fault(fault))) => {
                leave.answered();
                Err(of(fault, operation))
            }
            Ok(Err(Refused::Away(reason))) => {
                // What lies idle was connected to the same server.
                self.idle.lock().clear();
                leave.away(&reason);
                Err(unavailable(operation, &reason))
            }
            Err(_) if held => {
                let reason = format!("no answer within {} ms", deadline.as_millis());
                self.idle.lock().clear();
                leave.away(&reason);
                Err(unavailable(operation, &reason))
            }
            Err(_) => {
                // Only our own connections were too few: the server is not to blame.
                leave.answered();
                Err(unavailable(operation, &format!("no connection became free within {} ms", deadline.as_millis())))
            }
        }
    }

    /// One transaction, from begin to commit.
    async fn transact<T, F>(&self, begin: &'static str, work: &F) -> Result<T, Refused>
    where
        F: for<'c> Fn(&'c mut PgConnection) -> Working<'c, T>,
    {
        let mut connection = self.begin(begin).await?;
        let done = work(&mut connection).await;
        let ended = match &done {
            Ok(_) => connection.execute("COMMIT").await,
            Err(Fault::Database(error)) if away(error) => return Err(Refused::Away(error.to_string())),
            Err(_) => connection.execute("ROLLBACK").await,
        };
        match ended {
            Ok(_) => self.idle.lock().push((connection, self.clock.monotonic())),
            Err(error) if away(&error) => return Err(Refused::Away(error.to_string())),
            Err(error) => return Err(Refused::Fault(Fault::Database(error))),
        }
        done.map_err(Refused::Fault)
    }

    /// A connection inside a transaction. One that lay idle may be gone: then the others are too, and a new one is made.
    async fn begin(&self, begin: &'static str) -> Result<PgConnection, Refused> {
        while let Some((mut connection, used)) = self.take_idle() {
            if self.clock.monotonic() - used < IDLE_MAX && connection.execute(begin).await.is_ok() {
                return Ok(connection);
            }
        }
        let away = |error: sqlx::Error| Refused::Away(error.to_string());
        let mut connection = PgConnection::connect_with(&self.options).await.map_err(away)?;
        metrics::counter!("heddle_store_connects_total").increment(1);
        connection.execute(begin).await.map_err(away)?;
        Ok(connection)
    }

    /// The one used last: what is not needed grows old and goes.
    fn take_idle(&self) -> Option<(PgConnection, Duration)> {
        self.idle.lock().pop()
    }
}
