//! Opening a database: connect, check the server, migrate; each failure with what mends it.

use std::str::FromStr as _;
use std::time::Duration;

use sqlx::Connection as _;
use sqlx::postgres::{PgConnectOptions, PgConnection};

use super::fault::state;
use super::{BATCH_DEADLINES, PostgresConfig, migrate};

/// The oldest server that this is tried with: `server_version_num`.
const SERVER_MIN: i32 = 130_000;

/// Why a database did not open. None of the texts holds the URL: it has a password.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// The URL is none.
    #[error(
        "the URL of the store is not one of Postgres: {reason}; write it like postgres://USER:PASSWORD@HOST:5432/DATABASE"
    )]
    Url {
        /// What is wrong with it.
        reason: String,
    },
    /// Nobody answers, or not in time.
    #[error(
        "store at {server} does not answer: {reason}; start Postgres, or check host and port of the URL and the network between"
    )]
    Unreachable {
        /// Host and port.
        server: String,
        /// What the system said.
        reason: String,
    },
    /// The server does not let us in.
    #[error(
        "store at {server} refuses us: {reason}; check user, password and database of the URL, and the server's pg_hba.conf"
    )]
    Refused {
        /// Host and port.
        server: String,
        /// What the server said.
        reason: String,
    },
    /// We do not believe the server, it does not believe us, or only one of us speaks TLS.
    #[error("{key}: store at {server} and this node do not agree on TLS: {reason}; {remedy}")]
    Tls {
        /// Host and port.
        server: String,
        /// The key that most likely is wrong.
        key: String,
        /// What went wrong.
        reason: String,
        /// What mends it.
        remedy: String,
    },
    /// A newer build wrote it.
    #[error(
        "store at {server} has schema version {found}, this build knows up to {known}: run a newer heddle, or restore a backup that this one wrote"
    )]
    Newer {
        /// Host and port.
        server: String,
        /// Its version.
        found: i64,
        /// The newest that this build knows.
        known: i64,
    },
    /// Another node has it.
    #[error("store at {server} is in use by {by}: stop that first, or give this node a database of its own")]
    InUse {
        /// Host and port.
        server: String,
        /// Who, as the server sees it.
        by: String,
    },
    /// The server or the database is not fit for it.
    #[error("store at {server} cannot be used: {reason}")]
    Unfit {
        /// Host and port.
        server: String,
        /// Why, and what mends it.
        reason: String,
    },
    /// One of several databases, whose key this is.
    #[error("{key}: {error}")]
    Part {
        /// Which.
        key: String,
        /// What is wrong with it.
        error: Box<PostgresError>,
    },
    /// Something else in the database.
    #[error("store at {server} does not open at {operation}: {reason}; see the server's log")]
    Database {
        /// Host and port.
        server: String,
        /// At which step.
        operation: &'static str,
        /// What the server said.
        reason: String,
    },
}

/// What was found out.
pub(super) struct Opened {
    /// How to connect.
    pub(super) options: PgConnectOptions,
    /// Host and port.
    pub(super) place: String,
    /// The server's version.
    pub(super) server: String,
}

/// Connects once, checks, migrates.
pub(super) async fn open(config: &PostgresConfig) -> Result<Opened, PostgresError> {
    let options =
        PgConnectOptions::from_str(&config.url).map_err(|error| PostgresError::Url { reason: error.to_string() })?;
    let server = place(&options);
    let options = tuned(config.tls.applied(options, &server, &config.key)?, config.deadline);
    let connected = tokio::time::timeout(config.deadline, PgConnection::connect_with(&options)).await;
    let mut connection = match connected {
        Ok(connected) => connected.map_err(|error| {
            config.tls.refused(&server, &config.key, &error).unwrap_or_else(|| at(&server, "connect", &error))
        })?,
        Err(_) => {
            let reason = format!("no answer within {} ms", config.deadline.as_millis());
            return Err(PostgresError::Unreachable { server, reason });
        }
    };
    let version = check(&mut connection, &server).await?;
    migrate::migrate(&mut connection, &server).await?;
    // Nothing depends on how it ends.
    let _ = tokio::time::timeout(config.deadline, connection.close()).await;
    Ok(Opened { options, place: server, server: version })
}

/// Settings of each session.
fn tuned(options: PgConnectOptions, deadline: Duration) -> PgConnectOptions {
    let (batch_ms, call_ms) = ((deadline * BATCH_DEADLINES).as_millis(), deadline.as_millis());
    options.application_name("heddle").options([
        // What a node left behind that died without a word ends, and with it its locks.
        ("statement_timeout", batch_ms.to_string()),
        ("idle_in_transaction_session_timeout", call_ms.to_string()),
        ("tcp_keepalives_idle", "10".to_owned()),
        ("tcp_keepalives_interval", "5".to_owned()),
        ("tcp_keepalives_count", "3".to_owned()),
        // Every statement is a few steps into an index. A range's new tables have no statistics yet, and without them
        // the planner takes scans and hash joins to be cheap.
        ("enable_seqscan", "off".to_owned()),
        ("enable_hashjoin", "off".to_owned()),
        ("enable_mergejoin", "off".to_owned()),
        ("plan_cache_mode", "force_generic_plan".to_owned()),
        ("jit", "off".to_owned()),
    ])
}

/// Host and port, for people.
pub(super) fn place(options: &PgConnectOptions) -> String {
    match options.get_socket() {
        Some(socket) => format!("{}:{}", socket.display(), options.get_port()),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    }
}

/// The server's version, if it and the database are fit.
async fn check(connection: &mut PgConnection, server: &str) -> Result<String, PostgresError> {
    let unfit = |reason: String| PostgresError::Unfit { server: server.to_owned(), reason };
    let row: (i32, String, String, String, bool) = sqlx::query_as(
        "SELECT current_setting('server_version_num')::int, current_setting('server_version'),
                current_setting('server_encoding'), current_setting('synchronous_commit'), pg_is_in_recovery()",
    )
    .fetch_one(&mut *connection)
    .await
    .map_err(|error| at(server, "read its version", &error))?;
    let (number, version, encoding, commit, standby) = row;
    if number < SERVER_MIN {
        return Err(unfit(format!("it is Postgres {version}, heddle needs {} or newer", SERVER_MIN / 10_000)));
    }
    if encoding != "UTF8" {
        return Err(unfit(format!(
            "its encoding is {encoding}: make a database with `createdb --encoding UTF8 --template template0`"
        )));
    }
    if commit == "off" {
        return Err(unfit(
            "synchronous_commit is off, so that a crash would take back what was said to be written: set it to on for this database or role".to_owned(),
        ));
    }
    if standby {
        return Err(unfit("it is a standby, which cannot be written: give the primary's address".to_owned()));
    }
    Ok(version)
}

/// Sorts a database error by who must act.
pub(super) fn at(server: &str, operation: &'static str, error: &sqlx::Error) -> PostgresError {
    let (server, reason) = (server.to_owned(), error.to_string());
    match (error, state(error).as_deref()) {
        (sqlx::Error::Configuration(_), _) => PostgresError::Url { reason },
        // 28: authorization; 3D000: no such database; 55000: one that takes no connections; 42501: not permitted.
        (_, Some(state)) if state.starts_with("28") || matches!(state, "3D000" | "55000" | "42501") => {
            PostgresError::Refused { server, reason }
        }
        (_, Some(state)) if state.starts_with("57P0") || state == "53300" => {
            PostgresError::Unreachable { server, reason }
        }
        (sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_), _) => {
            PostgresError::Unreachable { server, reason }
        }
        _ => PostgresError::Database { server, operation, reason },
    }
}
