//! Presence: online while active, away while only connected, offline once gone for a while. See README.md for the configuration.

use heddle_sdk::{Config, Event, Moment, Observation, Policy, Presence, Relation, Sighting, Status, Visibility};

#[derive(serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Audience {
    Contacts,
    Groups,
    Everybody,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LastSeen {
    /// Online until this long after the last frame.
    active_ms: u64,
    /// Offline this long after the last connection closed: a reload or a tunnel is no good-bye.
    gone_ms: u64,
    /// Who sees when somebody was last seen. Others see nothing, but that members of one group see the status with "groups".
    last_seen: Audience,
}

impl Default for LastSeen {
    fn default() -> Self {
        Self { active_ms: 300_000, gone_ms: 10_000, last_seen: Audience::Contacts }
    }
}

impl Policy for LastSeen {
    fn configure(config: &Config) -> Result<Self, String> {
        let policy: Self = config.parse()?;
        for (key, ms) in [("active_ms", policy.active_ms), ("gone_ms", policy.gone_ms)] {
            if !(1_000..=86_400_000).contains(&ms) {
                return Err(format!("{key} = {ms}: give 1000 (a second) to 86400000 (a day)"));
            }
        }
        Ok(policy)
    }
}

impl LastSeen {
    /// Status, and when to look again.
    fn judge(&self, seen: &Observation) -> (Status, u64) {
        if seen.connections == 0 {
            return match seen.event {
                Event::Disconnected if seen.previous != Status::Offline => (seen.previous, self.gone_ms),
                _ => (Status::Offline, 0),
            };
        }
        match seen.declared {
            Some(Status::Offline) => return (Status::Offline, 0),
            Some(Status::Away) => return (Status::Away, 0),
            Some(Status::Online) | None => {}
        }
        let idle = if seen.event == Event::Connected { 0 } else { seen.idle };
        if idle < self.active_ms { (Status::Online, (self.active_ms - idle).max(1_000)) } else { (Status::Away, 0) }
    }
}

impl Presence for LastSeen {
    fn observe(&self, _at: Moment, observation: &Observation) -> Sighting {
        let (status, recheck) = self.judge(observation);
        Sighting { status, announce: status != observation.previous, recheck }
    }

    fn viewer(&self, _at: Moment, _subject: &str, relation: Relation) -> Visibility {
        let contact = relation.contains(Relation::CONTACT);
        match self.last_seen {
            _ if relation.contains(Relation::BLOCKED) => Visibility::Nothing,
            Audience::Everybody => Visibility::StatusAndLastSeen,
            _ if contact => Visibility::StatusAndLastSeen,
            Audience::Groups if relation.contains(Relation::SHARES_A_GROUP) => Visibility::StatusOnly,
            Audience::Groups | Audience::Contacts => Visibility::Nothing,
        }
    }
}

heddle_sdk::export!(LastSeen: presence);

#[cfg(test)]
mod tests;
