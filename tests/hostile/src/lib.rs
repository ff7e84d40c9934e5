//! A policy that misbehaves as its configuration says, on all four hooks, for tests of the host.

mod acts;

use std::cell::Cell;
use std::time::{SystemTime, UNIX_EPOCH};

use heddle_sdk::{
    Audience, Changes, Config, Conversation, Decision, Envelope, Fanout, Message, Moment, Observation, Outcome, Policy,
    Presence, RateLimit, Request, Routing, Sighting, Status, Verdict,
};

/// Above what one call may hand to the host.
const GIANT_BYTES: usize = 6 << 20;

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
            act => {
                if let Some(act) = act.strip_suffix("-at-start") {
                    acts::perform(act, 0);
                }
                Ok(policy)
            }
        }
    }
}

impl Hostile {
    /// What the act does before it answers, on every hook.
    fn misbehave(&self) {
        self.calls.set(self.calls.get() + 1);
        acts::perform(&self.act, self.calls.get());
    }
}

impl Hostile {
    /// A column: as long as it should be, but for the acts that are about that.
    fn codes(&self, wanted: usize) -> Vec<u8> {
        match self.act.as_str() {
            "few" => vec![0; wanted.saturating_sub(1)],
            "code" => vec![3; wanted],
            "giant-list" => vec![0; GIANT_BYTES],
            "count" => vec![(acts::count() % 3) as u8; wanted],
            "order" => acts::order(wanted.min(255))
                .into_iter()
                .map(|n| n % 3)
                .chain(std::iter::repeat(0))
                .take(wanted)
                .collect(),
            _ => vec![0; wanted],
        }
    }
}

impl RateLimit for Hostile {
    fn decide(&self, _at: Moment, request: &Request, state: &[u8]) -> Outcome {
        self.misbehave();
        let keep = if self.act == "keep" { u64::MAX } else { 0 };
        let state = match self.act.as_str() {
            "state" => vec![0; 257],
            "clock" => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let order = acts::order(8);
                let vars = [std::env::vars().count() as u8, std::env::args().count() as u8];
                (now.as_millis() as u64).to_le_bytes().into_iter().chain(vars).chain(order).collect()
            }
            "count" => acts::count().to_le_bytes().to_vec(),
            "order" => acts::order(64),
            "giant-list" => vec![0; GIANT_BYTES],
            _ => state.to_vec(),
        };
        let verdict = match self.act.as_str() {
            "reason" => Verdict::deny("x".repeat(257), 1),
            "giant-text" => Verdict::deny("x".repeat(GIANT_BYTES), 1),
            "invalid-utf8" => Verdict::deny(acts::no_text(), 1),
            _ => Verdict::Allow,
        };
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
            "count" => Decision::tag("count", acts::count().to_string()),
            "order" => Decision::tag("order", format!("{:?}", acts::order(8))),
            "long-text" => Decision::AcceptWith(Changes { text: Some("x".repeat(32 << 10)), ..Changes::none() }),
            "giant-text" => Decision::AcceptWith(Changes { text: Some("x".repeat(GIANT_BYTES)), ..Changes::none() }),
            "giant-list" => Decision::AcceptWith(Changes {
                only: Some((0..600_000).map(|_| String::new()).collect()),
                ..Changes::none()
            }),
            "invalid-utf8" => Decision::tag("text", acts::no_text()),
            "outsider" => Decision::AcceptWith(Changes { only: Some(vec!["mallory".into()]), ..Changes::none() }),
            "another-user" => {
                Decision::AcceptWith(Changes { to: Some(Conversation::Direct("mallory".into())), ..Changes::none() })
            }
            "another-group" => Decision::AcceptWith(Changes {
                to: Some(Conversation::Group("no-group-of-the-senders".into())),
                ..Changes::none()
            }),
            _ => Decision::tag("kind", message.kind()),
        }
    }
}

impl Fanout for Hostile {
    fn sort(&self, _at: Moment, _audience: &Audience, facts: &[u8], _message: &dyn Message) -> Vec<u8> {
        self.misbehave();
        self.codes(facts.len())
    }
}

impl Presence for Hostile {
    fn reveal(&self, _at: Moment, _subject: &str, relations: &[u8]) -> Vec<u8> {
        self.misbehave();
        self.codes(relations.len())
    }

    fn observe(&self, _at: Moment, _observation: &Observation) -> Sighting {
        self.misbehave();
        if self.act == "peek" {
            // What the SDK does not offer here, asked for all the same.
            heddle_sdk::bindings::heddle::policy::message::kind();
        }
        Sighting { status: Status::Online, announce: false, recheck: if self.act == "recheck" { 1 } else { 0 } }
    }
}

heddle_sdk::export!(Hostile: rate_limit, routing, fanout, presence);
