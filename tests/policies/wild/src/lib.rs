//! Answers anything: legal, illegal, at the border; drawn from the moment's luck and what it is asked, so that the same call is answered the same.
//! The configuration names the users and groups that it tries to reach, members or not.

use heddle_sdk::{
    Audience, Changes, Command, Config, Conversation, Decision, Envelope, Fanout, Message, Mode, Moment, Outcome,
    Policy, RateLimit, Refusal, Request, Routing, Verdict,
};

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Wild {
    users: Vec<String>,
    groups: Vec<String>,
}

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Dice(u64);

impl Dice {
    fn new(at: Moment, text: &str, salt: u64) -> Self {
        // FNV-1a (Fowler, Noll, Vo) over what makes this call another.
        let hash = |sum: u64, byte: u8| (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        Self(text.bytes().fold(at.seed ^ salt, hash))
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }

    fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }

    fn of(&mut self, from: &[String]) -> String {
        from[self.below(from.len())].clone()
    }
}

impl Policy for Wild {
    fn configure(config: &Config) -> Result<Self, String> {
        let policy: Self = config.parse()?;
        if policy.users.is_empty() || policy.groups.is_empty() {
            return Err("name at least one user and one group".to_owned());
        }
        Ok(policy)
    }
}

impl RateLimit for Wild {
    fn decide(&self, at: Moment, request: &Request, state: &[u8]) -> Outcome {
        let mut dice = Dice::new(at, &request.key, state.len() as u64);
        // Mostly well: who is spared here is not asked about what he sends.
        let long = if dice.one_in(8) { [0, 1, 255, 256, 257, 4_000][dice.below(6)] } else { 9 };
        let keep = if dice.one_in(8) { [0, 86_400_000, 86_400_001, u64::MAX][dice.below(4)] } else { 60_000 };
        // Who cannot connect shows nothing.
        let denies = request.command == Command::ChatMessage && dice.one_in(20);
        let verdict = if denies { Verdict::deny("r".repeat(dice.below(300)), 1) } else { Verdict::Allow };
        Outcome { verdict, state: vec![7; long], keep }
    }
}

impl Routing for Wild {
    fn decide(&self, at: Moment, envelope: &Envelope, message: &dyn Message) -> Decision {
        let mut dice = Dice::new(at, &envelope.sender, u64::from(envelope.size));
        match dice.below(12) {
            0 => Decision::Accept,
            1 => Decision::Reject(Refusal { reason: "r".repeat(dice.below(300)), retry_after: None }),
            2 => Decision::Discard,
            _ => Decision::AcceptWith(Changes {
                to: dice.one_in(2).then(|| match dice.one_in(2) {
                    true => Conversation::Direct(dice.of(&self.users)),
                    false => Conversation::Group(dice.of(&self.groups)),
                }),
                only: dice.one_in(2).then(|| (0..dice.below(5)).map(|_| dice.of(&self.users)).collect()),
                text: dice.one_in(8).then(|| format!("{} and more", message.text().unwrap_or_default())),
                tags: (0..[0, 0, 1, 16, 17][dice.below(5)]).map(|n| (format!("wild{n}"), String::new())).collect(),
            }),
        }
    }
}

impl Fanout for Wild {
    fn plan(&self, at: Moment, audience: &Audience, _message: &dyn Message) -> Mode {
        if Dice::new(at, &audience.sender, 1).one_in(10) { Mode::Pull } else { Mode::Push }
    }

    fn sort(&self, at: Moment, audience: &Audience, facts: &[u8], _message: &dyn Message) -> Vec<u8> {
        let mut dice = Dice::new(at, &audience.sender, 2);
        let long = if dice.one_in(6) { [0, facts.len() + 1, 5_000][dice.below(3)] } else { facts.len() };
        let codes = if dice.one_in(6) { 5 } else { 3 };
        (0..long).map(|_| dice.below(codes) as u8).collect()
    }
}

heddle_sdk::export!(Wild: rate_limit, routing, fanout);
