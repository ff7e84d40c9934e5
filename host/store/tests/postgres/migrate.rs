//! The schema: made once, by whoever comes first, and refused when it is newer.

use std::process::{Command, Stdio};
use std::sync::Arc;

use heddle_model::SystemClock;
use heddle_store::{PostgresError, PostgresStore};
use heddle_test_servers::{Postgres, or_skip};
use sqlx::Connection as _;
use sqlx::Executor as _;

use crate::{batch, config, connect, number, open, whole_batches, write_stubbornly};

/// Names the database for a process that opens it.
const OPENER: &str = "HEDDLE_STORE_TEST_OPENER";

#[test]
fn processes_that_start_at_once_make_the_schema_once() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    if let Ok(url) = std::env::var(OPENER) {
        return runtime.block_on(async {
            let store = open(config(&url)).await;
            // The first tables of the archive, too, are made by all at once.
            write_stubbornly(&store, &batch(1)).await;
            store.close().await;
        });
    }
    let Some(server) = or_skip(Postgres::shared()) else { return };
    for _ in 0..3 {
        let url = server.database();
        let processes: Vec<_> = (0..4)
            .map(|_| {
                Command::new(std::env::current_exe().unwrap())
                    .args(["--exact", "migrate::processes_that_start_at_once_make_the_schema_once"])
                    .env(OPENER, &url)
                    .stdout(Stdio::piped())
                    .spawn()
                    .unwrap()
            })
            .collect();
        for process in processes {
            let output = process.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        }
        runtime.block_on(async {
            let mut connection = connect(&url).await;
            // Each step once.
            let newest = number(&mut connection, "SELECT max(version) FROM heddle_schema").await;
            assert!(newest >= 2, "{newest}");
            assert_eq!(number(&mut connection, "SELECT count(*) FROM heddle_schema").await, newest);
            assert_eq!(number(&mut connection, "SELECT count(*) FROM archive_ranges").await, 1);
            assert_eq!(whole_batches(&open(config(&url)).await).await.unwrap(), 1);
        });
    }
}

#[tokio::test]
async fn a_schema_of_a_newer_build_is_refused_and_left_alone() {
    let Some(server) = or_skip(Postgres::shared()) else { return };
    let url = server.database();
    let store = open(config(&url)).await;
    write_stubbornly(&store, &batch(1)).await;
    store.close().await;
    let mut connection = connect(&url).await;
    connection.execute("INSERT INTO heddle_schema (version) VALUES (99)").await.unwrap();
    let error = PostgresStore::open(config(&url), Arc::new(SystemClock::new())).await.unwrap_err();
    assert!(matches!(error, PostgresError::Newer { found: 99, .. }), "{error}");
    assert!(error.to_string().contains("run a newer heddle"), "{error}");
    connection.execute("DELETE FROM heddle_schema WHERE version = 99").await.unwrap();
    assert_eq!(whole_batches(&open(config(&url)).await).await.unwrap(), 1);
}

#[tokio::test]
async fn databases_that_are_not_fit_are_refused_in_words() {
    let Some(server) = or_skip(Postgres::shared()) else { return };
    let mut connection = connect(&server.url("postgres")).await;
    let cases = [
        ("CREATE DATABASE latin ENCODING LATIN1 TEMPLATE template0", "latin", "UTF8"),
        ("CREATE DATABASE lossy", "lossy", "synchronous_commit"),
        ("CREATE DATABASE closed ALLOW_CONNECTIONS false", "closed", "pg_hba.conf"),
    ];
    for (make, name, word) in cases {
        connection.execute(make).await.unwrap();
        if name == "lossy" {
            connection.execute("ALTER DATABASE lossy SET synchronous_commit = off").await.unwrap();
        }
        let error = PostgresStore::open(config(&server.url(name)), Arc::new(SystemClock::new())).await.unwrap_err();
        assert!(error.to_string().contains(word), "{name}: {error}");
    }
    connection.close().await.unwrap();
}
