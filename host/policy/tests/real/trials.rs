//! Plugins on trial, plugins taken back, and what was recorded: real components, a catalog in SQLite.

use std::collections::BTreeMap;
use std::time::Duration;

use heddle_model::{Conversation, Fallback, Hook};
use heddle_pack::Manifest;
use heddle_policy::{
    Change, ChangeError, Changed, Loader as _, Outcome, PluginRef, Request, Seal, Standing, Succession, TrialMode,
    replay,
};

use crate::world::{EngineLoader, Sent, World, component, file, fixture, group, user};

/// Once the guard is done with what it may be doing.
async fn change(world: &World, change: Change) -> Result<Changed, ChangeError> {
    loop {
        let request = Request { change: change.clone(), who: "tester".to_owned(), why: "a test".to_owned() };
        match world.policies.change(request).await {
            Err(ChangeError::Busy) => tokio::task::yield_now().await,
            done => return done,
        }
    }
}

fn trial(plugin: PluginRef, mode: TrialMode) -> Change {
    Change::Deploy { hook: None, file: plugin, seal: Seal::default(), trial: Some(mode) }
}

fn deploy(plugin: PluginRef) -> Change {
    Change::Deploy { hook: None, file: plugin, seal: Seal::default(), trial: None }
}

/// The component of a fixture under another name, that fails as said.
fn named(fixture: &str, name: &str, on_failure: &str) -> PluginRef {
    let toml = format!("name = \"{name}\"\nversion = \"1.0.0\"\n[hooks.routing]\non_failure = \"{on_failure}\"\n");
    let manifest = Manifest::parse(&toml, "plugin.toml").unwrap();
    file(name, heddle_pack::pack(&component(fixture), &manifest, &[]).unwrap())
}

fn to(conversation: usize) -> Sent {
    Sent { to: group(&format!("g{conversation}")), ..Sent::default() }
}

fn refused(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Reject(_))
}

fn standings(world: &World, hook: Hook) -> Vec<(String, Standing)> {
    let infos = world.policies.current().describe();
    infos.into_iter().filter(|info| info.hook == hook).map(|info| (info.name.to_string(), info.standing)).collect()
}

/// Until `done`, or a minute is over.
async fn until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..6_000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("a minute is over, still not: {what}");
}

#[tokio::test]
async fn a_shadow_decides_nothing_and_says_what_it_would_have_said() {
    let world = World::start(vec![]).await;
    change(&world, trial(fixture("deny-all"), TrialMode::Shadow)).await.unwrap();
    for n in 0..50 {
        assert!(!refused(&world.route(to(n)).outcome));
    }
    let report = || world.policies.current().trial().remove(0).shadow.unwrap();
    until("all were looked at", || report().changed + report().dropped == 50).await;
    assert_eq!((report().same, report().faults), (0, 0));
    assert!(!report().differences.is_empty());
    assert_eq!(standings(&world, Hook::Routing)[1], ("deny-all".to_owned(), Standing::Trial(TrialMode::Shadow)));

    assert!(matches!(
        change(&world, trial(fixture("mark"), TrialMode::Shadow)).await,
        Err(ChangeError::Refused { .. })
    ));
    change(&world, Change::Promote).await.unwrap();
    assert!(refused(&world.route(to(1)).outcome));
    assert!(world.policies.current().trial().is_empty());
    assert!(matches!(change(&world, Change::Promote).await, Err(ChangeError::Unknown { .. })));
}

#[tokio::test]
async fn a_shadow_in_the_place_of_another_is_compared_with_it() {
    let world = World::start(vec![(Hook::Routing, vec![fixture("mark")])]).await;
    let other = PluginRef {
        config: BTreeMap::from([("mark".to_owned(), "a".into())]).into_iter().collect(),
        ..fixture("mark")
    };
    change(&world, trial(other, TrialMode::Shadow)).await.unwrap();
    (0..20).for_each(|n| drop(world.route(to(n))));
    let report = || world.policies.current().trial().remove(0).shadow.unwrap();
    until("all were looked at", || report().same + report().changed + report().dropped == 20).await;
    assert_eq!(report().changed, 0);
}

#[tokio::test]
async fn a_canary_decides_for_its_share_of_the_conversations_and_keeps_to_them() {
    let world = World::start(vec![]).await;
    change(&world, trial(fixture("mark"), TrialMode::Canary { percent: 30 })).await.unwrap();
    let taken = |world: &World| -> Vec<usize> {
        let marked = |n: &usize| match world.route(to(*n)).outcome {
            Outcome::Accept(accepted) => !accepted.tags.is_empty(),
            other => panic!("{other:?}"),
        };
        (0..200).filter(marked).collect()
    };
    let first = taken(&world);
    assert!((30..=90).contains(&first.len()), "{} of 200", first.len());
    assert_eq!(taken(&world), first);
    // Another generation with the same canary, and another start: the same conversations.
    let set = [("max_bytes".to_owned(), 60_000.into())].into_iter().collect();
    change(&world, Change::Configure { plugin: "inbox-routing".to_owned(), changes: set }).await.unwrap();
    assert_eq!(taken(&world), first);
    let world = world.again(vec![]).await;
    assert_eq!(taken(&world), first);
    change(&world, Change::Abandon).await.unwrap();
    assert_eq!(taken(&world), Vec::<usize>::new());
}

