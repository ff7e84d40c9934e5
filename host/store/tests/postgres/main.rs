//! What only the store on a server does: servers that stop, die and stall, writers beside each other, tables that come and go.
#![allow(clippy::print_stdout, reason = "a skip is printed")]

mod alone;
mod away;
#[allow(dead_code, reason = "the contract's suite uses all of it")]
#[path = "../contract/fixture.rs"]
mod fixture;
mod migrate;
mod ranges;
mod shards;
mod stall;
#[path = "../contract/steps.rs"]
mod steps;
mod walk;
mod writers;

use std::sync::Arc;
use std::time::Duration;

use heddle_model::SystemClock;
use heddle_store::{ArchiveBatch, PostgresConfig, PostgresStore, StoreError};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};

use fixture::*;

/// Events of a batch.
const EVENTS: u64 = 20;
/// Between two looks at a condition.
const POLL: Duration = Duration::from_millis(10);
/// Whatever takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);

fn config(url: &str) -> PostgresConfig {
    PostgresConfig { connections_max: 4, deadline: Duration::from_millis(1_000), ..PostgresConfig::at(url) }
}

async fn open(config: PostgresConfig) -> PostgresStore {
    PostgresStore::open(config, Arc::new(SystemClock::new())).await.unwrap()
}

/// A connection beside the store's.
async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.unwrap()
}

/// One number.
async fn number(connection: &mut PgConnection, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(connection).await.unwrap()
}

/// Every row of every table but those of the schema itself, as text.
async fn dump(url: &str) -> Vec<String> {
    let mut connection = connect(url).await;
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
         AND NOT relispartition AND relname NOT IN ('heddle_schema', 'archive_ranges', 'shards') ORDER BY 1",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    assert!(tables.len() > 15, "{tables:?}");
    let mut rows = Vec::new();
    for table in tables {
        let sql = format!("SELECT '{table}: ' || t::text FROM {table} t ORDER BY 1");
        rows.extend(sqlx::query_scalar::<_, String>(AssertSqlSafe(sql)).fetch_all(&mut connection).await.unwrap());
    }
    rows
}

/// The nth batch, from 1: its events, and a cursor at the last of them.
fn batch(nth: u64) -> ArchiveBatch {
    let last = nth * EVENTS;
    let mut batch = ArchiveBatch { cursors: vec![cursor(home("bob"), last)], ..ArchiveBatch::default() };
    for id in last - EVENTS + 1..=last {
        direct(&mut batch, id, id, id);
    }
    batch
}

/// How many batches are there, each whole, nothing twice.
async fn whole_batches(store: &PostgresStore) -> Result<u64, StoreError> {
    let page = store.store().archive.stream(&user("bob"), home("bob"), at(0), u32::MAX).await?;
    let positions: Vec<_> = page.rows.iter().map(|row| row.position.0).collect();
    assert_eq!(positions, (1..=page.archived.0).collect::<Vec<_>>(), "the cursor stands at {}", page.archived);
    assert_eq!(page.archived.0 % EVENTS, 0);
    Ok(page.archived.0 / EVENTS)
}

/// Waits until a condition holds.
async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(POLL).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "not within {PATIENCE:?}: {what}");
}

/// As the archiver does it: again and again until it is written. How often it was refused.
async fn write_stubbornly(store: &PostgresStore, batch: &ArchiveBatch) -> u64 {
    let mut refused = 0;
    loop {
        match store.store().archive.write(batch.clone()).await {
            Ok(()) => return refused,
            Err(StoreError::Unavailable { .. }) => refused += 1,
            Err(error) => panic!("{error}"),
        }
        tokio::time::sleep(POLL).await;
    }
}
