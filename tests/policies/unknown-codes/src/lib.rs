//! Fan-out: answers a code that does not exist for every member.

use heddle_sdk::{Audience, Config, Fanout, Message, Moment, Policy};

struct UnknownCodes;

impl Policy for UnknownCodes {
    fn configure(_config: &Config) -> Result<Self, String> {
        Ok(Self)
    }
}

impl Fanout for UnknownCodes {
    fn sort(&self, _at: Moment, _audience: &Audience, facts: &[u8], _message: &dyn Message) -> Vec<u8> {
        vec![9; facts.len()]
    }
}

heddle_sdk::export!(UnknownCodes: fanout);
