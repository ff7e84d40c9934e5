//! Opening a database: lock, check, migrate, connect; each failure with what mends it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use heddle_model::Clock;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{Connection as _, Executor as _};

use super::courtesy::give_way;
use super::fault::{code, sqlite_code};
use super::lock::{Lock, LockError};

/// In the file's header: this database is a Heddle store ("HDLE").
const APPLICATION_ID: i64 = 1_212_435_525;

/// Each brings the schema from its index to the next version, and says so in `user_version`.
const MIGRATIONS: [&str; 7] = [
    include_str!("../../migrations/0001_archive.sql"),
    include_str!("../../migrations/0002_holes.sql"),
    include_str!("../../migrations/0003_derived.sql"),
    include_str!("../../migrations/0004_nodes.sql"),
    include_str!("../../migrations/0005_starts.sql"),
    include_str!("../../migrations/0006_denials.sql"),
    include_str!("../../migrations/0007_replays.sql"),
];

/// How long SQLite waits for its own locks. There is one writer, so only a checkpoint makes it wait.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a database did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("store {} is in use by {}, stop that first or give another data directory", path.display(), holder(*pid))]
    InUse {
        /// The database.
        path: PathBuf,
        /// The process that has it, if it said so.
        pid: Option<u32>,
    },
    /// A file stands where its directory should be.
    #[error("data directory {} is not a directory, give another data directory", path.display())]
    NoDirectory {
        /// The file.
        path: PathBuf,
    },
    /// It, or its directory, cannot be written.
    #[error("store {} is not writable: {reason}; give this user the right to write there (chown, chmod, a mount without ro) or give another data directory", path.display())]
    ReadOnly {
        /// The database.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// No space left.
    #[error("store {} has no space left on its disk, free some or give another data directory", path.display())]
    Full {
        /// The database.
        path: PathBuf,
    },
    /// A newer build wrote it.
    #[error("store {} has schema version {found}, this build knows up to {known}: run a newer heddle, or restore a backup that this one wrote", path.display())]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest that this build knows.
        known: i64,
    },
    /// It is something else.
    #[error("{} is not a heddle store: {reason}; give another data directory", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// How that shows.
        reason: String,
    },
    /// It is broken.
    #[error("store {} is damaged: {reason}; restore a backup, or move it away to rebuild what the log still has", path.display())]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        reason: String,
    },
    /// Something else on the file system.
    #[error("store {} does not open: {source}; check its disk, or give another data directory", path.display())]
    Io {
        /// The database, or what of it failed.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something else in the database.
    #[error("store {} does not open at {operation}: {source}; check its disk, or restore a backup", path.display())]
    Database {
        /// The database.
        path: PathBuf,
        /// At which step.
        operation: &'static str,
        /// What SQLite said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

/// Makes the directory, if it is not there, and takes the lock.
pub(super) fn take(path: &Path) -> Result<Lock, OpenError> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(|error| {
            match path.ancestors().skip(1).find(|above| above.is_file()) {
                Some(file) => OpenError::NoDirectory { path: file.to_owned() },
                None => from_io(path, error),
            }
        })?;
    }
    if path.is_dir() {
        return Err(OpenError::Foreign { path: path.to_owned(), reason: "it is a directory".to_owned() });
    }
    refuse_short(path)?;
    Lock::take(path).map_err(|error| match error {
        LockError::Held(pid) => OpenError::InUse { path: path.to_owned(), pid },
        LockError::Io(error) => from_io(path, error),
    })
}

/// SQLite takes a file that is shorter than its header for an empty database, and would write over it.
fn refuse_short(path: &Path) -> Result<(), OpenError> {
    const HEADER_BYTES: u64 = 100;
    let short = std::fs::metadata(path).is_ok_and(|about| (1..HEADER_BYTES).contains(&about.len()));
    if short && std::fs::read(path).is_ok_and(|bytes| bytes.iter().any(|&byte| byte != 0)) {
        let reason = format!("it has less than the {HEADER_BYTES} bytes of a database's header");
        return Err(OpenError::Foreign { path: path.to_owned(), reason });
    }
    Ok(())
}

