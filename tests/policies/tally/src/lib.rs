//! Rate limit: so many messages of each user, ever, on all nodes together. What else they do is not counted.

use heddle_sdk::{Command, Config, Moment, Outcome, Policy, RateLimit, Request, Verdict};

const HOUR_MS: u64 = 3_600_000;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Tally {
    messages: u32,
}

impl Policy for Tally {
    fn configure(config: &Config) -> Result<Self, String> {
        config.parse()
    }
}

impl RateLimit for Tally {
    fn decide(&self, _at: Moment, request: &Request, state: &[u8]) -> Outcome {
        let count = state.try_into().map(u32::from_le_bytes).unwrap_or_default();
        let sent = count + u32::from(request.command == Command::ChatMessage);
        if sent > self.messages {
            return Outcome { verdict: Verdict::deny("so many, not more", HOUR_MS), state: state.to_vec(), keep: HOUR_MS };
        }
        Outcome { verdict: Verdict::Allow, state: sent.to_le_bytes().to_vec(), keep: HOUR_MS }
    }
}

heddle_sdk::export!(Tally: rate_limit);
