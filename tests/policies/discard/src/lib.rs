//! Routing: lets the sender believe that it was sent.

use heddle_sdk::{Config, Decision, Envelope, Message, Moment, Policy, Routing};

struct Discard;

impl Policy for Discard {
    fn configure(_config: &Config) -> Result<Self, String> {
        Ok(Self)
    }
}

impl Routing for Discard {
    fn decide(&self, _at: Moment, _envelope: &Envelope, _message: &dyn Message) -> Decision {
        Decision::Discard
    }
}

heddle_sdk::export!(Discard: routing);
