//! Invariant 6 at the other hooks: whatever fan-out, rate limit and presence answer, columns stay as long as what was asked, state stays whose it is, and nobody
//! sees more than the least revealing answer shows. Judged as in `clamp.rs`.

mod wild;

use std::collections::HashMap;

use heddle_model::{ClientId, Conversation, Delivery, GroupId, Hook, MessageId, Plan, UserId};
use heddle_pack::contract::{self, FanoutMode, Verdict};
use heddle_policy::{Command, MessageView, PlanAsk, RateAsk, SortAsk};
use heddle_presence::{Event, Observation, Status, Visibility, relation};
use wild::{Hand, Said, generation, legal, legal_column, stamped};

/// Of each hook.
const ROUNDS: usize = 20_000;

fn user(name: &str) -> UserId {
    UserId::new(name).expect("a user")
}

fn id() -> MessageId {
    let home = Conversation::Group(GroupId::new("home").expect("a group"));
    MessageId::of(&user("alice"), &home, &ClientId::new("1").expect("an id"))
}

#[tokio::test]
async fn no_random_answer_sends_a_group_message_to_more_or_fewer_members_than_were_asked_about() {
    let hand = Hand::new(2);
    let generation = generation(Hook::Fanout, &hand).await;
    let (sender, group) = (user("alice"), GroupId::new("home").expect("a group"));
    let message = MessageView { kind: "message", text: None, data: None, tags: &[], lamport: 1, sender_since: 0 };
    for round in 0..ROUNDS {
        let facts: Vec<u8> = (0..hand.pick(&[0, 1, 2, 17, 200])).map(|_| hand.below(16) as u8).collect();
        let (now, id, sender, group, members, online) = (1, id(), &sender, &group, 300, 2);
        let ask = SortAsk { now, id, group, sender, members, online, message, facts: &facts, attempt: 0, last: false };
        let sorted = generation.sort(&ask).expect("the built-in one never fails");
        let mut wanted = vec![0; facts.len()];
        for (at, (plugin, said)) in hand.said().into_iter().enumerate() {
            let Said::Column(codes) = said else { panic!("round {round}: {said:?}") };
            let stands = legal_column(&codes, facts.len());
            stamped(&sorted.decisions[at], &plugin, stands, || format!("round {round}: {codes:?} for {}", facts.len()));
            if stands {
                // The codes grow with restriction: push, quiet, leave out.
                wanted.iter_mut().zip(codes).for_each(|(held, said)| *held = said.max(*held));
            }
        }
        let code = |delivery: &Delivery| match delivery {
            Delivery::Push => 0,
            Delivery::Quiet => 1,
            Delivery::LeaveOut => 2,
        };
        assert_eq!(sorted.deliveries.iter().map(code).collect::<Vec<u8>>(), wanted, "round {round}");
        let (plan, _) = generation.plan(&PlanAsk { now, id, group, sender, members, online, message });
        let pulled = hand.said().iter().any(|(_, said)| matches!(said, Said::Plan(FanoutMode::Pull)));
        assert_eq!(plan, if pulled { Plan::Pull } else { Plan::Push }, "round {round}");
    }
}

