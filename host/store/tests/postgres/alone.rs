//! A node whose log is its own is alone on its database.

use std::sync::Arc;

use heddle_model::SystemClock;
use heddle_store::{PostgresConfig, PostgresError, PostgresStore, StoreError};
use heddle_test_servers::{Postgres, or_skip};
use sqlx::Executor as _;

use crate::{batch, config, connect, number, open, until, whole_batches, write_stubbornly};

fn alone(url: &str) -> PostgresConfig {
    PostgresConfig { alone: true, ..config(url) }
}

const CUT: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                   WHERE application_name = 'heddle' AND datname = current_database()";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_node_is_refused_until_the_first_has_closed() {
    let Some(server) = or_skip(Postgres::shared()) else { return };
    let url = server.database();
    let first = open(alone(&url)).await;
    write_stubbornly(&first, &batch(1)).await;
    let error = PostgresStore::open(alone(&url), Arc::new(SystemClock::new())).await.unwrap_err();
    assert!(matches!(&error, PostgresError::InUse { by, .. } if by.contains("127.0.0.1")), "{error}");
    first.close().await;
    assert_eq!(whole_batches(&open(alone(&url)).await).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_share_a_log_keep_a_repair_out_and_it_keeps_them_out() {
    let Some(server) = or_skip(Postgres::shared()) else { return };
    let url = server.database();
    let refused = async |config| {
        let opened = PostgresStore::open(config, Arc::new(SystemClock::new())).await;
        matches!(opened, Err(PostgresError::InUse { .. }))
    };
    let (first, second) = (open(config(&url)).await, open(config(&url)).await);
    assert!(refused(alone(&url)).await);
    first.close().await;
    assert!(refused(alone(&url)).await);
    second.close().await;
    let repair = open(alone(&url)).await;
    assert!(refused(config(&url)).await);
    repair.close().await;
    open(config(&url)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_sessions_were_cut_takes_its_database_again() {
    let Some(server) = or_skip(Postgres::shared()) else { return };
    let url = server.database();
    let first = open(alone(&url)).await;
    let mut beside = connect(&url).await;
    assert!(number(&mut beside, CUT).await > 0);
    write_stubbornly(&first, &batch(1)).await;
    until("it holds the lock again", async || {
        let held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted
                    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        number(&mut connect(&url).await, held).await == 1
    })
    .await;
    write_stubbornly(&first, &batch(2)).await;
    assert!(matches!(
        PostgresStore::open(alone(&url), Arc::new(SystemClock::new())).await,
        Err(PostgresError::InUse { .. })
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_lost_its_database_to_another_writes_no_more() {
    let Some(server) = or_skip(Postgres::shared()) else { return };
    let url = server.database();
    let first = open(alone(&url)).await;
    // The second is another user, so that only the first is cut, until the second was quicker.
    connect(&url).await.execute("CREATE ROLE second SUPERUSER LOGIN").await.unwrap();
    let second = {
        let url = url.replace("heddle@", "second@");
        tokio::spawn(async move {
            loop {
                if let Ok(store) = PostgresStore::open(alone(&url), Arc::new(SystemClock::new())).await {
                    return store;
                }
            }
        })
    };
    until("the second has it", async || {
        let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                   WHERE application_name = 'heddle' AND usename = 'heddle' AND datname = current_database()";
        number(&mut connect(&url).await, cut).await;
        second.is_finished()
    })
    .await;
    let second = second.await.unwrap();
    until("the first knows", async || {
        matches!(first.store().archive.write(batch(1)).await,
            Err(StoreError::Unavailable { reason, .. }) if reason.contains("another node"))
    })
    .await;
    write_stubbornly(&second, &batch(1)).await;
    assert_eq!(whole_batches(&second).await.unwrap(), 1);
}
