//! SQLite's errors, sorted by who must act.

use crate::StoreError;
use crate::fault::{Fault, unavailable};

/// SQLite's primary result codes (sqlite.org/rescode.html), the low byte of the extended ones.
pub(super) mod code {
    pub(crate) const PERM: i32 = 3;
    pub(crate) const READONLY: i32 = 8;
    pub(crate) const CORRUPT: i32 = 11;
    pub(crate) const FULL: i32 = 13;
    pub(crate) const CANTOPEN: i32 = 14;
    pub(crate) const CONSTRAINT: i32 = 19;
    pub(crate) const MISMATCH: i32 = 20;
    pub(crate) const NOTADB: i32 = 26;
    /// Extended: the shared-memory file could not grow, which is what a full disk does first.
    pub(crate) const IOERR_SHMSIZE: i32 = 4874;
}

/// Says which operation it was.
pub(super) fn of(fault: Fault, operation: &'static str) -> StoreError {
    match fault {
        Fault::Broken { table, reason } => StoreError::Broken { table, reason },
        Fault::Late => unavailable(operation, "the log was cut anew"),
        Fault::Database(error) => match sqlite_code(&error).map(|code| code & 0xff) {
            Some(code::CONSTRAINT | code::MISMATCH) => {
                StoreError::Broken { table: operation, reason: error.to_string() }
            }
            Some(code::FULL) => unavailable(operation, "the disk is full, free some space"),
            Some(code::READONLY) => unavailable(operation, "the database is read-only, check its permissions"),
            _ => unavailable(operation, &error.to_string()),
        },
    }
}

/// The extended result code, if SQLite gave one.
pub(super) fn sqlite_code(error: &sqlx::Error) -> Option<i32> {
    error.as_database_error()?.code()?.parse().ok()
}
