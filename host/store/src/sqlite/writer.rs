//! The one writer: a task that owns the writing connection behind a bounded queue.
//!
//! What waits in the queue is committed together, so that small writes share an fsync. If one of them fails, the transaction is rolled back
//! and each is tried alone, so that a bad one fails for itself only; where none could begin, all are told. A caller that goes away takes nothing back.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use heddle_model::Clock;
use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection as _, Sqlite, Transaction};
use tokio::sync::{mpsc, oneshot};

use super::fault::of;
use super::lock::Lock;
use super::open;
use super::work::{Outcome, Work};
use crate::StoreError;
use crate::fault::{Fault, unavailable};

/// At most this many pieces of work share a commit.
const WORKS_PER_COMMIT: usize = 64;

/// How long a caller waits for room in the queue.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why works were not committed.
enum Failed {
    /// None of them began: the database takes none, and each alone would wait as long to hear it.
    Before(StoreError),
    /// One of them failed, or all at the end.
    Within(StoreError),
}

type Reply = oneshot::Sender<Result<Outcome, StoreError>>;

/// Work on its way to the writer.
#[derive(Debug)]
enum Job {
    Write(Box<Work>, Reply),
    Close(oneshot::Sender<()>),
}

/// Where work is handed in.
#[derive(Debug, Clone)]
pub(super) struct WriterHandle {
    queue: mpsc::Sender<Job>,
}

impl WriterHandle {
    /// Waits until the work is durable.
    pub(super) async fn write(&self, work: Work) -> Result<Outcome, StoreError> {
        let operation = work.operation();
        let (reply, answer) = oneshot::channel();
        let room = tokio::time::timeout(QUEUE_TIMEOUT, self.queue.reserve()).await;
        let room = room.map_err(|_| unavailable(operation, "its queue stayed full for 5 s"))?;
        room.map_err(|_| closed(operation))?.send(Job::Write(Box::new(work), reply));
        answer.await.map_err(|_| closed(operation))?
    }

    /// Waits until everything before is durable and the connection and the lock are gone.
    pub(super) async fn close(&self) {
        let (reply, answer) = oneshot::channel();
        if self.queue.send(Job::Close(reply)).await.is_ok() {
            // An error means that the writer is gone, which is what was asked for.
            let _ = answer.await;
        }
    }
}

fn closed(operation: &'static str) -> StoreError {
    unavailable(operation, "it is closed")
}

/// Owns the connection.
struct Writer {
    path: PathBuf,
    connection: Option<SqliteConnection>,
    clock: Arc<dyn Clock>,
    lock: Lock,
}

/// Starts the task; it ends with the last handle, or when it is closed.
pub(super) fn spawn(
    path: PathBuf,
    connection: SqliteConnection,
    lock: Lock,
    clock: Arc<dyn Clock>,
    queue_max: usize,
) -> WriterHandle {
    let (queue, jobs) = mpsc::channel(queue_max.max(1));
    tokio::spawn(Writer { path, connection: Some(connection), clock, lock }.run(jobs));
    WriterHandle { queue }
}

impl Writer {
    async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut taken = Vec::with_capacity(WORKS_PER_COMMIT);
        let mut closing = None;
        while closing.is_none() && jobs.recv_many(&mut taken, WORKS_PER_COMMIT).await > 0 {
            let mut works = Vec::with_capacity(taken.len());
            for job in taken.drain(..) {
                match job {
                    // What came in behind a close is refused by dropping its reply.
                    Job::Write(work, reply) if closing.is_none() => works.push((work, reply)),
                    Job::Write(..) => {}
                    Job::Close(reply) => closing = Some(reply),
                }
            }
            metrics::histogram!("heddle_store_works_per_commit").record(works.len() as f64);
            self.commit(works).await;
        }
        if let Some(connection) = self.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!(%error, "store: closing the writer");
        }
        drop(self.lock);
        drop(jobs);
        if let Some(reply) = closing {
            let _ = reply.send(());
        }
    }

    /// Commits all of them, together if that goes, else each alone, and answers.
    async fn commit(&mut self, works: Vec<(Box<Work>, Reply)>) {
        let together = self.transact(works.iter().map(|(work, _)| &**work)).await;
        match together {
            Ok(outcomes) => {
                for ((_, reply), outcome) in works.into_iter().zip(outcomes) {
                    let _ = reply.send(Ok(outcome));
                }
            }
            Err(Failed::Within(error)) if works.len() > 1 => {
                tracing::debug!(%error, works = works.len(), "store: a shared commit failed, each is tried alone");
                for (work, reply) in works {
                    let alone = self.transact(std::iter::once(&*work)).await;
                    let alone = alone.map(|outcomes| outcomes.into_iter().next().unwrap_or(Outcome::Done));
                    let _ = reply.send(alone.map_err(|(Failed::Before(error) | Failed::Within(error))| error));
                }
            }
            Err(Failed::Before(error) | Failed::Within(error)) => {
                tracing::warn!(%error, works = works.len(), "store: a write failed");
                for (_, reply) in works {
                    let _ = reply.send(Err(error.clone()));
                }
            }
        }
    }

    async fn transact<'a>(&mut self, works: impl Iterator<Item = &'a Work>) -> Result<Vec<Outcome>, Failed> {
        let started = self.clock.monotonic();
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let connected = open::connect_writer(&self.path, Arc::clone(&self.clock)).await;
                connected.map_err(|error| Failed::Before(of(Fault::from(error), "connect")))?
            }
        };
        let result = match connection.begin_with("BEGIN IMMEDIATE").await {
            Ok(transaction) => run(transaction, works).await.map_err(|(error, sound)| (Failed::Within(error), sound)),
            Err(error) => Err((Failed::Before(of(Fault::from(error), "begin")), false)),
        };
        metrics::histogram!("heddle_store_write_seconds").record((self.clock.monotonic() - started).as_secs_f64());
        match result {
            Ok(outcomes) => {
                self.connection = Some(connection);
                metrics::counter!("heddle_store_commits_total").increment(1);
                Ok(outcomes)
            }
            Err((failed, sound)) => {
                metrics::counter!("heddle_store_failed_commits_total").increment(1);
                // A connection whose transaction did not end as asked is not used again.
                if sound {
                    self.connection = Some(connection);
                } else if let Err(error) = connection.close().await {
                    tracing::warn!(%error, "store: giving up a connection");
                }
                Err(failed)
            }
        }
    }
}

/// Runs works in a transaction; on an error also tells whether the connection is sound.
async fn run<'a>(
    mut transaction: Transaction<'_, Sqlite>,
    works: impl Iterator<Item = &'a Work>,
) -> Result<Vec<Outcome>, (StoreError, bool)> {
    let mut outcomes = Vec::new();
    for work in works {
        match work.run(&mut transaction).await {
            Ok(outcome) => outcomes.push(outcome),
            Err(fault) => {
                let sound = transaction.rollback().await.is_ok();
                return Err((of(fault, work.operation()), sound));
            }
        }
    }
    transaction.commit().await.map_err(|error| (of(Fault::from(error), "commit"), false))?;
    Ok(outcomes)
}
