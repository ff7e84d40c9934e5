//! Rate limit: denies every message, and asks to wait for a minute; anything else passes.

use heddle_sdk::{Command, Config, Moment, Outcome, Policy, RateLimit, Request, Verdict};

struct DenyMessages;

impl Policy for DenyMessages {
    fn configure(_config: &Config) -> Result<Self, String> {
        Ok(Self)
    }
}

impl RateLimit for DenyMessages {
    fn decide(&self, _at: Moment, request: &Request, _state: &[u8]) -> Outcome {
        let verdict = match request.command {
            Command::ChatMessage => Verdict::deny("any message is one too many", 60_000),
            _ => Verdict::Allow,
        };
        Outcome { verdict, state: Vec::new(), keep: 0 }
    }
}

heddle_sdk::export!(DenyMessages: rate_limit);
