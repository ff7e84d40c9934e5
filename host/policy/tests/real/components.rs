//! Real components in the host's chains: the four built-ins, and policies that do what none should.

use heddle_model::{Conversation, Delivery, Fallback, Hook, Plan};
use heddle_pack::Manifest;
use heddle_policy::{Outcome, PluginRef, RefusalCode, StartError};
use heddle_presence::{Event, Status, Visibility, relation};

use crate::world::{Sent, World, file, fixture, group, user};

/// 2023-11-14, in milliseconds.
const NOW: u64 = 1_700_000_000_000;

/// The component of `trap` with a manifest for one hook.
fn trap(hook: Hook, on_failure: &str) -> PluginRef {
    renamed("trap", "trap", hook, on_failure)
}

fn renamed(fixture: &str, name: &str, hook: Hook, on_failure: &str) -> PluginRef {
    let text = format!("name = \"{name}\"\nversion = \"0.2.0\"\n[hooks.{hook}]\non_failure = \"{on_failure}\"\n");
    let manifest = Manifest::parse(&text, "plugin.toml").unwrap();
    let bytes = heddle_pack::pack(&crate::world::component(fixture), &manifest, &[]).unwrap();
    file(name, bytes)
}

#[tokio::test]
async fn without_configuration_each_hook_has_its_built_in() {
    let world = World::start(vec![]).await;
    let infos = world.policies.current().describe();
    let names: Vec<(Hook, &str)> = infos.iter().map(|info| (info.hook, &*info.name)).collect();
    let expected = ["token-bucket", "inbox-routing", "group-fanout", "last-seen"];
    assert_eq!(names, Hook::ALL.into_iter().zip(expected).collect::<Vec<_>>());
    assert!(infos.iter().all(|info| info.micros > 0.0), "each was called at start: {infos:?}");
    assert_eq!(world.policies.current().number(), 1);
}

#[tokio::test]
async fn the_built_in_rate_limit_allows_a_burst_denies_and_allows_again_after_the_time_that_it_told() {
    let world = World::start(vec![]).await;
    for sent in 0..20 {
        assert_eq!(world.rate("alice", NOW).denied, None, "message {sent} of the burst");
    }
    let answer = world.rate("alice", NOW);
    let refusal = answer.denied.expect("the 21st is one too many");
    assert_eq!((refusal.code, refusal.retry_after_ms), (RefusalCode::RateLimited, Some(100)));
    assert_eq!((&*answer.decisions[0].plugin, &*answer.decisions[0].verdict), ("token-bucket", "deny"));
    assert_eq!(answer.decisions[0].fallback, None);
    assert_eq!(world.rate("bob", NOW).denied, None, "another user of the same address");
    assert!(world.rate("alice", NOW + 99).denied.is_some());
    assert_eq!(world.rate("alice", NOW + 100).denied, None);
    assert_eq!(world.policies.figures().states, 3, "two users, one address");
}

#[tokio::test]
async fn the_built_in_routing_accepts_and_refuses_what_is_too_large() {
    let world = World::start(vec![]).await;
    let routed = world.route(Sent::default());
    let Outcome::Accept(accepted) = routed.outcome else { panic!("{:?}", routed.outcome) };
    assert_eq!((accepted.to, accepted.only, accepted.rewritten), (group("home"), None, None));
    assert_eq!((&*routed.decisions[0].verdict, routed.decisions[0].fallback), ("accept", None));
    let Outcome::Reject(refusal) = world.route(Sent { size: 65_537, ..Sent::default() }).outcome else {
        panic!("65,537 bytes are above the limit")
    };
    assert_eq!((refusal.code, refusal.retryable), (RefusalCode::Refused, false));
}

#[tokio::test]
async fn the_built_in_fanout_pushes_in_small_groups_and_pulls_in_large_ones_and_keeps_mutes() {
    let world = World::start(vec![]).await;
    assert_eq!(world.plan(1_000), (Plan::Push, None));
    assert_eq!(world.plan(1_001), (Plan::Pull, None));
    use heddle_policy::fact::{MENTIONED, MUTED, ONLINE};
    let (deliveries, fallback) = world.sort(&[ONLINE, MUTED, MUTED | MENTIONED], 0).unwrap();
    assert_eq!((deliveries, fallback), (vec![Delivery::Push, Delivery::Quiet, Delivery::Push], None));
}

