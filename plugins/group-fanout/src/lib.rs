//! Fan-out: pushes up to a configured size of group, pulls above. See README.md for the configuration.

use heddle_sdk::{Audience, Config, Delivery, Fact, Fanout, Message, Mode, Moment, Policy};

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct GroupFanout {
    /// Members, the sender included.
    push_up_to: u32,
    /// Do mentions reach members that have muted the group?
    mentions_break_mute: bool,
}

impl Default for GroupFanout {
    fn default() -> Self {
        Self { push_up_to: 1_000, mentions_break_mute: true }
    }
}

impl Policy for GroupFanout {
    fn configure(config: &Config) -> Result<Self, String> {
        config.parse()
    }
}

impl Fanout for GroupFanout {
    fn plan(&self, _at: Moment, audience: &Audience, _message: &dyn Message) -> Mode {
        if audience.members <= self.push_up_to { Mode::Push } else { Mode::Pull }
    }

    fn member(&self, _at: Moment, _audience: &Audience, fact: Fact) -> Delivery {
        let called = self.mentions_break_mute && fact.contains(Fact::MENTIONED);
        if fact.contains(Fact::MUTED) && !called { Delivery::Quiet } else { Delivery::Push }
    }
}

heddle_sdk::export!(GroupFanout: fanout);

#[cfg(test)]
mod tests {
    use heddle_sdk::{Audience, Config, Fact, FakeMessage, Fanout, Mode, Moment, Policy};

    use super::GroupFanout;

    const AT: Moment = Moment { now: 0, seed: 0 };

    fn policy(config: &str) -> GroupFanout {
        GroupFanout::configure(&Config::from_json(config)).unwrap()
    }

    fn group(members: u32) -> Audience {
        Audience { group: "g".into(), sender: "alice".into(), members, online: 0 }
    }

    #[test]
    fn a_group_is_pushed_up_to_the_limit_and_pulled_above() {
        let policy = policy("{}");
        assert_eq!(policy.plan(AT, &group(1_000), &FakeMessage::default()), Mode::Push);
        assert_eq!(policy.plan(AT, &group(1_001), &FakeMessage::default()), Mode::Pull);
    }

    #[test]
    fn the_muted_are_served_quietly_unless_mentioned() {
        let facts = [Fact::empty(), Fact::MUTED, Fact::MUTED | Fact::MENTIONED, Fact::ONLINE | Fact::ADMIN];
        let facts = facts.map(|fact| fact.bits());
        assert_eq!(policy("{}").sort(AT, &group(4), &facts, &FakeMessage::default()), [0, 1, 0, 0]);
        let strict = policy(r#"{"mentions_break_mute": false}"#);
        assert_eq!(strict.sort(AT, &group(4), &facts, &FakeMessage::default()), [0, 1, 1, 0]);
    }

    #[test]
    fn bits_that_nobody_knows_yet_are_ignored() {
        assert_eq!(policy("{}").sort(AT, &group(2), &[0xf0, 0xf2], &FakeMessage::default()), [0, 1]);
    }
}
