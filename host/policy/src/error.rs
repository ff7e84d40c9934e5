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
    /// What several nodes agreed cannot be read or written.
    #[error("policies cannot be agreed with the other nodes: {reason}")]
    Cluster {
        /// What happened.
        reason: String,
    },
    /// The catalog failed.
    #[error("policies cannot be recorded in the catalog: {0}")]
    Catalog(#[from] StoreError),
}

/// Why another policy set does not decide. The one before goes on.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// One at a time.
    #[error("another change of the policy set is under way, try again when it is done")]
    Busy,
    /// Somebody else was quicker.
    #[error("another generation was made meanwhile, look at it and try again")]
    Conflict,
    /// What the change names is not there.
    #[error("there is no {what}")]
    Unknown {
        /// What is missing.
        what: String,
    },
    /// Plugins or chains that cannot serve.
    #[error("the policy set stays as it is, {} problem(s):\n  {}", problems.len(), problems.join("\n  "))]
    Refused {
        /// Each names its file.
        problems: Vec<String>,
    },
    /// A node could not have the set that this one proposed, or was not ready in time.
    #[error("the nodes keep their policy set, {why}")]
    Abandoned {
        /// Which node says so, and why.
        why: String,
    },
    /// The other nodes cannot be asked.
    #[error("the nodes cannot agree now: {reason}")]
    Cluster {
        /// What happened.
        reason: String,
    },
    /// The catalog failed; try again.
    #[error("the catalog does not answer: {0}")]
    Catalog(#[from] StoreError),
}

impl From<StartError> for ChangeError {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Refused { problems } => Self::Refused { problems },
            StartError::Cluster { reason } => Self::Cluster { reason },
            StartError::Catalog(error) => Self::Catalog(error),
        }
    }
}

impl From<ChangeError> for StartError {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Refused { problems } => Self::Refused { problems },
            ChangeError::Catalog(error) => Self::Catalog(error),
            ChangeError::Cluster { reason } => Self::Cluster { reason },
            other => Self::Refused { problems: vec![other.to_string()] },
        }
    }
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
    /// Other nodes agreed on it, and this one has not met that yet; try again.
    #[error("generation {number} is not known here yet, generation {current} decides")]
    Ahead {
        /// Which.
        number: u64,
        /// The one that decides here.
        current: u64,
    },
}
