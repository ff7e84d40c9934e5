//! Routing: accepts after some thought, about five milliseconds of it.

use std::hint::black_box;

use heddle_sdk::{Config, Decision, Envelope, Message, Moment, Policy, Routing};

const ROUNDS: u64 = 10_000_000;

struct Slow;

impl Policy for Slow {
    fn configure(_config: &Config) -> Result<Self, String> {
        Ok(Self)
    }
}

impl Routing for Slow {
    fn decide(&self, at: Moment, _envelope: &Envelope, _message: &dyn Message) -> Decision {
        let thought = (0..ROUNDS).fold(at.seed, |sum, round| black_box(sum.rotate_left(1) ^ round));
        if thought == 1 { Decision::Discard } else { Decision::Accept }
    }
}

heddle_sdk::export!(Slow: routing);
