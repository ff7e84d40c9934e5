use crate::{
    Audience, Config, Decision, Delivery, Envelope, Fact, Message, Mode, Moment, Observation, Outcome, Relation,
    Request, Sighting, Visibility,
};

/// Every policy: made from its configuration, once per instance, before any decision.
pub trait Policy: Sized + 'static {
    /// An error refuses the deployment; the operator reads its text.
    fn configure(config: &Config) -> Result<Self, String>;
}

/// May this client do this now?
pub trait RateLimit: Policy {
    /// Called once per scope that the manifest names. `state` holds the bytes of this scope and key's last allowed call; empty the first time and after they
    /// expired. With `share = "cluster"` in the manifest it may be another node's: its clock may have been a little ahead of `at`. Who is overtaken by
    /// another node is asked again.
    fn decide(&self, at: Moment, request: &Request, state: &[u8]) -> Outcome;
}

/// Beside [`RateLimit`], when `state_version` in the manifest has grown.
pub trait MigrateState: Policy {
    /// Bytes of an older version into this one's; none: start afresh.
    fn migrate(&self, from_version: u32, state: Vec<u8>) -> Option<Vec<u8>>;
}

/// What becomes of this message?
pub trait Routing: Policy {
    /// Called once per message, before it is recorded; a resent message is not decided again.
    fn decide(&self, at: Moment, envelope: &Envelope, message: &dyn Message) -> Decision;
}

/// Who of a group gets a message, and how?
pub trait Fanout: Policy {
    /// Into each member's stream, or into the group's log only. Push, unless you say otherwise.
    fn plan(&self, _at: Moment, _audience: &Audience, _message: &dyn Message) -> Mode {
        Mode::Push
    }

    /// How one member gets it, when pushing. Muted members quietly unless mentioned, unless you say otherwise.
    fn member(&self, _at: Moment, _audience: &Audience, fact: Fact) -> Delivery {
        if fact.contains(Fact::MUTED) && !fact.contains(Fact::MENTIONED) { Delivery::Quiet } else { Delivery::Push }
    }

    /// A page of members at once, a byte of facts each, answered by a code of [`Delivery`] each. Asks [`Fanout::member`] one by one; override it where that is
    /// too slow or the message matters.
    fn sort(&self, at: Moment, audience: &Audience, facts: &[u8], _message: &dyn Message) -> Vec<u8> {
        facts.iter().map(|bits| self.member(at, audience, Fact::from_bits_truncate(*bits)) as u8).collect()
    }
}

/// What is a user's status, and who may know?
pub trait Presence: Policy {
    /// After an event, or after the time asked for in `recheck`.
    fn observe(&self, at: Moment, observation: &Observation) -> Sighting;

    /// What one viewer may see. Contacts everything, others nothing, unless you say otherwise.
    fn viewer(&self, _at: Moment, _subject: &str, relation: Relation) -> Visibility {
        if relation.contains(Relation::CONTACT) && !relation.contains(Relation::BLOCKED) {
            Visibility::StatusAndLastSeen
        } else {
            Visibility::Nothing
        }
    }

    /// Many viewers at once, a byte of relations each, answered by a code of [`Visibility`] each. Asks [`Presence::viewer`] one by one.
    fn reveal(&self, at: Moment, subject: &str, relations: &[u8]) -> Vec<u8> {
        relations.iter().map(|bits| self.viewer(at, subject, Relation::from_bits_truncate(*bits)) as u8).collect()
    }
}