/// Connects the writer, refuses what is not ours or too new, and brings the schema up to date.
pub(super) async fn prepare(path: &Path, clock: Arc<dyn Clock>) -> Result<SqliteConnection, OpenError> {
    let at = |operation| move |error| from_database(path, operation, error);
    // Nothing is written before we know that the file is ours: no journal mode yet.
    let bare = SqliteConnectOptions::new().filename(path).create_if_missing(true).busy_timeout(BUSY_TIMEOUT);
    let mut connection = SqliteConnection::connect_with(&bare).await.map_err(at("connect"))?;
    let version = version(path, &mut connection).await?;
    tune(&mut connection, clock).await.map_err(at("set up"))?;
    for migration in MIGRATIONS.iter().copied().skip(version) {
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(at("migrate"))?;
        transaction.execute(sqlx::raw_sql(migration)).await.map_err(at("migrate"))?;
        transaction.commit().await.map_err(at("migrate"))?;
    }
    Ok(connection)
}

/// The writer's connection to a database that [`prepare`] has seen.
pub(super) async fn connect_writer(path: &Path, clock: Arc<dyn Clock>) -> Result<SqliteConnection, sqlx::Error> {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(false).busy_timeout(BUSY_TIMEOUT);
    let mut connection = SqliteConnection::connect_with(&options).await?;
    tune(&mut connection, clock).await?;
    Ok(connection)
}

/// A reader's connection.
pub(super) fn reader(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .read_only(true)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("cache_size", "-16384")
        .pragma("temp_store", "memory")
}

/// WAL with a sync at each commit; a larger cache and rarer checkpoints than SQLite's defaults; gives way to whoever delivers.
async fn tune(connection: &mut SqliteConnection, clock: Arc<dyn Clock>) -> Result<(), sqlx::Error> {
    connection
        .execute(sqlx::raw_sql(
            "PRAGMA journal_mode = WAL;
             PRAGMA synchronous = FULL;
             PRAGMA cache_size = -65536;
             PRAGMA temp_store = memory;
             PRAGMA wal_autocheckpoint = 16000;
             PRAGMA journal_size_limit = 67108864;",
        ))
        .await?;
    give_way(connection, clock).await
}

/// The schema's version; 0 for an empty file.
async fn version(path: &Path, connection: &mut SqliteConnection) -> Result<usize, OpenError> {
    let read = async |connection: &mut SqliteConnection| -> Result<(i64, i64, i64), sqlx::Error> {
        let application: i64 = sqlx::query_scalar("PRAGMA application_id").fetch_one(&mut *connection).await?;
        let version: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut *connection).await?;
        let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_schema").fetch_one(&mut *connection).await?;
        Ok((application, version, tables))
    };
    let (application, found, tables) =
        read(connection).await.map_err(|error| from_database(path, "read its version", error))?;
    if application == 0 && tables == 0 && found == 0 {
        return Ok(0);
    }
    if application != APPLICATION_ID {
        let reason = format!("a database with application id {application} and {tables} tables and indexes");
        return Err(OpenError::Foreign { path: path.to_owned(), reason });
    }
    let known = MIGRATIONS.len();
    match usize::try_from(found) {
        Ok(found) if found <= known => Ok(found),
        _ => Err(OpenError::Newer { path: path.to_owned(), found, known: known as i64 }),
    }
}

fn from_io(path: &Path, error: io::Error) -> OpenError {
    use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    match error.kind() {
        PermissionDenied | ReadOnlyFilesystem => {
            OpenError::ReadOnly { path: path.to_owned(), reason: error.to_string() }
        }
        StorageFull | QuotaExceeded => OpenError::Full { path: path.to_owned() },
        _ => OpenError::Io { path: path.to_owned(), source: error },
    }
}

/// Sorts a database error by who must act.
pub(super) fn from_database(path: &Path, operation: &'static str, error: sqlx::Error) -> OpenError {
    let extended = sqlite_code(&error).unwrap_or(0);
    let (path, reason) = (path.to_owned(), error.to_string());
    match extended & 0xff {
        _ if extended == code::IOERR_SHMSIZE => OpenError::Full { path },
        code::FULL => OpenError::Full { path },
        code::READONLY | code::CANTOPEN | code::PERM => OpenError::ReadOnly { path, reason },
        code::NOTADB => OpenError::Foreign { path, reason },
        code::CORRUPT => OpenError::Damaged { path, reason },
        _ => OpenError::Database { path, operation, source: Box::new(error) },
    }
}
