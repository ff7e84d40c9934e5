//! The store that the configuration names.

use std::sync::Arc;

use heddle_model::Clock;
use heddle_store::{PostgresConfig, PostgresError, PostgresShards, PostgresStore, SqliteStore, Store};

use super::{repair, settings};
use crate::config::{Config, StoreBackend};
use crate::failure::Failure;

/// An open store, whichever it is.
pub(super) enum OpenStore {
    Sqlite(SqliteStore),
    Postgres(PostgresStore),
    Shards(PostgresShards),
}

impl OpenStore {
    /// Opens it, and brings its schema up to date.
    pub(super) async fn open(config: &Config, clock: &Arc<dyn Clock>) -> Result<Self, Failure> {
        let clock = Arc::clone(clock);
        match config.store.backend {
            StoreBackend::Sqlite => {
                let opened = SqliteStore::open(settings::sqlite(config), clock).await;
                opened.map(Self::Sqlite).map_err(|error| Failure::new(error.to_string()))
            }
            StoreBackend::Postgres => postgres(config, clock, false).await.map_err(|error| refused(&error)),
        }
    }

    /// As [`open`](Self::open), with nobody else on it until it is closed.
    pub(super) async fn open_alone(config: &Config, clock: &Arc<dyn Clock>) -> Result<Self, Failure> {
        let clock = Arc::clone(clock);
        match config.store.backend {
            StoreBackend::Sqlite => {
                let opened = SqliteStore::open(settings::sqlite(config), clock).await.map(Self::Sqlite);
                opened.map_err(|error| repair::in_use_sqlite(&error).unwrap_or_else(|| Failure::new(error.to_string())))
            }
            StoreBackend::Postgres => {
                let opened = postgres(config, clock, true).await;
                opened.map_err(|error| repair::in_use_postgres(&error).unwrap_or_else(|| refused(&error)))
            }
        }
    }

    /// All its ports.
    pub(super) fn ports(&self) -> Store {
        match self {
            Self::Sqlite(store) => store.store(),
            Self::Postgres(store) => store.store(),
            Self::Shards(store) => store.store(),
        }
    }

    /// A log of so many partitions can be archived in it.
    pub(super) fn fits(&self, partitions: u32) -> Result<(), Failure> {
        let shards = self.ports().archive.shards();
        if partitions.is_multiple_of(shards) {
            return Ok(());
        }
        Err(Failure::usage(format!(
            "store.shards: {shards} databases, and the log has {partitions} partitions, which cannot be spread evenly: name a number of databases that divides {partitions}"
        )))
    }

    /// Writes what was handed in, and lets go of it.
    pub(super) async fn close(&self) {
        match self {
            Self::Sqlite(store) => store.close().await,
            Self::Postgres(store) => store.close().await,
            Self::Shards(store) => store.close().await,
        }
    }
}

/// `alone`: nobody else may have any of the databases.
async fn postgres(config: &Config, clock: Arc<dyn Clock>, alone: bool) -> Result<OpenStore, PostgresError> {
    let with = |settings: PostgresConfig| PostgresConfig { alone: alone || settings.alone, ..settings };
    let (main, shards) = (with(settings::postgres(config)), settings::shards(config));
    if shards.is_empty() {
        let store = PostgresStore::open(main, clock).await?;
        tracing::info!(server = store.server_version(), "store: Postgres");
        return Ok(OpenStore::Postgres(store));
    }
    let count = shards.len();
    let store = PostgresShards::open(main, shards.into_iter().map(with).collect(), clock).await?;
    tracing::info!(server = store.server_version(), shards = count, "store: Postgres");
    Ok(OpenStore::Shards(store))
}

/// A wrong URL is a wrong configuration; all else may be the other side's.
fn refused(error: &PostgresError) -> Failure {
    match error {
        PostgresError::Part { key, error } => refused_at(key, error),
        error => refused_at("store.url", error),
    }
}

fn refused_at(key: &str, error: &PostgresError) -> Failure {
    let text = format!("{key}: {error}");
    match error {
        PostgresError::Url { .. } => Failure::usage(text),
        // It names its own key.
        PostgresError::Tls { .. } => Failure::new(error.to_string()),
        _ => Failure::new(text),
    }
}
