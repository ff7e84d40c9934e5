//! Rate limit: a token bucket for each kind of command, per user and per address. See README.md for the configuration.
//!
//! The state is one instant per kind of command, in microseconds: when its bucket will be full again (the "generic cell rate algorithm", ITU-T I.371).

use std::collections::BTreeMap;

use heddle_sdk::{Command, Config, Moment, Outcome, Policy, RateLimit, Request, Scope, Verdict};

/// In the order of `command` in the contract; the order of the instants in the state.
const KINDS: [&str; 8] = ["connect", "chat-message", "receipt", "typing", "presence", "history", "membership", "other"];
/// Burst and rate of each kind where the configuration does not name it. Those of `chat-message` are `burst` and `per_second`.
const DEFAULTS: [(u32, f64); 8] =
    [(20, 5.0), (20, 10.0), (100, 50.0), (20, 5.0), (50, 10.0), (50, 10.0), (30, 5.0), (50, 10.0)];
const KEEP_MAX_MS: u64 = 86_400_000;
/// Clocks of nodes that count together may differ by so much.
const SKEW_US: u64 = 1_000_000;

#[derive(Clone, Copy, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Limit {
    burst: u32,
    per_second: f64,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    burst: u32,
    per_second: f64,
    ip_factor: u32,
    commands: BTreeMap<String, Limit>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { burst: DEFAULTS[1].0, per_second: DEFAULTS[1].1, ip_factor: 10, commands: BTreeMap::new() }
    }
}

/// A token comes every `interval_us`; a full bucket holds `burst_us` worth of them.
#[derive(Clone, Copy, Default)]
struct Bucket {
    interval_us: u64,
    burst_us: u64,
}

impl Bucket {
    fn new(limit: Limit, factor: u32, place: &str) -> Result<Self, String> {
        if !(0.001..=1_000_000.0).contains(&limit.per_second) {
            return Err(format!("{place}per_second = {}: give a rate from 0.001 to 1000000", limit.per_second));
        }
        if !(1..=1_000_000).contains(&limit.burst) {
            return Err(format!("{place}burst = {}: give a number from 1 to 1000000", limit.burst));
        }
        let interval_us = (1_000_000.0 / (limit.per_second * f64::from(factor))).max(1.0) as u64;
        Ok(Self { interval_us, burst_us: interval_us * u64::from(limit.burst) * u64::from(factor) })
    }

    /// The instant at which the bucket is full again after this command, or how long to wait, in microseconds.
    fn take(self, now_us: u64, full_at_us: u64) -> Result<u64, u64> {
        // Beyond a bucket just emptied: a clock that went backwards, or other limits before. A denial leaves the state as it is, so this must be allowed,
        // or nobody is let in again until that instant.
        let beyond = full_at_us > now_us.saturating_add(self.burst_us + SKEW_US);
        let one_left_us = now_us.saturating_add(self.burst_us - self.interval_us);
        let full_at_us = if beyond { one_left_us } else { full_at_us.max(now_us) };
        let then_us = full_at_us.saturating_add(self.interval_us);
        match (then_us - now_us).checked_sub(self.burst_us) {
            None | Some(0) => Ok(then_us),
            Some(wait_us) => Err(wait_us),
        }
    }
}

struct TokenBucket {
    each: [Bucket; 8],
    per_address: [Bucket; 8],
}

impl Policy for TokenBucket {
    fn configure(config: &Config) -> Result<Self, String> {
        let settings: Settings = config.parse()?;
        if !(1..=10_000).contains(&settings.ip_factor) {
            return Err(format!("ip_factor = {}: give a number from 1 to 10000", settings.ip_factor));
        }
        if let Some(unknown) = settings.commands.keys().find(|name| !KINDS.contains(&name.as_str())) {
            return Err(format!("commands.{unknown}: unknown command, use one of {}", KINDS.join(", ")));
        }
        let mut policy = Self { each: [Bucket::default(); 8], per_address: [Bucket::default(); 8] };
        for (index, (kind, (burst, per_second))) in KINDS.iter().zip(DEFAULTS).enumerate() {
            let plain = Limit { burst: settings.burst, per_second: settings.per_second };
            let fallback = if *kind == "chat-message" { plain } else { Limit { burst, per_second } };
            let (limit, place) = match settings.commands.get(*kind) {
                Some(limit) => (*limit, format!("commands.{kind}.")),
                None => (fallback, String::new()),
            };
            policy.each[index] = Bucket::new(limit, 1, &place)?;
            policy.per_address[index] = Bucket::new(limit, settings.ip_factor, &place)?;
        }
        Ok(policy)
    }
}

impl RateLimit for TokenBucket {
    fn decide(&self, at: Moment, request: &Request, state: &[u8]) -> Outcome {
        let index = request.command as usize;
        let bucket = if request.scope == Scope::Ip { self.per_address[index] } else { self.each[index] };
        let mut full_at_us = read(state);
        let now_us = at.now.saturating_mul(1_000);
        match bucket.take(now_us, full_at_us[index]) {
            Ok(then_us) => {
                full_at_us[index] = then_us;
                let last_us = full_at_us.iter().copied().max().unwrap_or(now_us);
                let keep = (last_us.saturating_sub(now_us) / 1_000 + 1).min(KEEP_MAX_MS);
                let state = full_at_us.iter().flat_map(|us| us.to_le_bytes()).collect();
                Outcome { verdict: Verdict::Allow, state, keep }
            }
            Err(wait_us) => Outcome {
                verdict: Verdict::deny(reason(request.command), wait_us.div_ceil(1_000)),
                state: state.to_vec(),
                keep: (bucket.burst_us / 1_000 + 1).min(KEEP_MAX_MS),
            },
        }
    }
}

/// Bytes of another length count as none.
fn read(state: &[u8]) -> [u64; 8] {
    let mut instants = [0; 8];
    if state.len() == 64 {
        for (instant, bytes) in instants.iter_mut().zip(state.as_chunks().0) {
            *instant = u64::from_le_bytes(*bytes);
        }
    }
    instants
}

fn reason(command: Command) -> &'static str {
    match command {
        Command::Connect => "too many new connections",
        Command::ChatMessage => "too many messages",
        _ => "too many requests",
    }
}

heddle_sdk::export!(TokenBucket: rate_limit);

#[cfg(test)]
mod tests;
