//! Fan-out: answers for one member fewer than it was asked.

use heddle_sdk::{Audience, Config, Delivery, Fanout, Message, Moment, Policy};

struct TooFewCodes;

impl Policy for TooFewCodes {
    fn configure(_config: &Config) -> Result<Self, String> {
        Ok(Self)
    }
}

impl Fanout for TooFewCodes {
    fn sort(&self, _at: Moment, _audience: &Audience, facts: &[u8], _message: &dyn Message) -> Vec<u8> {
        vec![Delivery::Push as u8; facts.len().saturating_sub(1)]
    }
}

heddle_sdk::export!(TooFewCodes: fanout);
