//! The store that the configuration names.

use std::sync::Arc;

use heddle_model::Clock;
use heddle_store::{PostgresConfig, PostgresError, PostgresStore, SqliteStore, Store};

use super::{repair, settings};
use crate::config::{Config, StoreBackend};
use crate::failure::Failure;

/// An open store, whichever it is.
pub(super) enum OpenStore {
    Sqlite(SqliteStore),
    Postgres(PostgresStore),
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
            StoreBackend::Postgres => {
                let store =
                    PostgresStore::open(settings::postgres(config), clock).await.map_err(|error| refused(&error))?;
                tracing::info!(server = store.server_version(), "store: Postgres");
                Ok(Self::Postgres(store))
            }
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
                let settings = PostgresConfig { alone: true, ..settings::postgres(config) };
                let opened = PostgresStore::open(settings, clock).await.map(Self::Postgres);
                opened.map_err(|error| repair::in_use_postgres(&error).unwrap_or_else(|| refused(&error)))
            }
        }
    }

    /// All its ports.
    pub(super) fn ports(&self) -> Store {
        match self {
            Self::Sqlite(store) => store.store(),
            Self::Postgres(store) => store.store(),
        }
    }

    /// Writes what was handed in, and lets go of it.
    pub(super) async fn close(&self) {
        match self {
            Self::Sqlite(store) => store.close().await,
            Self::Postgres(store) => store.close().await,
        }
    }
}

/// A wrong URL is a wrong configuration; all else may be the other side's.
fn refused(error: &PostgresError) -> Failure {
    let text = format!("store.url: {error}");
    match error {
        PostgresError::Url { .. } => Failure::usage(text),
        // It names its own key.
        PostgresError::Tls { .. } => Failure::new(error.to_string()),
        _ => Failure::new(text),
    }
}
