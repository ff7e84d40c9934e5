//! The archive's tables: made as the log grows, walked as one, dropped by an operator.

use heddle_model::Position;
use heddle_store::{ArchiveBatch, HistoryAnchor, PostgresConfig};
use heddle_test_servers::{Postgres, or_skip};
use sqlx::{Connection as _, Executor as _};

use crate::fixture::*;
use crate::{EVENTS, batch, config, connect, number, open, whole_batches, write_stubbornly};

fn short(url: &str, positions: u64) -> PostgresConfig {
    PostgresConfig { range_positions: positions, ..config(url) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archive_of_many_tables_of_changing_lengths_is_one_archive() {
    let Some(server) = or_skip(Postgres::shared()) else { return };
    let url = server.database();
    for (nth, positions) in (1..).zip([16, 64, 32, 1 << 20, 8, 1 << 22]) {
        let store = open(short(&url, positions)).await;
        for more in 1..=4 {
            write_stubbornly(&store, &batch(4 * (nth - 1) + more)).await;
        }
        assert_eq!(whole_batches(&store).await.unwrap(), 4 * nth);
        store.close().await;
    }
    // Another life of the log begins far above.
    let store = open(short(&url, 64)).await.store();
    let mut later = ArchiveBatch::default();
    direct(&mut later, Position::new(3, 5).0, 1_000, 1_000);
    store.archive.write(later).await.unwrap();
    let page = store.archive.stream(&user("bob"), home("bob"), at(24 * EVENTS), 10).await.unwrap();
    assert_eq!(page.rows.iter().map(|row| row.position).collect::<Vec<_>>(), [Position::new(3, 5)]);
    let page = history(&store, "bob", "user:alice", HistoryAnchor::Newest, 3).await;
    let last = 24 * EVENTS;
    assert_eq!(bodies(&page), [format!("m{}", last - 1), format!("m{last}"), "m1000".to_owned()]);
    let mut connection = connect(&url).await;
    assert!(number(&mut connection, "SELECT count(*) FROM archive_ranges").await > 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_tables_can_be_dropped_under_a_running_node() {
    let Some(server) = or_skip(Postgres::shared()) else { return };
    let url = server.database();
    let store = open(short(&url, 64)).await;
    let mut group = ArchiveBatch { groups: vec![made("g", 1, &["alice", "bob"])], ..ArchiveBatch::default() };
    for order in [30, 150] {
        pulled(&mut group, "g", order, "alice", 10_000 + order);
    }
    write_stubbornly(&store, &group).await;
    for nth in 1..=10 {
        write_stubbornly(&store, &batch(nth)).await;
    }
    // As ARCHITECTURE.md says it.
    let mut connection = connect(&url).await;
    let mut drop = connection.begin().await.unwrap();
    drop.execute("DELETE FROM pulled WHERE ord < 64").await.unwrap();
    drop.execute("DROP TABLE records_0, stream_0").await.unwrap();
    drop.execute("DELETE FROM archive_ranges WHERE low = 0").await.unwrap();
    drop.commit().await.unwrap();
    let archive = store.store().archive;
    let page = archive.stream(&user("bob"), home("bob"), at(0), 1_000).await.unwrap();
    assert_eq!(page.rows.first().map(|row| row.position), Some(at(64)));
    assert_eq!(page.rows.last().map(|row| row.position), Some(at(200)));
    let page = history(&store.store(), "bob", "group:g", HistoryAnchor::Newest, 10).await;
    assert_eq!(bodies(&page), ["m10150"]);
    assert_eq!(history(&store.store(), "bob", "user:alice", HistoryAnchor::Newest, 1_000).await.rows.len(), 137);
    assert_eq!(archive.conversations(&user("bob"), home("bob"), 10).await.unwrap().len(), 2);
    // An archive that is rebuilt from a log that still has them finds their tables gone, and makes them.
    for nth in 1..=10 {
        write_stubbornly(&store, &batch(nth)).await;
    }
    assert_eq!(whole_batches(&store).await.unwrap(), 10);
}
