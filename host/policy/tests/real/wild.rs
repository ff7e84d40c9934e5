//! Invariant 6 with a real component in the real engine: it answers anything, with forged recipients, foreign groups and other users, and nothing of
//! that gets outside membership or rights. (`clamp.rs` judges each single answer; here only what comes out is looked at.)

use std::time::Duration;

use heddle_model::{ClientId, Clock as _, Conversation, Fallback, Hook, MessageId, SystemClock, UserId};
use heddle_policy::{Command, Generation, MessageView, Outcome, RateAsk, RouteAsk, RoutingRights, SortAsk};
use serde_json::json;

use crate::world::{World, fixture, group, user};

/// Three answers each. Each round has a sender of its own: one who was unlucky twice is spared.
const ROUNDS: u64 = 34_000;
const ANSWERS_MIN: u64 = 100_000;
const TEXT_BYTES_MAX: usize = 65_536;
const TAGS_MAX: usize = 32;
const REASON_BYTES_MAX: usize = 256;
/// Far above what it takes: nothing may hang.
const PATIENCE: Duration = Duration::from_secs(300);

/// Whoever sends is in `home` and `mine`, and in no other group.
struct Rights<'a>(&'a UserId);

fn others(conversation: &Conversation) -> &'static [&'static str] {
    match conversation {
        Conversation::Group(id) if id.as_str() == "home" => &["bob", "carol"],
        Conversation::Group(id) if id.as_str() == "mine" => &["dave"],
        Conversation::Group(id) if id.as_str() == "foreign" => &["mallory"],
        Conversation::Group(_) => &[],
        Conversation::Direct(_) => &["bob"],
    }
}

impl RoutingRights for Rights<'_> {
    fn may_send_to(&self, to: &Conversation) -> bool {
        *to == group("home") || *to == group("mine")
    }

    fn is_member(&self, conversation: &Conversation, user: &UserId) -> bool {
        (user == self.0 && *conversation != group("foreign")) || others(conversation).contains(&user.as_str())
    }
}

/// What came of the answers.
#[derive(Debug, Default)]
struct Counts {
    answers: u64,
    redirected: u64,
    narrowed: u64,
    refused: u64,
    discarded: u64,
    replaced: u64,
}

fn routed(generation: &Generation, round: u64, sender: &UserId, counts: &mut Counts) {
    let to = [group("home"), group("mine"), Conversation::Direct(user("bob"))][(round % 3) as usize].clone();
    let id = MessageId::of(sender, &to, &ClientId::new(&round.to_string()).unwrap());
    let message =
        MessageView { kind: "message", text: Some("hello"), data: None, tags: &[], lamport: 1, sender_since: 0 };
    let ask = RouteAsk { now: 1, id, sender, to: &to, size: 5, members: 3, message };
    let routed = generation.route(&ask, &Rights(sender));
    let wild = routed.decisions.iter().find(|decision| &*decision.plugin == "wild").expect("it was asked");
    assert!(matches!(wild.fallback, None | Some(Fallback::Builtin)), "round {round}: {wild:?}");
    counts.replaced += u64::from(wild.fallback.is_some());
    match routed.outcome {
        Outcome::Accept(accepted) => {
            let own = accepted.to == group("home") || accepted.to == group("mine");
            assert!(accepted.to == to || own, "round {round}: {to} became {}", accepted.to);
            let there = |name: &UserId| name == sender || others(&accepted.to).contains(&name.as_str());
            assert!(accepted.only.iter().flatten().all(there), "round {round}: {:?} in {}", accepted.only, accepted.to);
            assert!(accepted.rewritten.as_ref().is_none_or(|text| text.len() <= TEXT_BYTES_MAX), "round {round}");
            assert!(accepted.tags.len() <= TAGS_MAX, "round {round}: {} tags", accepted.tags.len());
            counts.redirected += u64::from(accepted.to != to);
            counts.narrowed += u64::from(accepted.only.is_some());
        }
        Outcome::Reject(refusal) => {
            assert!(refusal.reason.len() <= REASON_BYTES_MAX, "round {round}: {} bytes", refusal.reason.len());
            counts.refused += 1;
        }
        Outcome::Discard => counts.discarded += 1,
    }
}

fn rated(generation: &Generation, round: u64, sender: &UserId) {
    let answer = generation.rate_limit(&RateAsk {
        now: round * 10,
        user: sender,
        ip: [127, 0, 0, 1].into(),
        connection: None,
        conversation: None,
        command: Command::ChatMessage,
        size: 100,
        connections_user: 1,
        connections_ip: 1,
        recipients: 1,
    });
    if let Some(refusal) = answer.denied {
        assert!(refusal.reason.len() <= REASON_BYTES_MAX, "round {round}: {} bytes", refusal.reason.len());
    }
}

fn sorted(generation: &Generation, round: u64, sender: &UserId, counts: &mut Counts) {
    let home = heddle_model::GroupId::new("home").unwrap();
    let id = MessageId::of(sender, &group("home"), &ClientId::new(&round.to_string()).unwrap());
    let message =
        MessageView { kind: "message", text: Some("hello"), data: None, tags: &[], lamport: 1, sender_since: 0 };
    let facts = vec![1; (round % 50) as usize + 1];
    let ask = SortAsk {
        now: 1,
        id,
        group: &home,
        sender,
        members: 50,
        online: 2,
        message,
        facts: &facts,
        attempt: 0,
        last: false,
    };
    let sorted = generation.sort(&ask).expect("the built-in stands in");
    assert_eq!(sorted.deliveries.len(), facts.len(), "round {round}");
    counts.replaced += u64::from(sorted.decisions.iter().any(|decision| decision.fallback.is_some()));
}

#[tokio::test]
async fn no_random_answer_of_a_real_component_gets_beyond_membership_or_rights() {
    let mut wild = fixture("wild");
    wild.config.insert("users".into(), json!(["bob", "carol", "dave", "mallory", "nobody", ""]));
    wild.config.insert("groups".into(), json!(["home", "mine", "foreign", "no-such-group", ""]));
    let hooks = [Hook::RateLimit, Hook::Routing, Hook::Fanout];
    let world = World::start(hooks.map(|hook| (hook, vec![wild.clone()])).to_vec()).await;
    // Held: the breaker takes it back from whoever asks anew.
    let generation = world.policies.current();
    let (clock, mut counts) = (SystemClock::new(), Counts::default());
    let begun = clock.monotonic();
    for round in 0..ROUNDS {
        let sender = user(&format!("s{round}"));
        routed(&generation, round, &sender, &mut counts);
        rated(&generation, round, &sender);
        sorted(&generation, round, &sender, &mut counts);
        counts.answers += 3;
        assert!(clock.monotonic() - begun < PATIENCE, "{counts:?}");
    }
    assert!(counts.answers >= ANSWERS_MIN, "{counts:?}");
    let (states, bytes) = (world.policies.figures().states, world.policies.figures().state_bytes);
    assert!(bytes <= states * (256 + 64), "{bytes} bytes in {states} states");
    // Both must be tried: what is allowed, and what is not.
    let tried = [counts.redirected, counts.narrowed, counts.refused, counts.discarded, counts.replaced];
    assert!(tried.iter().all(|count| *count > ROUNDS / 50), "{counts:?}");
}
