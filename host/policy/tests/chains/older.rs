//! Generations that decide no more: none is forgotten before its records were worked on, and memory stays bounded.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use heddle_model::Delivery;
use heddle_model::{Fallback, GroupId, Hook, Topic, TopicPartition};
use heddle_policy::{Change, Generation, OlderNumbers, Policies, PolicyError, PolicyLimits, Request, Seal, SortAsk};

use crate::scripted::{BODY, Rows, id, plugin, start_with, user};

const PARTITION: TopicPartition = TopicPartition { topic: Topic::GroupMessages, partition: 0 };

/// Generation 1 leaves out every second member; each later one has another plugin, and lets all have it.
async fn swapped(swaps: usize) -> (Arc<Rows>, Policies) {
    let catalog = Arc::<Rows>::default();
    let odd = plugin("odd", Hook::Fanout, "closed", "odd", false);
    let policies = start_with(&catalog, vec![(Hook::Fanout, vec![odd])], "pass").await.unwrap();
    change(&policies, Change::Remove { plugin: "odd".to_owned(), hook: None }).await;
    for n in 0..swaps {
        swap(&policies, n).await;
    }
    (catalog, policies)
}

async fn change(policies: &Policies, change: Change) {
    let request = Request { change, who: "tester".to_owned(), why: "a test".to_owned() };
    policies.change(request).await.unwrap_or_else(|error| panic!("{error}"));
}

async fn swap(policies: &Policies, n: usize) {
    let file =
        plugin(&format!("p{}", n % 2), Hook::Presence, "builtin", if n % 4 < 2 { "pass" } else { "offline" }, false);
    change(policies, Change::Deploy { hook: None, file, seal: Seal::default(), trial: None }).await;
}

fn left_out(generation: &Generation) -> (usize, Option<Fallback>) {
    let (group, sender) = (&GroupId::new("home").unwrap(), &user("alice"));
    let facts = &[0; 10];
    let ask = SortAsk {
        now: 1,
        id: id(),
        group,
        sender,
        members: 11,
        online: 0,
        message: BODY,
        facts,
        attempt: 0,
        last: false,
    };
    let sorted = generation.sort(&ask).expect("somebody decides");
    (sorted.deliveries.iter().filter(|how| **how == Delivery::LeaveOut).count(), sorted.decisions[0].fallback)
}

/// Everything that the log held when nobody served them any more was worked on.
fn drain(policies: &Policies) {
    policies.ended(&policies.quiet(Duration::ZERO), vec![(PARTITION, 7)]);
    policies.worked(&HashMap::from([(PARTITION, 7)]));
}

fn loaded(policies: &Policies) -> String {
    policies
        .exposition()
        .lines()
        .filter(|line| line.starts_with("heddle_policy_generations{"))
        .collect::<Vec<_>>()
        .join(" ")
}

#[tokio::test]
async fn a_generation_is_drained_when_nobody_serves_it_and_what_the_log_held_then_was_worked_on() {
    let (_, policies) = swapped(0).await;
    let served = policies.generation(1).await.unwrap();
    assert_eq!(policies.quiet(Duration::ZERO), Vec::<u64>::new(), "somebody may still stamp a message with it");
    drop(served);
    assert_eq!((policies.older().draining, policies.older().waiting), (vec![1], vec![]));
    assert_eq!(policies.quiet(Duration::from_secs(60)), Vec::<u64>::new(), "another node may");
    policies.ended(&policies.quiet(Duration::ZERO), vec![(PARTITION, 7)]);
    policies.worked(&HashMap::from([(PARTITION, 6)]));
    let older = |draining: &[u64], kept: &[u64]| OlderNumbers {
        draining: draining.to_vec(),
        loaded: draining.to_vec(),
        waiting: draining.to_vec(),
        kept: kept.to_vec(),
    };
    assert_eq!(policies.older(), older(&[1], &[]));
    assert!(loaded(&policies).contains("standing=\"draining\"} 1"), "{}", loaded(&policies));
    policies.worked(&HashMap::from([(PARTITION, 7)]));
    assert_eq!(policies.older(), older(&[], &[1]));
    assert!(loaded(&policies).contains("standing=\"kept\"} 1"), "{}", loaded(&policies));
    assert!(!policies.drains());
}

