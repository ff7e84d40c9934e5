//! A change of the policy set leaves alone what it does not change: components and their warm instances stay, and only counters begin anew.

use heddle_model::Hook;
use heddle_policy::{Change, Generation, Outcome, PluginRef, Request, Seal};
use serde_json::{Map, json};

use crate::world::{Sent, World, fixture};

async fn change(world: &World, change: Change) {
    let request = Request { change, who: "tester".to_owned(), why: "a test".to_owned() };
    world.policies.change(request).await.unwrap_or_else(|error| panic!("{error}"));
}

fn deploy(file: PluginRef) -> Change {
    Change::Deploy { hook: None, file, seal: Seal::default(), trial: None }
}

/// What the fixture `counter` says: how often its instance was asked.
fn number(world: &World) -> u32 {
    let Outcome::Accept(accepted) = world.route(Sent::default()).outcome else { panic!("it is accepted") };
    accepted.tags.iter().find(|(name, _)| &**name == "number").expect("it tells").1.parse().expect("a number")
}

fn calls(generation: &Generation, name: &str) -> u64 {
    generation.describe().iter().filter(|info| &*info.name == name).map(|info| info.tally.calls).sum()
}

#[tokio::test]
async fn a_change_loads_what_is_new_and_nothing_else() {
    let world = World::start(vec![]).await;
    assert_eq!(world.loaded().len(), Hook::ALL.len(), "the built-in ones");
    let mark = fixture("mark");
    change(&world, deploy(mark.clone())).await;
    assert_eq!(world.loaded(), [("mark".to_owned(), Hook::Routing)]);
    let changes = Map::from_iter([("mark".to_owned(), json!("z"))]);
    change(&world, Change::Configure { plugin: "mark".to_owned(), changes }).await;
    assert_eq!(world.loaded(), [("mark".to_owned(), Hook::Routing)], "other configuration is another component");
    change(&world, deploy(fixture("leave-out-odd"))).await;
    assert_eq!(world.loaded(), [("leave-out-odd".to_owned(), Hook::Fanout)]);
    // The generations of before hold theirs: nothing is loaded to go back to them.
    change(&world, Change::Rollback { to: Some(2) }).await;
    assert_eq!(world.loaded(), []);
}

#[tokio::test]
async fn a_plugin_that_stays_keeps_its_warm_instances_and_is_counted_anew() {
    let world = World::start(vec![(Hook::Routing, vec![fixture("counter")])]).await;
    let first = number(&world);
    assert_eq!(number(&world), first + 1, "one instance answers");
    let before = world.policies.current();
    change(&world, deploy(fixture("leave-out-odd"))).await;
    assert!(number(&world) > first + 1, "it begins anew: another instance was made");
    assert_eq!((calls(&before, "counter"), calls(&world.policies.current(), "counter")), (2, 1));
}
