//! One server of a cluster is flushed, killed, frozen, or gives its slots away.

use std::sync::Arc;
use std::time::Duration;

use heddle_registry::{Bus as _, RedisConfig, RedisMode, Registry as _};
use heddle_test_servers as servers;

use crate::nodes::{Node, config, until, user};

fn of(cluster: &servers::RedisCluster, name: &str) -> RedisConfig {
    RedisConfig { mode: RedisMode::Cluster, ..config(&cluster.url(), name) }
}

/// Each hears the other, by name and among all.
async fn the_bus_carries(n1: &Node, n2: &Node, word: &str) {
    for (from, to, name) in [(n1, n2, "n2"), (n2, n1, "n1")] {
        let (alone, all) = (format!("{word} to {name}"), format!("{word} to all but {name}"));
        until("what is for one arrives", async || from.send(name, &alone).await && to.got.lock().contains(&alone))
            .await;
        until("what is for all arrives", async || {
            from.bus.broadcast(Arc::new(all.clone())).await;
            to.got.lock().contains(&all)
        })
        .await;
    }
    until("the bus is whole", async || n1.whole() && n2.whole()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_that_move_take_nobody_from_the_bus_and_no_route_with_them() {
    let Some(cluster) = servers::RedisCluster::start().await else { return };
    let (n1, n2) = (Node::start(of(&cluster, "n1")).await, Node::start(of(&cluster, "n2")).await);
    assert!(n1.connect("alice", 1).await);
    for key in ["heddle:bus", "heddle:bus:n1", "heddle:bus:n2"] {
        let from = cluster.owner(key).await;
        let to = (from + 1) % 3;
        cluster.moving(key, from, to).await;
        cluster.moved(key, to).await;
        the_bus_carries(&n1, &n2, key).await;
    }
    let key = "heddle:user:alice";
    let from = cluster.owner(key).await;
    assert!(n1.connect("bob", 7).await);
    cluster.moving(key, from, (from + 1) % 3).await;
    // On its way a key may be found or not; no call takes the answer of another.
    let ask = async |name: &'static str, wanted: u64| {
        for _ in 0..200 {
            let seen = n2.seen(name).await;
            assert!(seen.as_ref().is_none_or(|seen| *seen == [wanted]), "{name} is at {seen:?}");
        }
    };
    tokio::join!(ask("alice", 1), ask("bob", 7), ask("bob", 7));
    assert_eq!(n2.seen("bob").await, Some(vec![7]), "what does not move is found");
    cluster.moved(key, (from + 1) % 3).await;
    for _ in 0..20 {
        assert_eq!(n2.seen("alice").await, Some(vec![1]), "a key that has moved is found");
    }
    assert!(n1.connect("alice", 2).await && n1.close("alice", 1).await);
    assert_eq!(n2.seen("alice").await, Some(vec![2]));
    the_bus_carries(&n1, &n2, "at last").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nodes_tell_each_other_goes_to_the_server_of_its_channel_and_to_no_other() {
    let Some(cluster) = servers::RedisCluster::start().await else { return };
    let (n1, n2) = (Node::start(of(&cluster, "n1")).await, Node::start(of(&cluster, "n2")).await);
    the_bus_carries(&n1, &n2, "a word").await;
    let mut sharded = 0;
    for server in &cluster.servers {
        let said = server.ask(&["INFO", "commandstats"]).await;
        // Each server hands what is published so to all others.
        assert!(!said.text().contains("cmdstat_publish:"), "{}", said.text());
        sharded += usize::from(said.text().contains("cmdstat_spublish:"));
    }
    assert!(sharded > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_server_of_a_cluster_forgot_is_known_again_though_the_leases_stand() {
    let Some(cluster) = servers::RedisCluster::start().await else { return };
    let (n1, n2) = (Node::start(of(&cluster, "n1")).await, Node::start(of(&cluster, "n2")).await);
    let users: Vec<_> = (0..60).map(|n| format!("u{n}")).collect();
    for (n, name) in users.iter().enumerate() {
        assert!(n1.connect(name, n as u64).await);
    }
    let lease = cluster.owner("heddle:node:n1").await;
    let forgetful = (lease + 1) % 3;
    let mut lost = Vec::new();
    for name in &users {
        if cluster.owner(&format!("heddle:user:{name}")).await == forgetful {
            lost.push(user(name));
        }
    }
    assert!(!lost.is_empty());
    let found = *n1.registry.found_again().borrow();
    cluster.servers[forgetful].ask(&["FLUSHALL"]).await;
    assert_eq!(n2.registry.online(&lost).await.map(|online| online.contains(&true)), Ok(false), "they are forgotten");
    until("all are known again", async || {
        n2.registry.online(&lost).await.is_ok_and(|online| online.iter().all(|online| *online))
    })
    .await;
    until("it is told that others did not know them", async || *n1.registry.found_again().borrow() > found).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_one_primary_stands_still_that_nobody_can_replace_each_node_goes_by_what_it_holds_and_waits_for_nothing()
{
    let Some(cluster) = servers::RedisCluster::start().await else { return };
    let (n1, n2) = (Node::start(of(&cluster, "n1")).await, Node::start(of(&cluster, "n2")).await);
    assert!(n1.connect("alice", 1).await && n2.connect("alice", 2).await);
    let frozen = cluster.owner("heddle:user:alice").await;
    cluster.servers[frozen].freeze();
    until("the nodes know it", async || {
        // Whoever asks for what it holds is told no later than anybody who asks a Redis that is away.
        let calls = async { drop((n1.seen("alice").await, n2.seen("alice").await)) };
        assert!(tokio::time::timeout(Duration::from_secs(10), calls).await.is_ok(), "each call has a deadline");
        !n1.redis.answers() && !n2.redis.answers()
    })
    .await;
    // Those of the others too: the client does nothing else while it has not all of them. (ARCHITECTURE.md)
    for name in ["alice", "bob", "carol", "dave", "erin"] {
        assert_eq!(n1.seen(name).await, None, "nobody is asked where {name} is");
    }
    let here = n1.registry.here(&user("alice"));
    assert_eq!(here.into_iter().map(|route| route.connection.0).collect::<Vec<_>>(), [1], "what it holds it knows");
    assert!(n1.send("n1", "to itself").await && n1.got.lock().contains(&"to itself".to_owned()));
    assert!(!n1.send("n2", "refused").await);
    cluster.servers[frozen].thaw();
    until("all is right again", async || n1.seen("alice").await == Some(vec![1, 2])).await;
    the_bus_carries(&n1, &n2, "again").await;
    assert!(!n2.got.lock().contains(&"refused".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_primary_is_left_for_its_replica_and_a_killed_one_too() {
    let Some(mut cluster) = servers::RedisCluster::with_replicas().await else { return };
    let (n1, n2) = (Node::start(of(&cluster, "n1")).await, Node::start(of(&cluster, "n2")).await);
    assert!(n1.connect("alice", 1).await);
    // Of this one the others say nothing: what they hold is answered all the time, and somebody asks it all the time.
    let frozen = cluster.owner("heddle:user:alice").await;
    cluster.servers[frozen].freeze();
    until("the replica is asked", async || {
        n1.seen("bob").await;
        n2.seen("carol").await;
        n2.seen("alice").await == Some(vec![1])
    })
    .await;
    the_bus_carries(&n1, &n2, "frozen").await;
    assert!(n1.connect("alice", 2).await);
    cluster.servers[frozen].thaw();
    assert_eq!(n2.seen("alice").await, Some(vec![1, 2]));

    let killed = (frozen + 1) % 3;
    cluster.servers[killed].kill();
    until("its replica has its place", async || {
        let (one, other) = (n1.connect("dave", 3).await, n2.connect("dave", 4).await);
        one && other && n1.close("dave", 3).await && n2.close("dave", 4).await
    })
    .await;
    the_bus_carries(&n1, &n2, "killed").await;
    until("all is known", async || n2.seen("alice").await == Some(vec![1, 2])).await;
    until("who came and went is gone", async || n1.seen("dave").await == Some(vec![])).await;
}
