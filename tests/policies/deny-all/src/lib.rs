//! Routing: refuses every message, for good.

use heddle_sdk::{Config, Decision, Envelope, Message, Moment, Policy, Routing};

struct DenyAll;

impl Policy for DenyAll {
    fn configure(_config: &Config) -> Result<Self, String> {
        Ok(Self)
    }
}

impl Routing for DenyAll {
    fn decide(&self, _at: Moment, _envelope: &Envelope, _message: &dyn Message) -> Decision {
        Decision::reject("nobody says anything here")
    }
}

heddle_sdk::export!(DenyAll: routing);
