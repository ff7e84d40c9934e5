//! Routing: never comes to an end.

use heddle_sdk::{Config, Decision, Envelope, Message, Moment, Policy, Routing};

struct Spin;

impl Policy for Spin {
    fn configure(_config: &Config) -> Result<Self, String> {
        Ok(Self)
    }
}

impl Routing for Spin {
    fn decide(&self, _at: Moment, _envelope: &Envelope, _message: &dyn Message) -> Decision {
        let mut turns = 0_u64;
        loop {
            turns = std::hint::black_box(turns.wrapping_add(1));
        }
    }
}

heddle_sdk::export!(Spin: routing);
