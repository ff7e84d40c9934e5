//! Policy sets that change while they decide: real components, a catalog in SQLite.

use heddle_model::Hook;
use heddle_pack::Manifest;
use heddle_policy::{Change, ChangeError, Changed, Outcome, PluginRef, Request, Seal};
use serde_json::json;

use crate::world::{Sent, World, component, file, fixture};

async fn change(world: &World, change: Change) -> Result<Changed, ChangeError> {
    world.policies.change(Request { change, who: "tester".to_owned(), why: "a test".to_owned() }).await
}

fn deploy(plugin: PluginRef) -> Change {
    Change::Deploy { hook: None, file: plugin, seal: Seal::default(), trial: None }
}

fn refuses(world: &World) -> bool {
    matches!(world.route(Sent::default()).outcome, Outcome::Reject(_))
}

fn names(world: &World, hook: Hook) -> Vec<String> {
    let infos = world.policies.current().describe();
    infos.iter().filter(|info| info.hook == hook).map(|info| info.name.to_string()).collect()
}

fn problems(outcome: Result<Changed, ChangeError>) -> Vec<String> {
    match outcome {
        Err(ChangeError::Refused { problems }) => problems,
        Err(other) => panic!("{other}"),
        Ok(changed) => panic!("generation {} decides", changed.now.number()),
    }
}

#[tokio::test]
async fn a_deployed_plugin_decides_at_once_and_a_rollback_takes_it_away() {
    let world = World::start(vec![]).await;
    let old = world.policies.current();
    assert!(!refuses(&world));
    let changed = change(&world, deploy(fixture("deny-all"))).await.unwrap();
    assert_eq!((changed.before, changed.now.number()), (1, 2));
    assert_eq!(names(&world, Hook::Routing), ["inbox-routing", "deny-all"], "at the end of the chain");
    assert!(refuses(&world));
    // Who holds the generation of before is served by it to the end.
    assert_eq!(old.number(), 1);
    assert_eq!(world.policies.generation(1).await.unwrap().number(), 1);

    assert_eq!(change(&world, Change::Rollback { to: None }).await.unwrap().now.number(), 3);
    assert!(!refuses(&world));
    assert_eq!(change(&world, Change::Rollback { to: Some(2) }).await.unwrap().now.number(), 4);
    assert!(refuses(&world));
    let unknown = change(&world, Change::Rollback { to: Some(99) }).await;
    assert!(matches!(&unknown, Err(ChangeError::Unknown { what }) if what == "generation 99"));
}

#[tokio::test]
async fn a_change_that_changes_nothing_makes_no_generation() {
    let world = World::start(vec![]).await;
    let plugin = fixture("deny-all");
    change(&world, deploy(plugin.clone())).await.unwrap();
    let again = change(&world, deploy(plugin)).await.unwrap();
    assert_eq!((again.before, again.now.number()), (2, 2));
}

#[tokio::test]
async fn configuration_alone_makes_a_generation_and_outlives_a_new_version_and_a_restart() {
    let world = World::start(vec![]).await;
    let burst = |value| Change::Configure {
        plugin: "token-bucket".to_owned(),
        changes: [("burst".to_owned(), value)].into_iter().collect(),
    };
    assert_eq!(change(&world, burst(json!(1))).await.unwrap().now.number(), 2);
    assert_eq!(world.rate("alice", 1_000_000).denied, None);
    assert!(world.rate("alice", 1_000_000).denied.is_some(), "a burst of one");
    let wrong = problems(change(&world, burst(json!("many"))).await);
    assert!(wrong.iter().any(|problem| problem.contains("many")), "{wrong:?}");

    let world = world.again(vec![]).await;
    assert_eq!(world.policies.current().number(), 2, "the same set after a restart");
    assert_eq!(world.rate("bob", 1_000_000).denied, None);
    assert!(world.rate("bob", 1_000_000).denied.is_some());
    assert_eq!(change(&world, burst(json!(null))).await.unwrap().now.number(), 3);
    assert_eq!(world.rate("carol", 1_000_000).denied, None);
    assert_eq!(world.rate("carol", 1_000_000).denied, None, "the manifest's own value again");
}

#[tokio::test]
async fn what_was_deployed_is_there_after_a_restart_until_the_configuration_says_otherwise() {
    let world = World::start(vec![]).await;
    change(&world, deploy(fixture("deny-all"))).await.unwrap();
    let world = world.again(vec![]).await;
    assert_eq!(world.policies.current().number(), 2);
    assert!(refuses(&world));
    let world = world.again(vec![(Hook::Routing, vec![fixture("discard")])]).await;
    assert_eq!((world.policies.current().number(), names(&world, Hook::Routing)), (3, vec!["discard".to_owned()]));
}

