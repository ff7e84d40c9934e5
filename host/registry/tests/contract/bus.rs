//! Rules of `Bus`.

use std::sync::Arc;

use heddle_model::NodeId;

use crate::worlds::{Node, World, until};

async fn send(from: &Node, to: &Node, text: &str) {
    from.bus.send(&to.name, Arc::new(text.to_owned())).await.unwrap();
}

pub(crate) async fn what_is_sent_arrives_in_order_at_its_node_and_no_other(world: &World) {
    let (n1, n2, n3) = (world.node("n1").await, world.node("n2").await, world.node("n3").await);
    for n in 0..500 {
        send(&n1, &n2, &format!("1-{n}")).await;
        send(&n3, &n2, &format!("3-{n}")).await;
        send(&n2, &n3, &format!("2-{n}")).await;
    }
    until("all arrived", async || n2.got.lock().len() >= 1_000 && n3.got.lock().len() >= 500).await;
    let told = |from: &str| (0..500).map(|n| format!("{from}-{n}")).collect::<Vec<_>>();
    let got = |node: &Node, from: &str| {
        node.got.lock().iter().filter(|text| text.starts_with(from)).cloned().collect::<Vec<_>>()
    };
    assert_eq!(got(&n2, "1"), told("1"));
    assert_eq!(got(&n2, "3"), told("3"));
    assert_eq!(*n3.got.lock(), told("2"));
    assert_eq!(n2.got.lock().len(), 1_000);
    assert_eq!(*n1.got.lock(), Vec::<String>::new());
}

pub(crate) async fn what_a_node_sends_itself_is_there_at_once(world: &World) {
    let n1 = world.node("n1").await;
    send(&n1, &n1, "me").await;
    assert_eq!(*n1.got.lock(), ["me"]);
}

pub(crate) async fn a_broadcast_reaches_every_node_once(world: &World) {
    let nodes = [world.node("n1").await, world.node("n2").await, world.node("n3").await];
    for (n, node) in nodes.iter().enumerate() {
        node.bus.broadcast(Arc::new(format!("{n}"))).await;
    }
    for node in &nodes {
        until("everybody has each", async || node.got.lock().len() >= 3).await;
    }
    // What came later than a copy of these would have.
    for node in &nodes {
        send(&nodes[0], node, "end").await;
        until("the end is here", async || node.got.lock().contains(&"end".to_owned())).await;
        let mut got = node.got.lock().clone();
        got.sort();
        assert_eq!(got, ["0", "1", "2", "end"]);
    }
}

pub(crate) async fn what_is_sent_to_nobody_reaches_nobody(world: &World) {
    let (n1, n2) = (world.node("n1").await, world.node("n2").await);
    // Refused or lost: both are right.
    drop(n1.bus.send(&NodeId::new("n3").unwrap(), Arc::new("stray".to_owned())).await);
    send(&n1, &n2, "end").await;
    until("the end is here", async || !n2.got.lock().is_empty()).await;
    assert_eq!(*n2.got.lock(), ["end"]);
    assert_eq!(*n1.got.lock(), Vec::<String>::new());
}

pub(crate) async fn a_bus_that_lost_nothing_says_so(world: &World) {
    let (n1, n2) = (world.node("n1").await, world.node("n2").await);
    for n in 0..200 {
        send(&n1, &n2, &n.to_string()).await;
    }
    n1.bus.broadcast(Arc::new("all".to_owned())).await;
    until("all arrived", async || n2.got.lock().len() == 201).await;
    let state = *n2.bus.state().borrow();
    assert!(state.whole);
    assert_eq!(state.lost, 0);
}
