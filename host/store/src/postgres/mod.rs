//! The store on Postgres: one database for any number of nodes, a few connections of each, everything bounded by a deadline.

mod archive;
mod breaker;
mod catalog;
mod columns;
mod connections;
mod conversations;
mod denials;
mod devices;
mod directory;
mod epochs;
mod fault;
mod groups;
mod history;
mod mark;
mod members;
mod migrate;
mod nodes;
mod open;
mod owner;
mod ranges;
mod rebuild;
mod shards;
mod stream;
mod text;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use heddle_model::Clock;

pub use open::PostgresError;
pub use shards::PostgresShards;
pub use tls::PostgresTls;

use crate::Store;
use connections::Connections;
use owner::Owner;
use ranges::Ranges;

/// A batch of the archiver may take so many deadlines: nobody waits for it.
const BATCH_DEADLINES: u32 = 6;
/// What walks through whole tables, while no server runs, may take so long.
const LONG: Duration = Duration::from_secs(24 * 60 * 60);

/// Where the database is and how it is used.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresConfig {
    /// `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, or with a directory of a Unix socket: `postgres:///DATABASE?host=/run/postgresql`.
    pub url: String,
    /// The key of the configuration that says so, for people.
    pub key: String,
    /// What connections are encrypted with, where the URL's `sslmode` does not say it all.
    pub tls: PostgresTls,
    /// Connections of this process, at least 1.
    pub connections_max: u32,
    /// How long a call may take, the wait for a connection included; a batch of the archiver six times that.
    pub deadline: Duration,
    /// Positions of each partition of the log that share a table of the archive, a power of two. What stands in older tables stays there.
    pub range_positions: u64,
    /// Nobody else may use the database meanwhile: the log is this node's own, or the archive is repaired.
    pub alone: bool,
}

impl PostgresConfig {
    /// This database, 16 connections, 5 s, 2^22 positions, any number of nodes.
    #[must_use]
    pub fn at(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            key: "store.url".to_owned(),
            tls: PostgresTls::default(),
            connections_max: 16,
            deadline: Duration::from_secs(5),
            range_positions: 1 << 22,
            alone: false,
        }
    }
}

impl std::fmt::Debug for PostgresConfig {
    /// Without the URL: it holds a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresConfig")
            .field("key", &self.key)
            .field("connections_max", &self.connections_max)
            .field("deadline", &self.deadline)
            .field("range_positions", &self.range_positions)
            .field("alone", &self.alone)
            .finish_non_exhaustive()
    }
}

/// A store in a Postgres database: a cheap handle.
#[derive(Clone)]
pub struct PostgresStore {
    connections: Connections,
    ranges: Arc<Ranges>,
    /// Host and port, for people.
    place: Arc<str>,
    server: Arc<str>,
    owner: Arc<Owner>,
}

impl PostgresStore {
    /// Connects, checks the server, makes and migrates the schema as needed. Runs inside a tokio runtime with time enabled.
    ///
    /// # Errors
    /// Not there, not allowed, in use, of a newer version, not fit for it, one of several: each says what mends it.
    pub async fn open(config: PostgresConfig, clock: Arc<dyn Clock>) -> Result<Self, PostgresError> {
        let store = Self::connect(config, clock).await?;
        store.must_be_whole().await?;
        Ok(store)
    }

    /// Whatever part of a store it is.
    async fn connect(config: PostgresConfig, clock: Arc<dyn Clock>) -> Result<Self, PostgresError> {
        let opened = open::open(&config).await?;
        let owner = Arc::new(Owner::take(&opened.options, config.deadline, config.alone).await?);
        Ok(Self {
            connections: Connections::new(opened.options, config.connections_max, config.deadline, clock),
            ranges: Arc::new(Ranges::new(config.range_positions)),
            place: opened.place.into(),
            server: opened.server.into(),
            owner,
        })
    }

    /// The server's version, as it told it.
    #[must_use]
    pub fn server_version(&self) -> &str {
        &self.server
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

    /// Waits for what was handed in, at most a deadline, and closes every connection; everything later is unavailable.
    pub async fn close(&self) {
        self.connections.close().await;
        self.owner.release();
    }
}

impl std::fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresStore").field("server", &self.server).finish_non_exhaustive()
    }
}