#[tokio::test]
async fn chains_are_ordered_and_shortened_by_name() {
    let world = World::start(vec![]).await;
    change(&world, deploy(fixture("deny-all"))).await.unwrap();
    let order = |names: &[&str]| Change::Chain {
        hook: Hook::Routing,
        plugins: names.iter().map(|name| (*name).to_owned()).collect(),
    };
    change(&world, order(&["deny-all", "inbox-routing"])).await.unwrap();
    assert_eq!(names(&world, Hook::Routing), ["deny-all", "inbox-routing"]);
    let unknown = change(&world, order(&["nobody"])).await;
    assert!(matches!(&unknown, Err(ChangeError::Unknown { what }) if what.contains("deny-all, inbox-routing")));
    let remove = Change::Remove { plugin: "deny-all".to_owned(), hook: None };
    change(&world, remove.clone()).await.unwrap();
    assert_eq!(names(&world, Hook::Routing), ["inbox-routing"]);
    assert!(matches!(change(&world, remove).await, Err(ChangeError::Unknown { .. })));
    change(&world, order(&[])).await.map(drop).unwrap();
    assert_eq!(names(&world, Hook::Routing), ["inbox-routing"], "an empty chain is the built-in one");
}

#[tokio::test]
async fn whatever_is_wrong_with_a_file_the_present_set_goes_on_deciding() {
    let world = World::start(vec![]).await;
    let good = fixture("deny-all");
    let truncated = file("truncated", good.bytes[..good.bytes.len() / 2].to_vec());
    let elsewhere = Change::Deploy { hook: Some(Hook::Presence), file: good, seal: Seal::default(), trial: None };
    let changes = [
        deploy(file("text", b"no component at all".to_vec())),
        deploy(truncated),
        deploy(fixture("wrong-type")),
        deploy(fixture("trap-at-start")),
        elsewhere,
    ];
    for wrong in changes {
        let said = problems(change(&world, wrong).await);
        assert!(!said.is_empty() && said.iter().all(|problem| !problem.is_empty()), "{said:?}");
        assert_eq!(world.policies.current().number(), 1);
        assert!(!refuses(&world));
    }
}

#[tokio::test]
async fn of_many_changes_at_once_one_is_taken_and_the_others_are_told() {
    let world = World::start(vec![]).await;
    let plugins = ["deny-all", "discard", "rewrite", "redirect"].map(fixture);
    let outcomes = futures_util::future::join_all(plugins.map(|plugin| change(&world, deploy(plugin)))).await;
    let taken = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    let busy = outcomes.iter().filter(|outcome| matches!(outcome, Err(ChangeError::Busy))).count();
    assert_eq!((taken, busy), (1, 3));
    assert_eq!(world.policies.current().number(), 2);
}

#[tokio::test]
async fn a_message_is_decided_by_one_generation_however_often_it_is_swapped() {
    let world = World::start(vec![]).await;
    let deny = fixture("deny-all");
    for round in 0..10_u64 {
        let held = world.policies.current();
        change(&world, deploy(deny.clone())).await.unwrap();
        change(&world, Change::Remove { plugin: "deny-all".to_owned(), hook: None }).await.unwrap();
        assert_eq!(held.number(), 1 + 2 * round);
        assert_eq!(world.policies.current().number(), 3 + 2 * round);
    }
    assert!(!refuses(&world));
    assert!(world.policies.figures().generations <= 5, "older ones are let go: {:?}", world.policies.figures());
}

/// The component of `quota` with another version of its state.
fn quota(version: &str, state_version: u32, form: u8, migrates: bool) -> PluginRef {
    let toml = format!(
        "name = \"quota\"\nversion = \"{version}\"\nstate_version = {state_version}\n\
         [hooks.rate-limit]\nscopes = [\"user\"]\non_failure = \"closed\"\n\
         [config]\nform = {form}\nmigrates = {migrates}\n"
    );
    let manifest = Manifest::parse(&toml, "plugin.toml").unwrap();
    file("quota", heddle_pack::pack(&component("quota"), &manifest, &[]).unwrap())
}

/// How many of five commands are allowed.
fn allowed(world: &World, user: &str) -> usize {
    (0..5).filter(|_| world.rate(user, 1_000).denied.is_none()).count()
}

#[tokio::test]
async fn state_survives_a_swap_and_another_version_of_it_migrates_or_starts_afresh() {
    let world = World::start(vec![(Hook::RateLimit, vec![quota("1.0.0", 1, 1, true)])]).await;
    for user in ["alice", "bob", "carol"] {
        assert_eq!(world.rate(user, 1_000).denied, None);
    }
    change(&world, deploy(quota("1.0.1", 1, 1, false))).await.unwrap();
    assert_eq!(allowed(&world, "alice"), 2, "the same state_version goes on where the version before was");
    change(&world, deploy(quota("2.0.0", 2, 2, true))).await.unwrap();
    assert_eq!(allowed(&world, "alice"), 0, "what was counted before is migrated");
    assert_eq!(allowed(&world, "bob"), 2);
    change(&world, deploy(quota("3.0.0", 3, 1, false))).await.unwrap();
    assert_eq!(allowed(&world, "bob"), 3, "what does not migrate starts afresh");
    change(&world, Change::Rollback { to: None }).await.unwrap();
    assert_eq!(allowed(&world, "bob"), 0, "the version before finds what it left");
    assert_eq!(allowed(&world, "carol"), 3, "her state of version 1 is two versions old for the rollback's plugin");
    let faults: u64 = world.policies.current().describe().iter().map(|info| info.tally.faults).sum();
    assert_eq!(faults, 0);
}
