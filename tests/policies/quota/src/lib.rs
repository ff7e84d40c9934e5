//! Rate limit: three for each key, ever. In form 1 the state is the count in one byte, in form 2 in four; a change of form migrates, if it may.

use heddle_sdk::{Config, MigrateState, Moment, Outcome, Policy, RateLimit, Refusal, Request, Verdict};

const ALLOWED: u32 = 3;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Quota {
    form: u8,
    migrates: bool,
}

impl Quota {
    fn read(&self, state: &[u8]) -> u32 {
        match (self.form, state) {
            (1, [count]) => u32::from(*count),
            (2, [a, b, c, d]) => u32::from_le_bytes([*a, *b, *c, *d]),
            (_, []) => 0,
            (form, other) => panic!("{} bytes are no state of form {form}", other.len()),
        }
    }

    fn write(&self, count: u32) -> Vec<u8> {
        if self.form == 1 { vec![count as u8] } else { count.to_le_bytes().to_vec() }
    }
}

impl Policy for Quota {
    fn configure(config: &Config) -> Result<Self, String> {
        config.parse()
    }
}

impl RateLimit for Quota {
    fn decide(&self, _at: Moment, _request: &Request, state: &[u8]) -> Outcome {
        let count = self.read(state) + 1;
        if count > ALLOWED {
            let refusal = Refusal { reason: "three, not more".to_owned(), retry_after: None };
            return Outcome { verdict: Verdict::Deny(refusal), state: state.to_vec(), keep: 60_000 };
        }
        Outcome { verdict: Verdict::Allow, state: self.write(count), keep: 60_000 }
    }
}

impl MigrateState for Quota {
    fn migrate(&self, from_version: u32, state: Vec<u8>) -> Option<Vec<u8>> {
        match (self.migrates, from_version, state.as_slice()) {
            (true, 1, [count]) => Some(self.write(u32::from(*count))),
            _ => None,
        }
    }
}

heddle_sdk::export!(Quota: rate_limit, state_migration);
