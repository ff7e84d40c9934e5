//! What only the store in a file does: what it holds in the end whatever was written twice, restarts, kills, files that are no store.
#![allow(clippy::print_stdout, reason = "a skip is printed, and a process that is to be killed tells how far it is")]

mod courtesy;
#[allow(dead_code, reason = "the contract's suite uses all of it")]
#[path = "../contract/fixture.rs"]
mod fixture;
mod groups;
mod kill;
mod open;
#[path = "../contract/steps.rs"]
mod steps;
mod twice;

use std::path::Path;
use std::sync::Arc;

use heddle_model::SystemClock;
use heddle_store::{OpenError, SqliteStore, StoreConfig};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection as _};

async fn try_open(path: &Path) -> Result<SqliteStore, OpenError> {
    let config = StoreConfig { readers: 1, ..StoreConfig::at(path) };
    SqliteStore::open(config, Arc::new(SystemClock::new())).await
}

async fn open(path: &Path) -> SqliteStore {
    try_open(path).await.unwrap()
}

/// Every row of every table, as text.
async fn dump(path: &Path) -> Vec<String> {
    let options = SqliteConnectOptions::new().filename(path).read_only(true);
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    let tables: Vec<String> = sqlx::query_scalar("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
        .fetch_all(&mut connection)
        .await
        .unwrap();
    let mut rows = Vec::new();
    for table in tables {
        let columns: Vec<String> = sqlx::query_scalar("SELECT name FROM pragma_table_info(?1)")
            .bind(&table)
            .fetch_all(&mut connection)
            .await
            .unwrap();
        let columns: Vec<_> = columns.iter().map(|name| format!("'{name} ' || quote({name})")).collect();
        let sql = format!("SELECT '{table}: ' || {} FROM {table} ORDER BY 1", columns.join(" || ', ' || "));
        rows.extend(sqlx::query_scalar::<_, String>(AssertSqlSafe(sql)).fetch_all(&mut connection).await.unwrap());
    }
    rows
}

/// Runs a case of a property.
fn run(case: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(case);
}
