//! What goes wrong inside a backend, before it is known which operation it was.

use crate::StoreError;

/// A database error, or a row that does not read back.
#[derive(Debug)]
pub(crate) enum Fault {
    Database(sqlx::Error),
    Broken {
        table: &'static str,
        reason: String,
    },
    /// The writer does not know yet that the log has another epoch.
    Late,
}

impl Fault {
    pub(crate) fn broken(table: &'static str, reason: impl Into<String>) -> Self {
        Self::Broken { table, reason: reason.into() }
    }
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

/// Not now.
pub(crate) fn unavailable(operation: &'static str, reason: &str) -> StoreError {
    StoreError::Unavailable { operation, reason: reason.to_owned() }
}
