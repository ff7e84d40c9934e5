//! The store on SQLite: one file, one writer, a few readers.

mod archive;
mod catalog;
mod conversations;
mod courtesy;
mod denials;
mod devices;
mod directory;
mod epochs;
mod fault;
mod groups;
mod history;
mod lock;
mod members;
mod nodes;
mod open;
mod reader;
mod rebuild;
mod rows;
mod stream;
mod work;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;

use heddle_model::Clock;
use sqlx::sqlite::SqlitePoolOptions;

pub use open::OpenError;

use crate::Store;
use reader::Reader;
use writer::WriterHandle;

/// Where the database is and how it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreConfig {
    /// The file; beside it stand SQLite's own (`-wal`, `-shm`) and the lock (the same name ending in `.lock`).
    pub path: PathBuf,
    /// Connections that read, at least 1.
    pub readers: u32,
    /// Writes that may wait for the writer, at least 1; then callers wait, at most 5 s.
    pub queue_max: usize,
}

impl StoreConfig {
    /// This file, 4 readers, 256 waiting writes.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), readers: 4, queue_max: 256 }
    }
}

/// A store in one SQLite file: a cheap handle; the writing connection belongs to a task of its own.
#[derive(Clone)]
pub struct SqliteStore {
    writer: WriterHandle,
    reader: Reader,
}

impl SqliteStore {
    /// Opens the database, making and migrating it as needed. Runs inside a tokio runtime with time enabled.
    ///
    /// # Errors
    /// In use, not writable, full, of a newer version, foreign, damaged: each says what mends it.
    pub async fn open(config: StoreConfig, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let StoreConfig { path, readers, queue_max } = config;
        let lock = open::take(&path)?;
        let connection = open::prepare(&path, Arc::clone(&clock)).await?;
        let readers = readers.max(1);
        let pool = SqlitePoolOptions::new()
            .max_connections(readers)
            .connect_with(open::reader(&path))
            .await
            .map_err(|error| open::from_database(&path, "connect readers", error))?;
        let writer = writer::spawn(path, connection, lock, Arc::clone(&clock), queue_max);
        Ok(Self { writer, reader: Reader::new(pool, readers as usize, clock) })
    }

    /// All its ports.
    #[must_use]
    pub fn store(&self) -> Store {
        Store {
            archive: Arc::new(self.clone()),
            devices: Arc::new(self.clone()),
            directory: Arc::new(self.clone()),
            groups: Arc::new(self.clone()),
            denials: Arc::new(self.clone()),
            catalog: Arc::new(self.clone()),
            epochs: Arc::new(self.clone()),
            nodes: Arc::new(self.clone()),
            rebuild: Arc::new(self.clone()),
        }
    }

    /// Writes what was handed in, closes every connection and gives the lock back; everything later is unavailable.
    pub async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }
}

impl std::fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteStore").finish_non_exhaustive()
    }
}
