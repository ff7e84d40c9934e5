//! All four hooks: every decision panics.

use heddle_sdk::{
    Audience, Config, Decision, Envelope, Fanout, Message, Mode, Moment, Observation, Outcome, Policy, Presence,
    RateLimit, Request, Routing, Sighting,
};

struct Trap;

impl Policy for Trap {
    fn configure(_config: &Config) -> Result<Self, String> {
        Ok(Self)
    }
}

impl RateLimit for Trap {
    fn decide(&self, _at: Moment, _request: &Request, _state: &[u8]) -> Outcome {
        panic!("no rate limit today")
    }
}

impl Routing for Trap {
    fn decide(&self, _at: Moment, _envelope: &Envelope, _message: &dyn Message) -> Decision {
        panic!("no routing today")
    }
}

impl Fanout for Trap {
    fn plan(&self, _at: Moment, _audience: &Audience, _message: &dyn Message) -> Mode {
        panic!("no plan today")
    }

    fn sort(&self, _at: Moment, _audience: &Audience, _facts: &[u8], _message: &dyn Message) -> Vec<u8> {
        panic!("no sorting today")
    }
}

impl Presence for Trap {
    fn observe(&self, _at: Moment, _observation: &Observation) -> Sighting {
        panic!("no observing today")
    }

    fn reveal(&self, _at: Moment, _subject: &str, _relations: &[u8]) -> Vec<u8> {
        panic!("no revealing today")
    }
}

heddle_sdk::export!(Trap: rate_limit, routing, fanout, presence);