#[tokio::test]
async fn no_random_answer_of_a_rate_limit_keeps_more_than_it_may_or_sees_anothers_state() {
    let hand = Hand::new(3);
    let generation = generation(Hook::RateLimit, &hand).await;
    let mut held: HashMap<(String, String), (Vec<u8>, u64)> = HashMap::new();
    for round in 0..ROUNDS {
        let now = round as u64 * 1_000 + 1;
        let (name, ip) = (user(hand.pick(&["alice", "bob", "carol"])), [127, 0, 0, hand.below(2) as u8].into());
        let (connection, conversation, command) = (None, None, Command::ChatMessage);
        let (size, connections_user, connections_ip, recipients) = (10, 1, 1, 1);
        let user = &name;
        let answer = generation.rate_limit(&RateAsk {
            now,
            user,
            ip,
            connection,
            conversation,
            command,
            size,
            connections_user,
            connections_ip,
            recipients,
        });
        let said = hand.said();
        let mut denied = false;
        let mut writes = Vec::new();
        for decision in &answer.decisions {
            let own = || said.iter().filter(|(plugin, _)| **plugin == *decision.plugin);
            let mut stands = true;
            for (plugin, said) in own() {
                let Said::RateLimit { key, state, outcome } = said else { panic!("round {round}: {said:?}") };
                let slot = (plugin.clone(), key.clone());
                let wanted = held.get(&slot).filter(|(_, until)| *until > now).map(|(state, _)| state.clone());
                assert_eq!(*state, wanted.unwrap_or_default(), "round {round}: {plugin} got another's state for {key}");
                stands &= outcome.state.len() <= 256 && outcome.keep <= 86_400_000;
                stands &= !matches!(&outcome.verdict, Verdict::Deny(refusal) if !legal(refusal));
                writes.push((slot, outcome.clone(), decision.fallback.is_none()));
            }
            stamped(decision, &decision.plugin, stands, || format!("round {round}: {:?}", own().collect::<Vec<_>>()));
            denied |= stands
                && own().any(
                    |(_, said)| matches!(said, Said::RateLimit { outcome, .. } if outcome.verdict != Verdict::Allow),
                );
        }
        assert_eq!(answer.denied.is_some(), denied, "round {round}");
        assert!(answer.denied.is_none_or(|refusal| refusal.reason.len() <= 256), "round {round}");
        for (slot, outcome, _) in writes.into_iter().filter(|(_, _, stands)| *stands && !denied) {
            held.insert(slot, (outcome.state, now + outcome.keep));
        }
    }
    assert!(held.values().any(|(state, _)| state.len() == 256), "states were kept");
}

#[tokio::test]
async fn no_random_answer_of_presence_shows_more_than_the_least_revealing_or_anything_to_the_blocked() {
    let hand = Hand::new(4);
    let generation = generation(Hook::Presence, &hand).await;
    let alice = user("alice");
    let (mut stood, mut fell) = (0, 0);
    for round in 0..ROUNDS {
        let relations: Vec<u8> = (0..hand.pick(&[0, 1, 5, 64])).map(|_| hand.below(8) as u8).collect();
        let revealed = generation.reveal(1, &alice, &relations);
        let said = hand.said();
        let legal = said.iter().filter_map(|(_, said)| match said {
            Said::Column(codes) => Some(codes).filter(|codes| legal_column(codes, relations.len())),
            other => panic!("round {round}: {other:?}"),
        });
        let legal: Vec<&Vec<u8>> = legal.collect();
        (stood, fell) = (stood + legal.len(), fell + said.len() - legal.len());
        assert_eq!(revealed.len(), relations.len(), "round {round}");
        for (at, bits) in relations.iter().enumerate() {
            let least = legal.iter().map(|codes| codes[at]).min().unwrap_or(2);
            let wanted = match if bits & relation::BLOCKED == 0 { least } else { 0 } {
                0 => Visibility::Nothing,
                1 => Visibility::StatusOnly,
                _ => Visibility::StatusAndLastSeen,
            };
            assert_eq!(revealed[at], wanted, "round {round}, viewer {at}: {bits:#b}, {legal:?}");
        }
        let previous = hand.pick(&[Status::Online, Status::Away, Status::Offline]);
        let (now, user, event) = (1, &alice, Event::Connected);
        let seen = Observation { now, user, event, connections: 1, idle_ms: 0, declared: None, previous };
        let sighting = generation.observe(&seen);
        let rank = |status: contract::Status| match status {
            contract::Status::Online => Status::Online,
            contract::Status::Away => Status::Away,
            contract::Status::Offline => Status::Offline,
        };
        let mut lowest = Status::Online;
        for (_, said) in hand.said() {
            let Said::Observe(said) = said else { panic!("round {round}: {said:?}") };
            if said.recheck == 0 || said.recheck >= 1_000 {
                lowest = lowest.min(rank(said.status));
            }
        }
        assert_eq!(sighting.status, lowest, "round {round}");
        assert!(sighting.recheck_ms == 0 || sighting.recheck_ms >= 1_000, "round {round}: {}", sighting.recheck_ms);
    }
    assert!(stood > ROUNDS / 2 && fell > ROUNDS / 4, "{stood} stood, {fell} fell");
}
