//! Servers that are killed while batches are written. What stops and comes back is in the contract.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use heddle_store::PostgresStore;
use heddle_test_servers::{Postgres, or_skip};
use tokio::task::JoinHandle;

use crate::{batch, config, open, until, whole_batches, write_stubbornly};

/// Writes batch after batch, up to `last`.
struct Archiver {
    written: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

fn archiver(store: &PostgresStore, last: u64) -> Archiver {
    let written = Arc::new(AtomicU64::new(0));
    let (store, done) = (store.clone(), Arc::clone(&written));
    let task = tokio::spawn(async move {
        for nth in 1..=last {
            write_stubbornly(&store, &batch(nth)).await;
            done.store(nth, Ordering::SeqCst);
        }
    });
    Archiver { written, task }
}

async fn reaches(archiver: &Archiver, batches: u64) {
    until("batches are written", || async { archiver.written.load(Ordering::SeqCst) >= batches }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_written_before_a_kill_is_there_batch_by_batch() {
    let Some(mut server) = or_skip(Postgres::start()) else { return };
    let store = open(config(&server.database())).await;
    let archiver = archiver(&store, 300);
    for round in 1..=5 {
        reaches(&archiver, round * 50).await;
        let written = archiver.written.load(Ordering::SeqCst);
        server.kill();
        server.launch();
        let mut found = None;
        while found.is_none() {
            found = whole_batches(&store).await.ok();
            tokio::time::sleep(crate::POLL).await;
        }
        assert!(found >= Some(written), "{written} were written, {found:?} are there");
    }
    archiver.task.await.unwrap();
    assert_eq!(whole_batches(&store).await.unwrap(), 300);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_with_what_mends_it() {
    let store = PostgresStore::open(
        config("postgres://heddle:hidden@127.0.0.1:1/none"),
        Arc::new(heddle_model::SystemClock::new()),
    );
    let error = store.await.unwrap_err().to_string();
    assert!(error.contains("127.0.0.1:1") && error.contains("start Postgres"), "{error}");
    assert!(!error.contains("hidden"), "{error}");
}
