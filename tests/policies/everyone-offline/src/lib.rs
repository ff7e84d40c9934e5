//! Presence: everyone is offline, and everyone may know that.

use heddle_sdk::{Config, Moment, Observation, Policy, Presence, Relation, Sighting, Status, Visibility};

struct EveryoneOffline;

impl Policy for EveryoneOffline {
    fn configure(_config: &Config) -> Result<Self, String> {
        Ok(Self)
    }
}

impl Presence for EveryoneOffline {
    fn observe(&self, _at: Moment, observation: &Observation) -> Sighting {
        Sighting { status: Status::Offline, announce: observation.previous != Status::Offline, recheck: 0 }
    }

    fn viewer(&self, _at: Moment, _subject: &str, _relation: Relation) -> Visibility {
        Visibility::StatusOnly
    }
}

heddle_sdk::export!(EveryoneOffline: presence);
