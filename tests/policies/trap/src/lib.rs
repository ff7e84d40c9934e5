//! All four hooks: every decision panics; or only one of them, which the configuration names: `only = "sort"`; or, where messages are routed, only
//! those about messages of more bytes: `above = 40`.

use heddle_sdk::{
    Audience, Config, Decision, Delivery, Envelope, Fanout, Message, Mode, Moment, Observation, Outcome, Policy, Presence,
    RateLimit, Request, Routing, Sighting, Verdict,
};

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Trap {
    only: Option<String>,
    above: Option<u32>,
}

impl Trap {
    /// Panics, unless only other decisions do.
    fn spring(&self, decision: &str, words: &str) {
        if self.only.as_deref().is_none_or(|only| only == decision) {
            panic!("{words}")
        }
    }
}

impl Policy for Trap {
    fn configure(config: &Config) -> Result<Self, String> {
        config.parse()
    }
}

impl RateLimit for Trap {
    fn decide(&self, _at: Moment, _request: &Request, _state: &[u8]) -> Outcome {
        self.spring("rate-limit", "no rate limit today");
        Outcome { verdict: Verdict::Allow, state: Vec::new(), keep: 0 }
    }
}

impl Routing for Trap {
    fn decide(&self, _at: Moment, envelope: &Envelope, _message: &dyn Message) -> Decision {
        if self.above.is_none_or(|above| envelope.size > above) {
            self.spring("routing", "no routing today");
        }
        Decision::Accept
    }
}

impl Fanout for Trap {
    fn plan(&self, _at: Moment, _audience: &Audience, _message: &dyn Message) -> Mode {
        self.spring("plan", "no plan today");
        Mode::Push
    }

    fn sort(&self, _at: Moment, _audience: &Audience, facts: &[u8], _message: &dyn Message) -> Vec<u8> {
        self.spring("sort", "no sorting today");
        vec![Delivery::Push as u8; facts.len()]
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