#[tokio::test]
async fn the_built_in_presence_sees_a_connection_and_shows_it_to_contacts() {
    let world = World::start(vec![]).await;
    let seen = world.observe(Event::Connected, 1, Status::Offline);
    assert_eq!((seen.status, seen.announce, seen.recheck_ms), (Status::Online, true, 300_000));
    let seen = world.observe(Event::Disconnected, 0, Status::Online);
    assert_eq!((seen.status, seen.announce, seen.recheck_ms), (Status::Online, false, 10_000));
    let relations = [relation::CONTACT, 0, relation::CONTACT | relation::BLOCKED];
    let revealed = world.policies.current().reveal(NOW, &user("alice"), &relations);
    assert_eq!(revealed, [Visibility::StatusAndLastSeen, Visibility::Nothing, Visibility::Nothing]);
}

#[tokio::test]
async fn a_component_that_traps_on_all_four_hooks_gives_their_closed_answers_each_time() {
    let world = World::start(Hook::ALL.map(|hook| (hook, vec![fixture("trap")])).into()).await;
    for turn in 0..3 {
        let refusal = world.rate("alice", NOW).denied.expect("closed denies");
        assert_eq!((refusal.code, refusal.retryable), (RefusalCode::PolicyUnavailable, true), "turn {turn}");
        let routed = world.route(Sent::default());
        let Outcome::Reject(refusal) = routed.outcome else { panic!("{:?}", routed.outcome) };
        assert_eq!((refusal.code, refusal.retryable), (RefusalCode::PolicyUnavailable, true));
        assert_eq!(routed.decisions[0].fallback, Some(Fallback::Closed));
        assert_eq!(world.plan(4), (Plan::Push, Some(Fallback::Builtin)), "the gateway cannot wait");
        assert!(world.sort(&[0; 4], 0).is_err() && world.sort(&[0; 4], 1).is_err());
        assert_eq!(world.sort(&[0; 4], 2).unwrap(), (vec![Delivery::Push; 4], Some(Fallback::Builtin)));
        let seen = world.observe(Event::Connected, 1, Status::Away);
        assert_eq!((seen.status, seen.announce), (Status::Away, false), "nothing new is shown");
        let revealed = world.policies.current().reveal(NOW, &user("alice"), &[relation::CONTACT]);
        assert_eq!(revealed, [Visibility::Nothing]);
    }
}

#[tokio::test]
async fn where_a_component_that_traps_says_builtin_the_built_in_decides_and_the_decision_says_so() {
    let chains = Hook::ALL.map(|hook| (hook, vec![trap(hook, "builtin")]));
    let world = World::start(chains.into()).await;
    let builtin = Some(Fallback::Builtin);
    for _ in 0..20 {
        let answer = world.rate("alice", NOW);
        assert_eq!((answer.denied, answer.decisions[0].fallback), (None, builtin));
    }
    let refusal = world.rate("alice", NOW).denied.expect("the built-in counts in its place");
    assert_eq!(refusal.code, RefusalCode::RateLimited);
    let routed = world.route(Sent::default());
    assert!(matches!(routed.outcome, Outcome::Accept(_)));
    assert_eq!((&*routed.decisions[0].plugin, routed.decisions[0].fallback), ("trap", builtin));
    assert_eq!(world.plan(1_001), (Plan::Pull, builtin));
    assert_eq!(world.sort(&[0; 4], 0).unwrap(), (vec![Delivery::Push; 4], builtin));
    assert_eq!(world.observe(Event::Connected, 1, Status::Offline).status, Status::Online);
}

#[tokio::test]
async fn where_a_component_that_traps_says_open_it_passes_and_the_decision_says_so() {
    let chains = [Hook::RateLimit, Hook::Presence].map(|hook| (hook, vec![trap(hook, "open")]));
    let world = World::start(chains.into()).await;
    for _ in 0..30 {
        let answer = world.rate("alice", NOW);
        assert_eq!((answer.denied, answer.decisions[0].fallback), (None, Some(Fallback::Open)));
    }
    assert_eq!(world.observe(Event::Connected, 1, Status::Offline).status, Status::Online);
}

#[tokio::test]
async fn where_a_new_version_traps_and_says_previous_the_version_before_it_decides() {
    let chain = |fixture| vec![(Hook::Routing, vec![renamed(fixture, "guard", Hook::Routing, "previous")])];
    let world = World::start(chain("deny-all")).await.again(chain("trap")).await;
    assert_eq!(world.policies.current().number(), 2);
    let routed = world.route(Sent::default());
    let Outcome::Reject(refusal) = routed.outcome else { panic!("{:?}", routed.outcome) };
    assert_eq!((refusal.code, &*refusal.reason), (RefusalCode::Refused, "nobody says anything here"));
    assert_eq!(routed.decisions[0].fallback, Some(Fallback::Previous));
    let before = world.policies.generation(1).await.unwrap();
    assert_eq!(&*before.describe()[1].name, "guard", "an older generation is loaded from the catalog");
}

