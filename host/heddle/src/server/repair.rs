//! Log and store, opened by a command that repairs what a server wrote: with the same locks, so that none runs meanwhile.

use std::sync::Arc;

use heddle_delivery::RebuildDeps;
use heddle_log::{EmbeddedLog, Identity, KafkaLog, KafkaReader, Log, LogReader, OpenError};
use heddle_model::{Clock, SystemClock};
use heddle_store::{OpenError as SqliteError, PostgresError};

use super::log::unopened;
use super::settings;
use super::store::OpenStore;
use crate::config::{Config, LogBackend, StoreBackend};
use crate::failure::Failure;
use crate::log_cat::LOG_DIR;

/// Nobody else has them.
pub struct Repair {
    log: Opened,
    store: OpenStore,
    clock: Arc<dyn Clock>,
}

enum Opened {
    Embedded(Arc<EmbeddedLog>),
    Kafka(Arc<KafkaLog>),
}

impl Repair {
    /// For the repair.
    pub fn deps(&self) -> RebuildDeps {
        let log: Arc<dyn Log> = match &self.log {
            Opened::Embedded(log) => Arc::clone(log) as Arc<dyn Log>,
            Opened::Kafka(log) => Arc::clone(log) as Arc<dyn Log>,
        };
        RebuildDeps { log, store: self.store.ports(), clock: Arc::clone(&self.clock) }
    }

    /// Lets go of both.
    pub async fn close(self) {
        let log = self.log;
        // It joins threads.
        let closed = tokio::task::spawn_blocking(move || match log {
            Opened::Embedded(log) => log.close(),
            Opened::Kafka(log) => log.close(),
        });
        if let Err(error) = closed.await {
            tracing::error!(%error, "the log did not close as it should");
        }
        self.store.close().await;
    }
}

/// Opens what the configuration names, if it is there and nobody uses it. Makes neither log nor topics.
///
/// # Errors
/// It is not there, a server runs, or it does not open.
pub async fn open(config: &Config) -> Result<Repair, Failure> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    match config.log.backend {
        LogBackend::Embedded => {
            let log = embedded(config, &clock).await?;
            let store = store(config, &clock).await?;
            Ok(Repair { log: Opened::Embedded(log), store, clock })
        }
        LogBackend::Kafka => {
            let store = store(config, &clock).await?;
            let log = kafka(config, &clock, &store).await?;
            Ok(Repair { log: Opened::Kafka(log), store, clock })
        }
    }
}

async fn embedded(config: &Config, clock: &Arc<dyn Clock>) -> Result<Arc<EmbeddedLog>, Failure> {
    let dir = config.node.data_dir.join(LOG_DIR);
    LogReader::open(&dir)
        .map_err(|error| Failure::missing(format!("{error}; name the data directory with --data, or --config")))?;
    let (settings, clock) = (settings::log(config), Arc::clone(clock));
    let opened = tokio::task::spawn_blocking(move || EmbeddedLog::open(settings, clock)).await;
    let opened = opened.map_err(|error| Failure::new(format!("opening the log failed: {error}")))?;
    opened.map_err(|error| match error {
        OpenError::InUse { pid, .. } => {
            Failure::new(format!("a server runs on {}, process {pid}: stop it first", config.node.data_dir.display()))
        }
        OpenError::Partitions { found, .. } => {
            Failure::usage(format!("{error}; without a file: --set log.partitions={found}"))
        }
        error => Failure::new(error.to_string()),
    })
}

/// Alone on it.
async fn store(config: &Config, clock: &Arc<dyn Clock>) -> Result<OpenStore, Failure> {
    let path = settings::sqlite(config).path;
    if config.store.backend == StoreBackend::Sqlite && !path.exists() {
        return Err(Failure::missing(format!(
            "there is no store at {}: start a server, which makes it",
            path.display()
        )));
    }
    OpenStore::open_alone(config, clock).await
}

async fn kafka(config: &Config, clock: &Arc<dyn Clock>, store: &OpenStore) -> Result<Arc<KafkaLog>, Failure> {
    let known = store.ports().epochs.newest().await.map_err(|error| Failure::new(error.to_string()))?;
    let known = known.map(|(identity, partitions)| (Identity(identity), partitions));
    // It works on nothing: it only reads, and judges duplicates as every node does. (DELIVERY 23)
    let settings = heddle_log::KafkaConfig { works: false, ..settings::kafka(config, known)? };
    let look = settings.clone();
    let looked = tokio::task::spawn_blocking(move || KafkaReader::open(look).map(drop)).await;
    let looked = looked.map_err(|error| Failure::new(error.to_string()))?;
    looked.map_err(|error| Failure::missing(error.to_string()))?;
    match KafkaLog::open(settings, Arc::clone(clock)).await {
        Ok(log) => Ok(log),
        Err(error) => Err(unopened(config, error).await),
    }
}

/// As a server meets it, a repair that runs on the same store.
pub(super) fn in_use_sqlite(error: &SqliteError) -> Option<Failure> {
    match error {
        SqliteError::InUse { path, pid } => {
            let by = pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
            Some(Failure::new(format!("a server uses {}, {by}: stop it first", path.display())))
        }
        _ => None,
    }
}

/// The same, of a database.
pub(super) fn in_use_postgres(error: &PostgresError) -> Option<Failure> {
    match error {
        PostgresError::InUse { server, by } => {
            Some(Failure::new(format!("a server uses the store at {server}, {by}: stop all of them first")))
        }
        PostgresError::Part { error, .. } => in_use_postgres(error),
        _ => None,
    }
}