#[tokio::test]
async fn a_canary_that_refuses_otherwise_than_the_rest_is_abandoned_by_itself() {
    let world = World::start(vec![]).await;
    change(&world, trial(fixture("deny-all"), TrialMode::Canary { percent: 50 })).await.unwrap();
    let mut refusals = 0;
    for n in 0..1_000 {
        refusals += usize::from(refused(&world.route(to(n)).outcome));
    }
    assert!((100..900).contains(&refusals), "{refusals}");
    until("it is abandoned", || world.policies.current().number() == 3).await;
    assert!(!(0..100).any(|n| refused(&world.route(to(n)).outcome)));
    let row = world.policies.history(1).await.unwrap().remove(0);
    assert_eq!((&*row.who, &*row.what), ("heddle", "abandon"));
    assert!(row.why.starts_with("routing: the canary refuses"), "{}", row.why);
}

#[tokio::test]
async fn a_canary_that_traps_is_abandoned_by_itself() {
    let world = World::start(vec![]).await;
    change(&world, trial(fixture("trap"), TrialMode::Canary { percent: 90 })).await.unwrap();
    for n in 0..20 {
        let _ = world.route_of(&format!("u{n}"), to(n));
    }
    until("it is abandoned", || world.policies.current().number() == 3).await;
    assert!(world.policies.history(1).await.unwrap()[0].why.starts_with("3 faults on trial, the last: trap"));
}

#[tokio::test]
async fn a_plugin_that_goes_on_failing_gives_way_to_its_version_before() {
    let world = World::start(vec![]).await;
    change(&world, deploy(named("deny-all", "guard", "builtin"))).await.unwrap();
    change(&world, deploy(named("trap", "guard", "builtin"))).await.unwrap();
    let set = [("max_bytes".to_owned(), 60_000.into())].into_iter().collect();
    change(&world, Change::Configure { plugin: "inbox-routing".to_owned(), changes: set }).await.unwrap();
    for n in 0..5 {
        let routed = world.route_of(&format!("u{n}"), Sent::default());
        assert_eq!(routed.decisions[1].fallback, Some(Fallback::Builtin));
    }
    until("the breaker has opened", || world.policies.current().number() == 5).await;
    assert!(refused(&world.route(Sent::default()).outcome), "the version before refuses");
    let infos = world.policies.current().describe();
    let routing = infos.iter().find(|info| &*info.name == "inbox-routing").unwrap();
    assert_eq!(routing.config["max_bytes"], 60_000, "what was changed since stays");
    let row = world.policies.history(1).await.unwrap().remove(0);
    assert_eq!((&*row.who, &*row.what), ("heddle", "break"));
    assert!(row.why.starts_with("5 faults in a row, the last: trap"), "{}", row.why);
}

#[tokio::test]
async fn one_poisonous_sender_takes_no_plugin_down() {
    let world = World::start(vec![]).await;
    change(&world, deploy(named("trap", "guard", "builtin"))).await.unwrap();
    for _ in 0..50 {
        assert_eq!(world.route(Sent::default()).decisions[1].fallback, Some(Fallback::Builtin));
    }
    let tally = world.policies.current().describe()[2].tally;
    assert_eq!((tally.calls, tally.faults), (2, 2), "it was spared after two strikes");
    // The alarm comes with the fifth fault in a row, and says so: the fifty sends were two of them.
    for n in 0..3 {
        let _ = world.route_of(&format!("u{n}"), Sent::default());
    }
    until("three more faults open the breaker", || world.policies.current().number() == 3).await;
    assert!(world.policies.history(1).await.unwrap()[0].why.starts_with("5 faults in a row"));
}

#[tokio::test]
async fn a_filter_that_says_closed_is_not_taken_back_to_nothing() {
    let world = World::start(vec![]).await;
    change(&world, deploy(named("trap", "guard", "closed"))).await.unwrap();
    for n in 0..5 {
        assert!(refused(&world.route_of(&format!("u{n}"), Sent::default()).outcome));
    }
    // Alarms are heeded in their order: when the second plugin has been taken back, that of the first was looked at.
    change(&world, deploy(named("trap", "other", "builtin"))).await.unwrap();
    let plugins = ["inbox-routing", "other", "guard"].map(str::to_owned).to_vec();
    change(&world, Change::Chain { hook: Hook::Routing, plugins }).await.unwrap();
    for n in 0..5 {
        let _ = world.route_of(&format!("v{n}"), Sent::default());
    }
    let names = || standings(&world, Hook::Routing).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    until("the other one is taken back", || names() == ["inbox-routing", "guard"]).await;
    assert!(refused(&world.route_of("late", Sent::default()).outcome));
}