#[tokio::test]
async fn however_many_swaps_a_generation_that_is_not_drained_is_never_lost_and_memory_is_bounded() {
    let (_, policies) = swapped(20).await;
    assert_eq!(policies.older().draining, Vec::from_iter(1..=21), "all wait for their records");
    assert_eq!(policies.older().loaded, [19, 20, 21]);
    assert_eq!(policies.figures().generations, 1 + 3, "some of them loaded");
    assert_eq!(left_out(&policies.generation(1).await.unwrap()), (5, None), "read from the catalog again");
    assert_eq!(policies.figures().generations, 1 + 3);
    drain(&policies);
    assert_eq!(policies.older().draining, Vec::<u64>::new());
    assert_eq!(policies.older().kept.len(), 2);
    assert_eq!(loaded(&policies).matches("} ").count(), 3, "{}", loaded(&policies));
    // Drained and forgotten, and met all the same: it drains anew.
    assert_eq!(left_out(&policies.generation(1).await.unwrap()), (5, None));
}

#[tokio::test]
async fn a_generation_that_the_catalog_does_not_give_is_waited_for_and_never_replaced() {
    let (catalog, policies) = swapped(20).await;
    catalog.down.store(true, Ordering::SeqCst);
    assert!(matches!(policies.generation(1).await, Err(PolicyError::Catalog { number: 1, .. })));
    catalog.down.store(false, Ordering::SeqCst);
    assert_eq!(left_out(&policies.generation(1).await.unwrap()), (5, None));
}

#[tokio::test]
async fn a_revoked_generation_is_the_built_in_plan_from_then_on_though_it_was_loaded() {
    let (_, policies) = swapped(1).await;
    assert_eq!(left_out(&policies.generation(1).await.unwrap()), (5, None));
    change(&policies, Change::Revoke { generation: Some(1) }).await;
    assert_eq!(left_out(&policies.generation(1).await.unwrap()), (0, Some(Fallback::Builtin)));
}

#[tokio::test]
async fn fewer_are_kept_and_loaded_as_soon_as_the_bounds_say_so_and_what_decides_may_not_outgrow_them() {
    let (_, policies) = swapped(6).await;
    let limits = PolicyLimits { draining_max: 1, generations_max: 1, ..PolicyLimits::default() };
    policies.limit(limits.clone(), 1);
    assert_eq!(policies.figures().generations, 1 + 1, "the others are read from the catalog when they are met");
    assert_eq!(policies.older().draining.len(), 7, "and none is forgotten");
    drain(&policies);
    assert_eq!(policies.older().kept.len(), 1);
    assert_eq!(policies.outgrown(&limits), Vec::<String>::new());
    let tight = policies.outgrown(&PolicyLimits { deadline_ms_max: 1, chain_max: 1, ..limits.clone() });
    assert!(tight.iter().any(|problem| problem.contains("presence: 3 plugins")), "{tight:?}");
    assert!(tight.iter().any(|problem| problem.contains("asks for a deadline of 5 ms")), "{tight:?}");
    policies.limit(PolicyLimits { deadline_ms_max: 4, ..limits }, 1);
    let file = plugin("late", Hook::Routing, "builtin", "pass", false);
    let deploy = Change::Deploy { hook: None, file, seal: Seal::default(), trial: None };
    let request = Request { change: deploy, who: "tester".to_owned(), why: "a test".to_owned() };
    let refused = policies.change(request).await.err().expect("it asks for more").to_string();
    assert!(refused.contains("deadline of 5 ms, at most 4"), "{refused}");
}
