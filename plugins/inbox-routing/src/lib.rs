//! Routing: refuses what is too large, or goes to too many; newcomers reach fewer. See README.md for the configuration.

use heddle_sdk::{Config, Decision, Envelope, Message, Moment, Policy, Refusal, Routing};

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct InboxRouting {
    /// Bytes of text and data together.
    max_bytes: u32,
    /// Members that a message reaches, the sender left out.
    max_recipients: u32,
    /// Until a sender has been known for `newcomer_ms`.
    newcomer_recipients: u32,
    /// 0: nobody counts as a newcomer.
    newcomer_ms: u64,
}

impl Default for InboxRouting {
    fn default() -> Self {
        Self { max_bytes: 65_536, max_recipients: 10_000, newcomer_recipients: 500, newcomer_ms: 0 }
    }
}

impl Policy for InboxRouting {
    fn configure(config: &Config) -> Result<Self, String> {
        let policy: Self = config.parse()?;
        for (key, value) in [("max_bytes", policy.max_bytes), ("max_recipients", policy.max_recipients)] {
            if value == 0 {
                return Err(format!("{key} = 0 would refuse every message, give at least 1"));
            }
        }
        Ok(policy)
    }
}

impl Routing for InboxRouting {
    fn decide(&self, at: Moment, envelope: &Envelope, message: &dyn Message) -> Decision {
        if envelope.size > self.max_bytes {
            return Decision::reject(format!("{} bytes, at most {} are taken here", envelope.size, self.max_bytes));
        }
        let recipients = envelope.members.saturating_sub(1);
        let newcomers = self.newcomer_ms > 0 && recipients > self.newcomer_recipients;
        if recipients <= self.max_recipients && !newcomers {
            return Decision::Accept;
        }
        // Whoever may not send any more may still take back what was sent.
        if message.kind() == "delete" {
            return Decision::Accept;
        }
        if recipients > self.max_recipients {
            return Decision::reject(format!(
                "{recipients} recipients, at most {} are reached here",
                self.max_recipients
            ));
        }
        let known_ms = at.now.saturating_sub(message.sender_since());
        if known_ms >= self.newcomer_ms {
            return Decision::Accept;
        }
        Decision::Reject(Refusal {
            reason: format!("new accounts reach at most {} recipients", self.newcomer_recipients),
            retry_after: Some(self.newcomer_ms - known_ms),
        })
    }
}

heddle_sdk::export!(InboxRouting: routing);

#[cfg(test)]
mod tests {
    use heddle_sdk::{Config, Conversation, Decision, Envelope, FakeMessage, Moment, Policy, Routing};

    use super::InboxRouting;

    fn decide(config: &str, size: u32, members: u32, message: FakeMessage) -> Decision {
        let policy = InboxRouting::configure(&Config::from_json(config)).unwrap();
        let envelope = Envelope { sender: "alice".into(), to: Conversation::Group("g".into()), size, members };
        policy.decide(Moment { now: 10_000, seed: 0 }, &envelope, &message)
    }

    #[test]
    fn sizes_and_recipients_up_to_the_limit_pass() {
        assert_eq!(
            decide(r#"{"max_bytes": 10, "max_recipients": 2}"#, 10, 3, FakeMessage::default()),
            Decision::Accept
        );
    }

    #[test]
    fn what_is_over_a_limit_is_refused_for_good() {
        for (size, members) in [(11, 2), (1, 4)] {
            let answer = decide(r#"{"max_bytes": 10, "max_recipients": 2}"#, size, members, FakeMessage::default());
            assert!(matches!(answer, Decision::Reject(refusal) if refusal.retry_after.is_none()));
        }
    }

    #[test]
    fn a_deletion_passes_however_many_it_reaches() {
        let deletion = FakeMessage { kind: "delete".into(), ..FakeMessage::default() };
        assert_eq!(decide(r#"{"max_recipients": 2}"#, 1, 100, deletion), Decision::Accept);
    }

    #[test]
    fn a_newcomer_is_told_when_to_come_back() {
        let since = |sender_since| FakeMessage { sender_since, ..FakeMessage::default() };
        let config = r#"{"newcomer_recipients": 2, "newcomer_ms": 5000}"#;
        let refused = decide(config, 1, 4, since(9_000));
        assert!(matches!(refused, Decision::Reject(refusal) if refusal.retry_after == Some(4_000)));
        assert_eq!(decide(config, 1, 4, since(5_000)), Decision::Accept);
    }

    #[test]
    fn a_misspelt_key_and_a_limit_of_nothing_are_refused() {
        assert!(InboxRouting::configure(&Config::from_json(r#"{"max_byte": 1}"#)).is_err());
        assert!(InboxRouting::configure(&Config::from_json(r#"{"max_bytes": 0}"#)).is_err());
    }
}
