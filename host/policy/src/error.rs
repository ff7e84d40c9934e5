use heddle_store::StoreError;

/// Why the policy set cannot be loaded: all problems at once. For the operator.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Plugins or chains that cannot serve, one problem a line.
    #[error("policies cannot be loaded, {} problem(s):\n  {}", problems.len(), problems.join("\n  "))]
    Refused {
        /// Each names its hook and file.
        problems: Vec<String>,
    },
    /// The catalog failed.
    #[error("policies cannot be recorded in the catalog: {0}")]
    Catalog(#[from] StoreError),
}

/// Why an older generation cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The catalog failed; try again.
    #[error("generation {number} cannot be read from the catalog: {source}")]
    Catalog {
        /// Which.
        number: u64,
        /// What the store said.
        source: StoreError,
    },
}
