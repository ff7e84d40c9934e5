//! Routing that never gets so far: it panics while it is configured.

use heddle_sdk::{Config, Decision, Envelope, Message, Moment, Policy, Routing};

struct TrapAtStart;

impl Policy for TrapAtStart {
    fn configure(_config: &Config) -> Result<Self, String> {
        panic!("no configuration is good enough")
    }
}

impl Routing for TrapAtStart {
    fn decide(&self, _at: Moment, _envelope: &Envelope, _message: &dyn Message) -> Decision {
        Decision::Accept
    }
}

heddle_sdk::export!(TrapAtStart: routing);
