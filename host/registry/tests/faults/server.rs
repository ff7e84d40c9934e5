//! Redis is flushed, is not there, is asked much while it is frozen, fails over. What becomes of calls, routes and bus over an outage is in the contract.

use heddle_registry::{RedisConfig, RedisMode, Registry as _};
use heddle_test_servers as servers;

use crate::nodes::{Node, config, until, user};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flushed_redis_knows_every_connection_again() {
    let Some(server) = servers::Redis::start().await else { return };
    let (n1, n2) = (Node::start(config(&server.url(), "n1")).await, Node::start(config(&server.url(), "n2")).await);
    for n in 0..1_000 {
        assert!(n1.connect(&format!("u{n}"), n).await);
    }
    let found = *n1.registry.found_again().borrow();
    server.ask(&["FLUSHALL"]).await;
    // Of itself a node need not be told.
    assert_eq!(n1.seen("u7").await, Some(vec![7]));
    assert_eq!(n1.registry.online(&[user("u7"), user("nobody")]).await.unwrap(), [true, false]);
    server.ask(&["SCRIPT", "FLUSH"]).await;
    let users: Vec<_> = (0..1_000).map(|n| user(&format!("u{n}"))).collect();
    until("all are known again", async || {
        n2.registry.online(&users).await.is_ok_and(|online| online.iter().all(|online| *online))
    })
    .await;
    assert_eq!(n2.seen("u7").await, Some(vec![7]));
    until("it is told that others did not know them", async || *n1.registry.found_again().borrow() > found).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_starts_without_redis_and_is_known_when_it_comes() {
    let Some(mut server) = servers::Redis::start().await else { return };
    server.kill();
    let n1 = Node::begin(config(&server.url(), "n1"));
    assert!(!n1.connect("alice", 1).await);
    assert_eq!(n1.seen("alice").await, None);
    server.restart().await;
    let n2 = Node::start(config(&server.url(), "n2")).await;
    until("who came first is known", async || n2.seen("alice").await == Some(vec![1])).await;
    until("the bus carries", async || n2.send("n1", "hello").await && !n1.got.lock().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_redis_costs_a_deadline_and_not_more_and_thaws_without_a_trace() {
    let Some(server) = servers::Redis::start().await else { return };
    let (n1, n2) = (Node::start(config(&server.url(), "n1")).await, Node::start(config(&server.url(), "n2")).await);
    assert!(n1.connect("alice", 1).await);
    server.freeze();
    // More calls than could each wait for a deadline: after three of them nobody asks any more.
    let many = async {
        for n in 0..20_000 {
            assert_eq!(n1.seen("alice").await, None);
            n1.connect("carol", n).await;
            n1.close("carol", n).await;
        }
    };
    assert!(
        tokio::time::timeout(std::time::Duration::from_secs(20), many).await.is_ok(),
        "calls wait for a frozen Redis"
    );
    assert!(!n1.redis.answers());
    server.thaw();
    until("who stayed is known", async || n2.seen("alice").await == Some(vec![1])).await;
    until("who came and went is gone", async || n2.seen("carol").await == Some(vec![])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_processes_with_one_name_the_younger_counts() {
    let Some(server) = servers::Redis::start().await else { return };
    let (old, other) = (Node::start(config(&server.url(), "n1")).await, Node::start(config(&server.url(), "n2")).await);
    assert!(old.connect("alice", 1).await);
    assert_eq!(other.seen("alice").await, Some(vec![1]));
    let young = Node::start(config(&server.url(), "n1")).await;
    assert!(young.connect("alice", 9).await);
    until("the older one's routes do not count", async || other.seen("alice").await == Some(vec![9])).await;
    // The older one may go on trying: it does not get its name back.
    assert!(old.connect("bob", 2).await);
    assert_eq!(other.seen("bob").await, Some(vec![]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_node_left_does_not_stay_in_redis() {
    let Some(server) = servers::Redis::start().await else { return };
    let (n1, n2) = (Node::start(config(&server.url(), "n1")).await, Node::start(config(&server.url(), "n2")).await);
    assert!(n1.connect("alice", 1).await && n2.connect("alice", 2).await && n1.connect("bob", 3).await);
    drop(n1);
    until("the route of the dead is gone", async || n2.seen("alice").await == Some(vec![2])).await;
    until("its field too", async || server.ask(&["HLEN", "heddle:user:alice"]).await == servers::Reply::Number(1))
        .await;
    let servers::Reply::Number(left_ms) = server.ask(&["PTTL", "heddle:user:bob"]).await else { panic!("a number") };
    assert!(left_ms > 0, "a key that nobody reads expires");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failover_everything_is_known_to_the_new_primary() {
    let Some(mut world) = servers::RedisSentinel::start().await else { return };
    let of = |name| RedisConfig { mode: RedisMode::Sentinel, ..config(&world.url(), name) };
    let (n1, n2) = (Node::start(of("n1")).await, Node::start(of("n2")).await);
    assert!(n1.connect("alice", 1).await);
    world.primary.kill();
    until("its absence is noticed", async || n1.seen("alice").await.is_none()).await;
    n1.connect("alice", 2).await;
    until("the replica is primary now, and knows", async || n2.seen("alice").await == Some(vec![1, 2])).await;
    until("the bus is whole", async || n1.whole() && n2.whole()).await;
    until("it carries", async || n1.send("n2", "again").await && n2.got.lock().contains(&"again".to_owned())).await;
}