#[tokio::test]
async fn a_disabled_plugin_keeps_its_place_and_its_configuration() {
    let world = World::start(vec![]).await;
    change(&world, deploy(fixture("deny-all"))).await.unwrap();
    change(&world, deploy(fixture("mark"))).await.unwrap();
    let enable = |enabled| Change::Enable { plugin: "deny-all".to_owned(), hook: None, enabled };
    change(&world, enable(false)).await.unwrap();
    assert!(!refused(&world.route(Sent::default()).outcome));
    let world = world.again(vec![]).await;
    assert!(!refused(&world.route(Sent::default()).outcome));
    assert!(standings(&world, Hook::Routing).contains(&("deny-all".to_owned(), Standing::Disabled)));
    change(&world, enable(true)).await.unwrap();
    assert!(refused(&world.route(Sent::default()).outcome));
    let names: Vec<String> = standings(&world, Hook::Routing).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["inbox-routing", "deny-all", "mark"]);
}

#[tokio::test]
async fn the_records_of_a_revoked_generation_are_fanned_out_by_the_built_in_plan() {
    let world = World::start(vec![]).await;
    let leave_out = fixture("leave-out-odd");
    change(&world, deploy(leave_out)).await.unwrap();
    let sorted = |generation: std::sync::Arc<heddle_policy::Generation>| world.sort_by(&generation, &[0, 0, 0]);
    let (before, fallback) = sorted(world.policies.generation(2).await.unwrap());
    assert!(before.contains(&heddle_model::Delivery::LeaveOut) && fallback.is_none());
    change(&world, Change::Revoke { generation: None }).await.unwrap();
    assert_eq!(world.policies.current().number(), 3);
    let (after, fallback) = sorted(world.policies.generation(2).await.unwrap());
    assert!(!after.contains(&heddle_model::Delivery::LeaveOut));
    assert_eq!(fallback, Some(Fallback::Builtin));
    // And after a restart.
    let world = world.again(vec![]).await;
    let again = world.policies.generation(2).await.unwrap();
    assert_eq!(world.sort_by(&again, &[0, 0, 0]).1, Some(Fallback::Builtin));
    assert!(matches!(change(&world, Change::Revoke { generation: Some(9) }).await, Err(ChangeError::Unknown { .. })));
}

#[tokio::test]
async fn a_replay_says_what_would_be_otherwise_and_says_it_again() {
    let world = World::start(vec![]).await;
    for n in 0..300 {
        let to = if n % 2 == 0 { group("home") } else { Conversation::Direct(user("bob")) };
        let size = if n % 10 == 0 { 100_000 } else { 5 };
        let _ = world.route(Sent { to, size, tag: None });
    }
    let calls = world.policies.recorded(0, Some(Hook::Routing), None);
    assert_eq!(calls.len(), 300);
    let load = async |plugin: PluginRef| {
        let packed = heddle_pack::unpack(plugin.bytes.as_ref()).unwrap();
        let config = packed.manifest.config_json();
        EngineLoader::default().load(&packed, Hook::Routing, &config).await.unwrap()
    };
    let builtin = heddle_builtin::plugins().into_iter().find(|(hook, _)| *hook == "routing").unwrap().1;
    let same = replay(&load(file("inbox-routing", builtin.bytes.to_vec())).await, &calls, Succession::Same);
    assert_eq!((same.same, same.changed.len(), same.skipped), (300, 0, 0));

    let deny = load(fixture("deny-all")).await;
    let after = replay(&deny, &calls, Succession::After);
    assert_eq!((after.same, after.changed.len(), after.skipped), (0, 270, 30), "what is refused before is not asked");
    assert_eq!(after, replay(&deny, &calls, Succession::After));
}

#[tokio::test]
async fn ten_thousand_recorded_decisions_are_replayed_to_the_same_bytes() {
    let chains = vec![(Hook::RateLimit, vec![fixture("quota")]), (Hook::Routing, vec![fixture("lots")])];
    let world = World::start(chains).await;
    for n in 0..5_000 {
        let _ = world.rate(&format!("u{}", n % 1_500), 1_000 + n);
        let _ = world.route_of(&format!("u{n}"), Sent { size: n as u32, ..to(n as usize) });
    }
    for (hook, name, both) in [(Hook::RateLimit, "quota", [400, 4_500]), (Hook::Routing, "lots", [0, 5_000])] {
        let calls = world.policies.recorded(0, Some(hook), None);
        assert_eq!(calls.len(), 5_000);
        let packed = heddle_pack::unpack(fixture(name).bytes.as_ref()).unwrap();
        let config = packed.manifest.config_json();
        let mut bytes = Vec::new();
        for _ in 0..2 {
            let candidate = EngineLoader::default().load(&packed, hook, &config).await.unwrap();
            let replayed = replay(&candidate, &calls, Succession::Same);
            bytes.push(serde_json::to_vec(&replayed).unwrap());
            let refused = calls.iter().filter(|call| format!("{:?}", call.answer).contains("Refusal")).count();
            assert!(refused > both[0] && refused < both[1], "{refused} of {name}");
        }
        assert_eq!(bytes[0], bytes[1], "{name}");
    }
}
