//! Postgres' errors, sorted by who must act, by SQLSTATE (Appendix A of its manual).

use crate::StoreError;
use crate::fault::{Fault, unavailable};

/// Says which operation it was.
pub(super) fn of(fault: Fault, operation: &'static str) -> StoreError {
    let error = match fault {
        Fault::Broken { table, reason } => return StoreError::Broken { table, reason },
        Fault::Late => return unavailable(operation, "the log was cut anew, which this node does not know yet"),
        Fault::Database(error) => error,
    };
    let state = state(&error).unwrap_or_default();
    match state.get(..2).unwrap_or_default() {
        // A constraint, or a value that its column does not hold: trying again changes nothing.
        "22" | "23" => StoreError::Broken { table: operation, reason: error.to_string() },
        _ if state == DISK_FULL => unavailable(operation, "the server's disk is full, free some space"),
        _ if state == READ_ONLY => unavailable(operation, "the server is read-only, is it a standby?"),
        _ => unavailable(operation, &error.to_string()),
    }
}

const DISK_FULL: &str = "53100";
const READ_ONLY: &str = "25006";
const SERIALIZATION_FAILURE: &str = "40001";
const DEADLOCK: &str = "40P01";
const CHECK_VIOLATION: &str = "23514";

/// The SQLSTATE, if the server gave one.
pub(super) fn state(error: &sqlx::Error) -> Option<String> {
    error.as_database_error()?.code().map(|code| code.into_owned())
}

/// Two transactions were in each other's way: the same again may go through.
pub(super) fn collided(fault: &Fault) -> bool {
    match fault {
        Fault::Database(error) => matches!(state(error).as_deref(), Some(SERIALIZATION_FAILURE | DEADLOCK)),
        Fault::Broken { .. } | Fault::Late => false,
    }
}

/// A row has no table of its range.
pub(super) fn without_range(fault: &Fault) -> bool {
    match fault {
        Fault::Database(error) => {
            let constraint = error.as_database_error().and_then(|error| error.constraint());
            constraint.is_none() && state(error).as_deref() == Some(CHECK_VIOLATION)
        }
        Fault::Broken { .. } | Fault::Late => false,
    }
}

/// The server did not say anything about the statement: the connection is gone, or the server is going or not there yet.
pub(super) fn away(error: &sqlx::Error) -> bool {
    match state(error) {
        // 08: connection; 57P0x: shutting down, crashed, starting up; 53300: too many connections.
        Some(state) => state.starts_with("08") || state.starts_with("57P0") || state == "53300",
        None => !matches!(
            error,
            sqlx::Error::RowNotFound
                | sqlx::Error::ColumnNotFound(_)
                | sqlx::Error::ColumnDecode { .. }
                | sqlx::Error::Decode(_)
                | sqlx::Error::Encode(_)
                | sqlx::Error::TypeNotFound { .. }
        ),
    }
}
