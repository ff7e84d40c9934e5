//! Several nodes that agree on a policy set.

use std::sync::atomic::Ordering;

use heddle_model::{Hook, NodeId};
use heddle_pack::Manifest;
use heddle_policy::{Change, ChangeError, PluginRef, PolicyError, PolicyLimits, StartError};
use heddle_store::Catalog as _;
use tokio::time::sleep;

use crate::nodes::{LOOK, Nodes, Start, until};
use crate::world::{component, file, fixture};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_start_at_once_agree_on_one_set() {
    let nodes = Nodes::new().await;
    // What the log says of itself may look like anything.
    nodes.topic.write(&b"{\x01\xff\"any bytes"[..]);
    let three = nodes.three().await;
    until("one generation", || three.iter().all(|node| node.number() == 1)).await;
    assert!(three.iter().all(|node| node.policies.knows().is_ok()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_node_deploys_decides_at_all_of_them() {
    let nodes = Nodes::new().await;
    let [one, two, three] = nodes.three().await;
    let changed = two.deploy(fixture("deny-all")).await.unwrap();
    assert_eq!((changed.before, changed.now.number()), (1, 2));
    until("the others", || one.number() == 2 && three.number() == 2).await;
    for node in [&one, &two, &three] {
        assert_eq!(node.chain(Hook::Routing), ["inbox-routing", "deny-all"]);
    }
    assert_eq!(nodes.recorded(9).await, [1, 2]);
    let history = three.policies.history(10).await.unwrap();
    assert_eq!(history.iter().filter(|row| row.what == "deploy").count(), 1, "{history:?}");

    // And back, from another node.
    assert_eq!(three.change(Change::Rollback { to: None }).await.unwrap().now.number(), 3);
    until("the others", || one.number() == 3 && two.number() == 3).await;
    assert_eq!(one.chain(Hook::Routing), ["inbox-routing"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_own_configuration_cannot_be_loaded_does_not_start() {
    let nodes = Nodes::new().await;
    let _one = nodes.start("one").await;
    let (_, limiter) = heddle_builtin::plugins().into_iter().find(|(hook, _)| *hook == "rate-limit").unwrap();
    let config = serde_json::Map::from_iter([("no_such_key".to_owned(), 1.into())]);
    let broken = PluginRef { config, ..file("token-bucket", limiter.bytes.to_vec()) };
    let chains = vec![(Hook::RateLimit, vec![broken])];
    let refused = nodes.start_as("two", Start { chains, ..Start::default() }).await;
    assert!(matches!(refused, Err(StartError::Refused { .. })), "it starts");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_set_that_one_node_cannot_load_decides_nowhere() {
    let nodes = Nodes::new().await;
    let one = nodes.start("one").await;
    // Its operator allows less memory than the plugin asks for.
    let limits = PolicyLimits { memory_bytes_max: 16 << 20, ..PolicyLimits::default() };
    let small = nodes.start_as("small", Start { limits, ..Start::default() }).await;
    let small = small.unwrap_or_else(|error| panic!("{error}"));
    let before = one.number();
    let hungry = hungry(32);
    let refused = one.deploy(hungry).await;
    let Err(ChangeError::Abandoned { why }) = refused else { panic!("it decides") };
    assert!(why.starts_with("small: ") && why.contains("memory"), "{why}");
    assert_eq!((one.number(), small.number()), (before, before));
    // Its number is not given again.
    assert_eq!(one.deploy(fixture("deny-all")).await.unwrap().now.number(), before + 2);
    // To go back means the one before, not the number before.
    assert_eq!(one.change(Change::Rollback { to: None }).await.unwrap().now.number(), before + 3);
    assert_eq!(one.chain(Hook::Routing), ["inbox-routing"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_not_ready_in_time_is_named_and_one_that_died_is_not_waited_for() {
    let nodes = Nodes::new().await;
    let one = nodes.start("one").await;
    nodes.topic.members.lock().push(NodeId::new("frozen").unwrap());
    let refused = one.deploy(fixture("deny-all")).await;
    let Err(ChangeError::Abandoned { why }) = refused else { panic!("it decides") };
    assert!(why.contains("not ready within 10 s: frozen"), "{why}");
    assert_eq!(one.number(), 1);
    let deploy = one.deploy(fixture("deny-all"));
    let dies = async {
        until("it is prepared", || nodes.topic.records.lock().len() > 4).await;
        nodes.is_gone("frozen");
    };
    let (deployed, ()) = tokio::join!(deploy, dies);
    assert_eq!(deployed.unwrap().now.number(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_prepared_before_it_died_is_abandoned() {
    let nodes = Nodes::new().await;
    let [one, two, _three] = nodes.three().await;
    while nodes.recorded(1).await.is_empty() {
        sleep(LOOK).await;
    }
    let json = nodes.store.generation(1).await.unwrap().unwrap().json;
    let proposal =
        serde_json::json!({ "json": json, "at": 1, "who": "g", "what": "deploy", "why": "", "detail": "{}" });
    nodes.topic.write(format!(r#"{{"type":"prepare","number":2,"by":"ghost","proposal":{proposal}}}"#));
    until("somebody ends it", || {
        let records = nodes.topic.records.lock();
        records.iter().any(|record| String::from_utf8_lossy(record).contains("ghost proposed it and is gone"))
    })
    .await;
    // Its number is used up.
    assert_eq!(one.deploy(fixture("deny-all")).await.unwrap().now.number(), 3);
    until("the others", || two.number() == 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_cut_off_does_not_know_what_decides() {
    let nodes = Nodes::new().await;
    let [one, two, three] = nodes.three().await;
    three.cut.store(true, Ordering::SeqCst);
    nodes.is_gone("three");
    three.clock.advance(4_900);
    assert_eq!(three.policies.knows(), Ok(()));
    three.clock.advance(200);
    let unknown = three.policies.knows().unwrap_err();
    assert!(unknown.contains("has not known for 5 s"), "{unknown}");
    let refused = three.deploy(fixture("deny-all")).await;
    assert!(matches!(refused, Err(ChangeError::Cluster { .. })), "it decides");

    one.deploy(fixture("deny-all")).await.unwrap();
    until("the other", || two.number() == 2).await;
    assert_eq!(three.number(), 1);
    // A record that others decided with it waits: this node must not make something up.
    assert!(matches!(three.policies.generation(2).await, Err(PolicyError::Ahead { number: 2, current: 1 })));

    three.cut.store(false, Ordering::SeqCst);
    until("it knows again", || three.policies.knows().is_ok()).await;
    // What it says it knows is the newest.
    assert_eq!(three.number(), 2);
    assert_eq!(three.policies.generation(2).await.unwrap().number(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_joins_begins_with_what_decides() {
    let nodes = Nodes::new().await;
    let one = nodes.start("one").await;
    one.deploy(fixture("deny-all")).await.unwrap();
    let late = nodes.start("late").await;
    assert_eq!(
        (late.number(), late.chain(Hook::Routing)),
        (2, vec!["inbox-routing".to_owned(), "deny-all".to_owned()])
    );
    late.change(Change::Remove { plugin: "deny-all".to_owned(), hook: None }).await.unwrap();
    until("the first", || one.number() == 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_another_configuration_asks_the_others_for_it() {
    let nodes = Nodes::new().await;
    let one = nodes.start("one").await;
    let chains = || vec![(Hook::Routing, vec![fixture("deny-all")])];
    let two = nodes.start_as("two", Start { chains: chains(), ..Start::default() }).await;
    let two = two.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((two.number(), two.chain(Hook::Routing)), (2, vec!["deny-all".to_owned()]));
    until("the first", || one.number() == 2).await;

    // One that does not live any more, or that cannot load it, keeps no node from starting.
    nodes.topic.members.lock().push(NodeId::new("frozen").unwrap());
    let three = nodes.start("three").await;
    assert_eq!(three.number(), 2, "what decides goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_this_build_does_not_read_stops_the_node_and_not_the_others() {
    let nodes = Nodes::new().await;
    let one = nodes.start("one").await;
    nodes.topic.write(r#"{"type":"reshape","number":2}"#);
    until("it says so", || one.policies.knows().is_err()).await;
    let unknown = one.policies.knows().unwrap_err();
    assert!(unknown.contains("does not read") && unknown.contains("reshape"), "{unknown}");
}

/// A routing plugin that asks for so much memory.
fn hungry(mib: u32) -> PluginRef {
    let toml = format!(
        "name = \"hungry\"\nversion = \"1.0.0\"\n[hooks.routing]\non_failure = \"builtin\"\n[limits]\nmemory = \"{mib} MiB\"\n"
    );
    let manifest = Manifest::parse(&toml, "plugin.toml").expect("a manifest");
    file("hungry", heddle_pack::pack(&component("deny-all"), &manifest, &[]).expect("a file"))
}
