//! A policy that misbehaves as its configuration says, on all four hooks, for tests of the host.

use std::cell::Cell;
use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use heddle_sdk::{
    Audience, Changes, Config, Decision, Envelope, Fanout, Message, Moment, Observation, Outcome, Policy, Presence,
    RateLimit, Request, Routing, Sighting, Status, Verdict, log,
};

#[derive(serde::Deserialize)]
struct Hostile {
    act: String,
    #[serde(skip)]
    calls: Cell<u64>,
}

impl Policy for Hostile {
    fn configure(config: &Config) -> Result<Self, String> {
        let policy: Self = config.parse()?;
        match policy.act.as_str() {
            "refuse" => Err("not with me".to_owned()),
            "panic-at-start" => panic!("no configuration is good enough"),
            _ => Ok(policy),
        }
    }
}

#[inline(never)]
fn deeply_wrong() {
    panic!("the answer is not 42");
}

impl Hostile {
    fn misbehave(&self) {
        match self.act.as_str() {
            "spin" => loop {
                std::hint::black_box(0);
            },
            "eat" => {
                let mut held = Vec::new();
                loop {
                    held.push(Vec::<u8>::with_capacity(1 << 20));
                    std::hint::black_box(&held);
                }
            }
            "panic" => deeply_wrong(),
            "exit" => std::process::exit(3),
            "sleep" => std::thread::sleep(std::time::Duration::from_secs(3_600)),
            "shout" => (0..10_000).for_each(|n| log::info(format!("line {n}"))),
            _ => {}
        }
    }
}

impl RateLimit for Hostile {
    fn decide(&self, _at: Moment, request: &Request, state: &[u8]) -> Outcome {
        self.misbehave();
        self.calls.set(self.calls.get() + 1);
        let keep = if self.act == "keep" { u64::MAX } else { 0 };
        let state = match self.act.as_str() {
            "state" => vec![0; 257],
            "clock" => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let hashed: HashMap<u64, u64> = (0..8).map(|n| (n, n)).collect();
                let order = hashed.keys().map(|key| *key as u8);
                let vars = [std::env::vars().count() as u8, std::env::args().count() as u8];
                (now.as_millis() as u64).to_le_bytes().into_iter().chain(vars).chain(order).collect()
            }
            "count" => self.calls.get().to_le_bytes().to_vec(),
            _ => state.to_vec(),
        };
        let verdict = if self.act == "reason" { Verdict::deny("x".repeat(257), 1) } else { Verdict::Allow };
        std::hint::black_box(request);
        Outcome { verdict, state, keep }
    }
}

impl Routing for Hostile {
    fn decide(&self, _at: Moment, _envelope: &Envelope, message: &dyn Message) -> Decision {
        self.misbehave();
        match self.act.as_str() {
            "read" => Decision::tag("read", message.text().unwrap_or_default()),
            "rewrite" => Decision::AcceptWith(Changes { text: Some("mine".into()), ..Changes::none() }),
            "tags" => Decision::AcceptWith(Changes {
                tags: (0..17).map(|n| (n.to_string(), String::new())).collect(),
                ..Changes::none()
            }),
            _ => Decision::tag("kind", message.kind()),
        }
    }
}

impl Fanout for Hostile {
    fn sort(&self, _at: Moment, _audience: &Audience, facts: &[u8], _message: &dyn Message) -> Vec<u8> {
        match self.act.as_str() {
            "few" => vec![0; facts.len() - 1],
            "code" => vec![3; facts.len()],
            _ => vec![0; facts.len()],
        }
    }
}

impl Presence for Hostile {
    fn observe(&self, _at: Moment, _observation: &Observation) -> Sighting {
        if self.act == "peek" {
            // What the SDK does not offer here, asked for all the same.
            heddle_sdk::bindings::heddle::policy::message::kind();
        }
        Sighting { status: Status::Online, announce: false, recheck: if self.act == "recheck" { 1 } else { 0 } }
    }
}

heddle_sdk::export!(Hostile: rate_limit, routing, fanout, presence);
