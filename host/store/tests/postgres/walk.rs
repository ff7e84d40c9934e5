//! What a resume, a page of history and an unread count cost: steps into an index, in tables of any size.

use heddle_store::HistoryAnchor;
use heddle_test_servers::{Postgres, or_skip};
use sqlx::Executor as _;

use crate::fixture::*;
use crate::{batch, config, connect, number, open, until, write_stubbornly};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_question_of_a_user_reads_a_table_from_end_to_end() {
    let Some(server) = or_skip(Postgres::shared()) else { return };
    let url = server.database();
    let writing = open(heddle_store::PostgresConfig { range_positions: 512, ..config(&url) }).await;
    for nth in 1..=60 {
        write_stubbornly(&writing, &batch(nth)).await;
    }
    writing.close().await;
    // A session tells its counts at its end, which comes a little later: those of the writers must not come after the reset.
    until("the writers' sessions are over", async || number(&mut connect(&url).await, SESSIONS).await == 0).await;
    let mut connection = connect(&url).await;
    connection.execute("SELECT pg_stat_reset()").await.unwrap();

    let reading = open(config(&url)).await;
    let store = reading.store();
    let page = store.archive.stream(&user("bob"), home("bob"), at(700), 200).await.unwrap();
    assert_eq!(page.rows.len(), 200);
    let page = history(&store, "bob", "user:alice", HistoryAnchor::Newest, 50).await;
    assert_eq!((page.rows.len(), page.more), (50, true));
    let page = history(&store, "bob", "user:alice", HistoryAnchor::Before(message_id(600)), 50).await;
    assert_eq!(bodies(&page).last(), Some(&"m599"));
    store.devices.save_read(&user("bob"), &conversation("user:alice"), at(1_000)).await.unwrap();
    let listed = store.archive.conversations(&user("bob"), home("bob"), 50).await.unwrap();
    assert_eq!(listed[0].unread, 200);
    assert!(store.archive.message(&message_id(77)).await.unwrap().is_some());
    assert!(store.archive.record(home("bob"), at(1_111)).await.unwrap().is_some());
    // A session tells its counts at its end.
    reading.close().await;

    let counts = async |column: &'static str| number(&mut connect(&url).await, column).await;
    until("the counts have come", async || counts(INDEX_SCANS).await > 100).await;
    assert_eq!(counts(TABLE_SCANS).await, 0);
}

const SESSIONS: &str = "SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()";
const INDEX_SCANS: &str =
    "SELECT coalesce(sum(idx_scan), 0)::bigint FROM pg_stat_user_tables WHERE relname ~ '^(records|stream)_[0-9]+$'";
const TABLE_SCANS: &str =
    "SELECT coalesce(sum(seq_scan), 0)::bigint FROM pg_stat_user_tables WHERE relname ~ '^(records|stream)_[0-9]+$'";
