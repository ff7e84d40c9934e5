//! Changes of the policy set at several nodes at once.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use heddle_model::{Hook, NodeId};
use heddle_policy::{Change, ChangeError};
use tokio::sync::Semaphore;

use crate::nodes::{Nodes, Start, until};
use crate::world::fixture;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_several_deploys_at_once_one_wins() {
    let nodes = Nodes::new().await;
    let three = nodes.three().await;
    let deploys = three.iter().map(|node| node.deploy(fixture("deny-all")));
    let outcomes = futures_util::future::join_all(deploys).await;
    let won = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert!(won >= 1, "{:?}", outcomes.iter().filter_map(|it| it.as_ref().err()).collect::<Vec<_>>());
    for lost in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
        assert!(matches!(lost, ChangeError::Conflict | ChangeError::Busy), "{lost}");
    }
    // One that began when another had won changes nothing: it is so already.
    until("all agree", || three.iter().all(|node| node.number() == 2)).await;
    assert_eq!(nodes.recorded(9).await, [1, 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_node_deployed_meanwhile_is_not_undone() {
    let nodes = Nodes::new().await;
    let one = nodes.start("one").await;
    let gate = Arc::new(Semaphore::new(0));
    let start = Start { gate: Some(Arc::clone(&gate)), ..Start::default() };
    let two = nodes.start_as("two", start).await.unwrap_or_else(|error| panic!("{error}"));

    // The plugin runs its cases at one node: what it is to follow is known by then, and another decides before it is done.
    let slow = two.deploy(fixture("mark"));
    let quick = async {
        gate.add_permits(1);
        until("its cases ran", || gate.available_permits() == 0).await;
        let deployed = one.deploy(fixture("deny-all")).await;
        gate.add_permits(1);
        deployed
    };
    let (slow, quick) = tokio::join!(slow, quick);
    assert_eq!(quick.unwrap().now.number(), 2);
    assert!(matches!(slow, Err(ChangeError::Conflict)), "it took the place of what it never saw");
    assert_eq!(one.chain(Hook::Routing), ["inbox-routing", "deny-all"]);

    // Once more, and both are there.
    gate.add_permits(2);
    assert_eq!(two.deploy(fixture("mark")).await.unwrap().now.number(), 3);
    until("the other", || one.number() == 3).await;
    assert!(one.chain(Hook::Routing).contains(&"deny-all".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_does_not_follow_what_is_still_being_agreed_on() {
    let nodes = Nodes::new().await;
    let [one, two, _three] = nodes.three().await;
    nodes.topic.members.lock().push(NodeId::new("frozen").unwrap());
    let waits = one.deploy(fixture("deny-all"));
    let refused = async {
        let ready = |record: &Bytes| record.starts_with(br#"{"type":"ready","number":2,"by":"two""#);
        until("the other has it", || nodes.topic.records.lock().iter().any(ready)).await;
        let refused = two.change(Change::Rollback { to: None }).await;
        nodes.is_gone("frozen");
        refused
    };
    let (deployed, refused) = tokio::join!(waits, refused);
    assert!(matches!(refused, Err(ChangeError::Busy)), "it follows what nobody obeys yet");
    assert_eq!(deployed.unwrap().now.number(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_about_to_propose_the_same_is_ready_for_the_other_s() {
    let nodes = Nodes::new().await;
    let (one, two) = tokio::join!(nodes.start("one"), nodes.start("two"));
    // Both their breakers see the same, say; one has it loaded, and is slower to say so.
    *nodes.topic.late.lock() = Some(NodeId::new("one").unwrap());
    let slower = one.deploy(fixture("deny-all"));
    one.clock.advance(1);
    let quicker = async {
        until("the slower one is about to", || nodes.topic.waits.load(Ordering::SeqCst)).await;
        let changed = two.deploy(fixture("deny-all")).await;
        *nodes.topic.late.lock() = None;
        changed
    };
    let (slower, quicker) = tokio::join!(slower, quicker);
    assert_eq!(quicker.unwrap().now.number(), 2);
    assert!(matches!(slower, Err(ChangeError::Conflict)), "two of one number");
    until("the slower one", || one.number() == 2).await;
}
