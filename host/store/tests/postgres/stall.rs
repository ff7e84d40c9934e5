//! Connections to servers that stall, callers that go away, connections that are cut.

use std::time::Duration;

use heddle_store::StoreError;
use heddle_test_servers::{Postgres, or_skip};

use crate::{batch, config, connect, number, open, until, whole_batches, write_stubbornly};

/// Far above a deadline, and far below for ever.
const SOON: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_a_server_never_answers_keep_no_connection() {
    let Some(server) = or_skip(Postgres::start()) else { return };
    let url = server.database();
    let store = open(config(&url)).await;
    write_stubbornly(&store, &batch(1)).await;
    server.pause();
    // More than there are connections: some wait for one, some on one.
    let calls: Vec<_> = (0..40)
        .map(|nth| {
            let store = store.clone();
            tokio::spawn(async move {
                if nth % 4 == 0 {
                    store.store().archive.write(batch(2)).await
                } else {
                    whole_batches(&store).await.map(drop)
                }
            })
        })
        .collect();
    for call in calls {
        let answer = tokio::time::timeout(SOON, call).await.expect("a call hangs").unwrap();
        assert!(matches!(answer, Err(StoreError::Unavailable { .. })), "{answer:?}");
    }
    server.resume();
    write_stubbornly(&store, &batch(2)).await;
    until("it is read again", || async { whole_batches(&store).await.is_ok() }).await;
    assert_eq!(whole_batches(&store).await.unwrap(), 2);
    // What was given up is given back: as many as there may be, and no more, are open, and none is in the middle of something. Another session holds
    // the node's part in the lock of its database.
    let all = (0..16).map(|_| {
        let store = store.clone();
        tokio::spawn(async move { whole_batches(&store).await })
    });
    for call in all.collect::<Vec<_>>() {
        assert_eq!(call.await.unwrap().unwrap(), 2);
    }
    let mut beside = connect(&url).await;
    let mut counts = Vec::new();
    loop {
        let open = number(
            &mut beside,
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'heddle' AND datname = current_database()",
        );
        counts.push(open.await);
        if counts.last() <= Some(&(4 + 1)) {
            break;
        }
        assert!(counts.len() < 2_000, "connections leak: {counts:?}");
        tokio::time::sleep(crate::POLL).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_goes_away_leaves_no_half_used_connection() {
    let Some(server) = or_skip(Postgres::shared()) else { return };
    let url = server.database();
    let store = open(config(&url)).await;
    for nth in 1..=100 {
        // Dropped at whatever point it has come to.
        let write = {
            let store = store.clone();
            tokio::spawn(async move { store.store().archive.write(batch(nth)).await })
        };
        for _ in 0..nth % 7 {
            tokio::task::yield_now().await;
        }
        write.abort();
        let _ = write.await;
        write_stubbornly(&store, &batch(nth)).await;
        assert_eq!(whole_batches(&store).await.unwrap(), nth);
    }
    let mut beside = connect(&url).await;
    let open = number(
        &mut beside,
        "SELECT count(*) FROM pg_stat_activity
         WHERE application_name = 'heddle' AND datname = current_database() AND xact_start < now() - interval '5 s'",
    );
    assert_eq!(open.await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_were_cut_while_they_lay_idle_cost_no_call() {
    let Some(server) = or_skip(Postgres::shared()) else { return };
    let url = server.database();
    let store = open(config(&url)).await;
    write_stubbornly(&store, &batch(1)).await;
    let mut beside = connect(&url).await;
    for _ in 0..5 {
        let cut = number(
            &mut beside,
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
             WHERE application_name = 'heddle' AND datname = current_database()",
        );
        assert!(cut.await > 0);
        assert_eq!(whole_batches(&store).await.unwrap(), 1);
    }
}

#[tokio::test]
async fn after_it_was_closed_everything_is_unavailable() {
    let Some(server) = or_skip(Postgres::shared()) else { return };
    let store = open(config(&server.database())).await;
    write_stubbornly(&store, &batch(1)).await;
    store.close().await;
    assert!(matches!(store.store().archive.cursors().await, Err(StoreError::Unavailable { .. })));
    assert!(matches!(store.store().archive.write(batch(2)).await, Err(StoreError::Unavailable { .. })));
}
