//! Invariant 6: whatever policies answer, nothing gets outside membership, rights or bounds. Random answers, judged by an oracle that knows the rules from the
//! contract and not from the host's code: an answer stands exactly if it is legal, and what stands is what was said.

mod wild;

use std::collections::BTreeMap;

use heddle_model::{ClientId, Conversation, GroupId, Hook, MessageId, Tag, UserId};
use heddle_pack::contract::{self, Changes, RoutingDecision};
use heddle_policy::{MessageView, Outcome, RouteAsk, RoutingRights};
use wild::{Hand, Said, generation, legal, stamped};

/// Two plugins are asked in each, unless the first ends it.
const ROUNDS: usize = 60_000;
const ANSWERS_MIN: usize = 100_000;

const MESSAGE_DATA: &[u8] = &[7; 100];

fn user(name: &str) -> UserId {
    UserId::new(name).expect("a user")
}

fn group(id: &str) -> Conversation {
    Conversation::Group(GroupId::new(id).expect("a group"))
}

fn id() -> MessageId {
    MessageId::of(&user("alice"), &group("home"), &ClientId::new("1").expect("an id"))
}

/// Who is where: the truth that both the host and the oracle ask, each in its own way.
fn members(conversation: &str) -> &'static [&'static str] {
    match conversation {
        "group:home" => &["alice", "bob", "carol"],
        "group:mine" | "user:bob" => &["alice", "bob"],
        "group:lobby" => &["bob"],
        "group:foreign" => &["bob", "mallory"],
        _ => &[],
    }
}

/// Alice's.
struct Rights;

impl RoutingRights for Rights {
    fn may_send_to(&self, to: &Conversation) -> bool {
        members(&to.to_string()).contains(&"alice")
    }

    fn is_member(&self, conversation: &Conversation, user: &UserId) -> bool {
        members(&conversation.to_string()).contains(&user.as_str())
    }

    fn may_be_redirected_to(&self, to: &Conversation) -> bool {
        !members(&to.to_string()).is_empty()
    }
}

/// What a message is on its way through the chain, in the oracle's words.
#[derive(Debug, Clone)]
struct Course {
    to: String,
    only: Option<Vec<String>>,
    text: Option<String>,
    tags: BTreeMap<String, String>,
}

/// The course after these changes; none: they are not allowed.
fn allowed(plugin: &str, course: &Course, changes: &Changes) -> Option<Course> {
    let mut after = course.clone();
    if let Some(to) = &changes.to {
        let to = match to {
            contract::Conversation::Direct(user) => format!("user:{user}"),
            contract::Conversation::Group(id) => format!("group:{id}"),
        };
        let own = to.starts_with("group:") && members(&to).contains(&"alice");
        let named = plugin == "first" && to == "group:lobby";
        if to != course.to && !own && !named {
            return None;
        }
        after.to = to;
    }
    let now = members(&after.to);
    let strange = |only: &Vec<String>| only.len() > 10_000 || only.iter().any(|name| !now.contains(&name.as_str()));
    if changes.only.as_ref().is_some_and(strange) {
        return None;
    }
    let kept = |name: &str| {
        now.contains(&name)
            && course.only.as_ref().is_none_or(|before| before.iter().any(|held| held == name))
            && changes.only.as_ref().is_none_or(|only| only.iter().any(|held| held == name))
    };
    if course.only.is_some() || changes.only.is_some() {
        let mut only: Vec<String> = now.iter().filter(|name| kept(name)).map(|name| (*name).to_owned()).collect();
        only.sort();
        after.only = Some(only);
    }
    if let Some(text) = &changes.text {
        if plugin != "first" || text.len() + MESSAGE_DATA.len() > 65_536 {
            return None;
        }
        after.text = Some(text.clone());
    }
    if changes.tags.len() > 16 {
        return None;
    }
    for (name, value) in &changes.tags {
        if name.is_empty() || name.len() > 64 || value.len() > 256 {
            return None;
        }
        after.tags.insert(name.clone(), value.clone());
    }
    (after.tags.len() <= 32).then_some(after)
}

#[tokio::test]
async fn no_random_answer_routes_a_message_beyond_its_senders_rights() {
    let hand = Hand::new(1);
    let generation = generation(Hook::Routing, &hand).await;
    let (sender, tags): (_, [Tag; 1]) = (user("alice"), [("own".into(), "1".into())]);
    let (mut stood, mut fell) = (0, 0);
    for round in 0..ROUNDS {
        let to = hand.pick(&[group("home"), group("mine"), Conversation::Direct(user("bob"))]);
        let data = Some(MESSAGE_DATA);
        let message =
            MessageView { kind: "message", text: Some("hello"), data, tags: &tags, lamport: 1, sender_since: 0 };
        let ask = RouteAsk { now: 1, id: id(), sender: &sender, to: &to, size: 105, members: 3, message };
        let routed = generation.route(&ask, &Rights);
        let own = BTreeMap::from([("own".to_owned(), "1".to_owned())]);
        let mut course = Course { to: to.to_string(), only: None, text: None, tags: own };
        let mut ended = None;
        for (at, (plugin, said)) in hand.said().into_iter().enumerate() {
            let Said::Routing(said) = said else { panic!("round {round}: {said:?}") };
            let stands = match &said {
                RoutingDecision::Accept | RoutingDecision::Discard => true,
                RoutingDecision::Reject(refusal) => legal(refusal),
                RoutingDecision::AcceptWith(changes) => match allowed(&plugin, &course, changes) {
                    Some(after) => {
                        course = after;
                        true
                    }
                    None => false,
                },
            };
            stamped(&routed.decisions[at], &plugin, stands, || format!("round {round}: {said:?}"));
            if stands {
                stood += 1
            } else {
                fell += 1
            }
            if stands && !matches!(said, RoutingDecision::Accept | RoutingDecision::AcceptWith(_)) {
                assert!(ended.replace(said).is_none(), "round {round}: asked after the end");
            }
        }
        match (&routed.outcome, ended) {
            (Outcome::Accept(accepted), None) => {
                assert_eq!(accepted.to.to_string(), course.to, "round {round}");
                let only =
                    accepted.only.as_ref().map(|only| only.iter().map(|user| user.as_str().to_owned()).collect());
                assert_eq!(only, course.only, "round {round}");
                assert_eq!(accepted.rewritten.as_deref(), course.text.as_deref(), "round {round}");
                let tags = accepted.tags.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
                assert_eq!((accepted.tags.len(), &tags), (course.tags.len(), &course.tags), "round {round}");
                // Said once more without the course, for whoever reads the oracle with doubt.
                let there = members(&course.to);
                assert!(there.contains(&"alice") || course.to == "group:lobby", "round {round}: to {}", course.to);
                assert!(accepted.only.iter().flatten().all(|user| there.contains(&user.as_str())), "round {round}");
            }
            (Outcome::Discard, Some(RoutingDecision::Discard)) => {}
            (Outcome::Reject(refusal), Some(RoutingDecision::Reject(said))) => {
                assert_eq!(
                    (&*refusal.reason, refusal.retry_after_ms),
                    (&*said.reason, said.retry_after),
                    "round {round}"
                );
            }
            (outcome, ended) => panic!("round {round}: {outcome:?} after {ended:?}"),
        }
    }
    assert!(stood > ROUNDS / 4 && fell > ROUNDS / 4, "{stood} answers stood, {fell} fell: both must be tried");
    assert!(stood + fell > ANSWERS_MIN, "{stood} answers stood, {fell} fell");
}
