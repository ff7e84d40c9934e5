//! Why the store did not do it.

/// Why the store did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Not now: try again later.
    #[error("store does not answer to {operation}: {reason}")]
    Unavailable {
        /// What was asked.
        operation: &'static str,
        /// What happened.
        reason: String,
    },
    /// What it holds is not what this build wrote.
    #[error("store has a broken row in {table}: {reason}")]
    Broken {
        /// Where.
        table: &'static str,
        /// What is wrong.
        reason: String,
    },
}
