use heddle_model::{Decision, Digest, Hook, Millis, Plan, UserId};
use heddle_presence::{Observation, Sighting, Visibility};

use crate::{
    Outcome, PlanAsk, RateAnswer, RateAsk, Refusal, RefusalCode, RouteAsk, Routed, RoutingRights, SortAsk, SortRetry,
    Sorted,
};

/// One whole, immutable policy set. Calls are synchronous: microseconds, at most their deadlines.
pub struct Generation {
    number: u64,
}

/// One plugin of a generation, for people.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyInfo {
    /// Where it decides.
    pub hook: Hook,
    /// The manifest's name.
    pub name: Box<str>,
    /// The manifest's version.
    pub version: Box<str>,
    /// SHA-256 of the file.
    pub digest: Digest,
    /// Of a call, as measured at start: the median of some.
    pub micros: f64,
}

/// The calls of each hook. While nothing is loaded they give the closed answer of their hook.
impl Generation {
    /// Its number; numbers only grow.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Its plugins, by hook and place in the chain.
    #[must_use]
    pub fn describe(&self) -> Vec<PolicyInfo> {
        Vec::new()
    }

    /// May this client do this now? One call a scope and plugin; all must allow.
    #[must_use]
    pub fn rate_limit(&self, _ask: &RateAsk<'_>) -> RateAnswer {
        RateAnswer { denied: Some(closed()), decisions: Vec::new() }
    }

    /// What becomes of this message?
    #[must_use]
    pub fn route(&self, _ask: &RouteAsk<'_>, _rights: &dyn RoutingRights) -> Routed {
        Routed { outcome: Outcome::Reject(closed()), decisions: Vec::new() }
    }

    /// Push or pull? Pull wins.
    #[must_use]
    pub fn plan(&self, _ask: &PlanAsk<'_>) -> (Plan, Vec<Decision>) {
        (Plan::Push, Vec::new())
    }

    /// Who of a page of members gets it, and how?
    ///
    /// # Errors
    /// A plugin failed and says `closed`.
    pub fn sort(&self, _ask: &SortAsk<'_>) -> Result<Sorted, SortRetry> {
        Err(SortRetry { after_ms: 1_000 })
    }

    /// The user's status after what happened.
    #[must_use]
    pub fn observe(&self, observation: &Observation<'_>) -> Sighting {
        Sighting { status: observation.previous, announce: false, recheck_ms: 0 }
    }

    /// What each viewer may see.
    #[must_use]
    pub fn reveal(&self, _now: Millis, _subject: &UserId, relations: &[u8]) -> Vec<Visibility> {
        vec![Visibility::Nothing; relations.len()]
    }
}

fn closed() -> Refusal {
    let reason = "no policy is loaded".into();
    Refusal { code: RefusalCode::PolicyUnavailable, reason, retry_after_ms: None, retryable: true }
}
