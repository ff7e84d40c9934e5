//! All four hooks: each decides in one of two ways that can be told apart from outside, as the configuration says.
//!
//! | | `a` | `b` |
//! | --- | --- | --- |
//! | rate limit | nobody may show that he types | everybody may |
//! | routing | the tag `mark` is `a` | it is `b` |
//! | fan-out | everybody gets it quietly | not quietly |
//! | presence | everybody is offline | everybody is online |

use std::hint::black_box;

use heddle_sdk::{
    Audience, Changes, Command, Config, Decision, Delivery, Envelope, Fact, Fanout, Message, Moment, Observation,
    Outcome, Policy, Presence, RateLimit, Relation, Request, Routing, Sighting, Status, Verdict, Visibility,
};

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Either {
    letter: String,
    /// Rounds of thought about a page of members; two million take about a millisecond.
    #[serde(default)]
    thinks: u64,
}

impl Either {
    fn is_a(&self) -> bool {
        self.letter == "a"
    }
}

impl Policy for Either {
    fn configure(config: &Config) -> Result<Self, String> {
        config.parse()
    }
}

impl RateLimit for Either {
    fn decide(&self, _at: Moment, request: &Request, state: &[u8]) -> Outcome {
        let denied = self.is_a() && request.command == Command::Typing;
        let verdict = if denied { Verdict::deny("nobody types", 1_000) } else { Verdict::Allow };
        Outcome { verdict, state: state.to_vec(), keep: 60_000 }
    }
}

impl Routing for Either {
    fn decide(&self, _at: Moment, _envelope: &Envelope, _message: &dyn Message) -> Decision {
        let tags = vec![("mark".to_owned(), self.letter.clone())];
        Decision::AcceptWith(Changes { tags, ..Changes::none() })
    }
}

impl Fanout for Either {
    fn sort(&self, at: Moment, audience: &Audience, facts: &[u8], _message: &dyn Message) -> Vec<u8> {
        black_box((0..self.thinks).fold(at.seed, |sum, round| black_box(sum.rotate_left(1) ^ round)));
        facts.iter().map(|bits| self.member(at, audience, Fact::from_bits_truncate(*bits)) as u8).collect()
    }

    fn member(&self, _at: Moment, _audience: &Audience, _fact: Fact) -> Delivery {
        if self.is_a() { Delivery::Quiet } else { Delivery::Push }
    }
}

impl Presence for Either {
    fn observe(&self, _at: Moment, observation: &Observation) -> Sighting {
        let status = if self.is_a() { Status::Offline } else { Status::Online };
        Sighting { status, announce: observation.previous != status, recheck: 0 }
    }

    fn viewer(&self, _at: Moment, _subject: &str, _relation: Relation) -> Visibility {
        if self.is_a() { Visibility::Nothing } else { Visibility::StatusOnly }
    }
}

heddle_sdk::export!(Either: rate_limit, routing, fanout, presence);