#[tokio::test]
async fn a_component_that_spins_is_stopped_at_its_deadline_and_the_built_in_decides() {
    let world = World::start(vec![(Hook::Routing, vec![fixture("spin")])]).await;
    assert_eq!(world.policies.current().describe()[1].micros, 0.0, "it answered no call at start");
    for round in 0..5 {
        let routed = world.route(Sent::default());
        assert!(matches!(routed.outcome, Outcome::Accept(_)));
        let decision = &routed.decisions[0];
        assert_eq!((&*decision.plugin, decision.fallback), ("spin", Some(Fallback::Builtin)));
        // After two strikes it is not asked about this sender any more.
        assert!(decision.micros >= 1_000 || round >= 2, "it had its time: {} µs", decision.micros);
    }
    assert_eq!(world.policies.current().describe()[1].tally.calls, 2);
}

#[tokio::test]
async fn a_redirection_holds_only_to_a_group_of_the_senders() {
    let world = World::start(vec![(Hook::Routing, vec![fixture("redirect")])]).await;
    let sent =
        |group| Sent { to: Conversation::Direct(user("bob")), tag: Some(("redirect", group)), ..Sent::default() };
    for (named, to, fallback) in [
        ("mine", group("mine"), None),
        ("foreign", Conversation::Direct(user("bob")), Some(Fallback::Builtin)),
        ("no such\ngroup", Conversation::Direct(user("bob")), Some(Fallback::Builtin)),
    ] {
        let routed = world.route(sent(named));
        let Outcome::Accept(accepted) = routed.outcome else { panic!("{named}: {:?}", routed.outcome) };
        assert_eq!((accepted.to, routed.decisions[0].fallback), (to, fallback), "{named}");
    }
}

#[tokio::test]
async fn codes_that_are_too_few_or_unknown_are_a_fault_and_the_built_in_sorts() {
    for name in ["too-few-codes", "unknown-codes"] {
        let world = World::start(vec![(Hook::Fanout, vec![fixture(name)])]).await;
        let sorted = world.sort(&[0; 3], 0).unwrap();
        assert_eq!(sorted, (vec![Delivery::Push; 3], Some(Fallback::Builtin)), "{name}");
    }
}

#[tokio::test]
async fn contrarian_policies_are_obeyed_within_the_contract() {
    let routing = |name| World::start(vec![(Hook::Routing, vec![fixture(name)])]);
    let refused = routing("deny-all").await.route(Sent::default());
    assert!(matches!(refused.outcome, Outcome::Reject(refusal) if refusal.code == RefusalCode::Refused));
    assert_eq!(routing("discard").await.route(Sent::default()).outcome, Outcome::Discard);
    let Outcome::Accept(accepted) = routing("rewrite").await.route(Sent::default()).outcome else {
        panic!("rewrite accepts")
    };
    assert_eq!(accepted.rewritten.as_deref(), Some("HELLO"));
    assert_eq!(accepted.tags, [("rewritten".into(), "capitals".into())]);

    let fanout = |name| World::start(vec![(Hook::Fanout, vec![fixture(name)])]);
    let expected = vec![Delivery::Push, Delivery::LeaveOut, Delivery::Push, Delivery::LeaveOut, Delivery::Push];
    assert_eq!(fanout("leave-out-odd").await.sort(&[0; 5], 0).unwrap(), (expected, None));
    assert_eq!(fanout("pull-all").await.plan(2), (Plan::Pull, None));

    let world = World::start(vec![
        (Hook::RateLimit, vec![fixture("deny-messages")]),
        (Hook::Presence, vec![fixture("everyone-offline")]),
    ])
    .await;
    let refusal = world.rate("alice", NOW).denied.expect("any message is one too many");
    assert_eq!((refusal.code, refusal.retry_after_ms), (RefusalCode::RateLimited, Some(60_000)));
    let seen = world.observe(Event::Connected, 1, Status::Online);
    assert_eq!((seen.status, seen.announce), (Status::Offline, true));
}

#[tokio::test]
async fn a_component_that_cannot_serve_is_refused_at_start_with_its_file_and_the_reason() {
    for (name, reason) in [
        ("trap-at-start", "no configuration is good enough"),
        ("wrong-type", "`heddle:policy/routing` has another type"),
        ("everyone-offline", "has no hook routing, only presence"),
    ] {
        let started = World::try_start(vec![(Hook::Routing, vec![fixture(name)])]).await;
        let error = started.err().unwrap_or_else(|| panic!("{name} started"));
        let StartError::Refused { problems } = &error else { panic!("{error}") };
        assert_eq!(problems.len(), 1, "{name}: {error}");
        assert!(problems[0].starts_with(&format!("routing: {name}.wasm: ")), "{error}");
        assert!(problems[0].contains(reason), "{error}");
    }
}
