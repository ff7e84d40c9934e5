//! One Sentinel of several stands still.

use heddle_registry::{RedisConfig, RedisMode};
use heddle_test_servers as servers;

use crate::nodes::{Node, config, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_sentinel_that_is_asked_first_keeps_nobody_from_the_primary_nor_from_its_successor() {
    let Some(mut servers) = servers::RedisSentinel::with_sentinels(3).await else { return };
    let of = |name| RedisConfig { mode: RedisMode::Sentinel, ..config(&servers.url(), name) };
    // It takes connections, as a frozen process does, and says nothing.
    servers.sentinels[0].freeze();
    let (n1, n2) = (Node::start(of("n1")).await, Node::start(of("n2")).await);
    assert!(n1.connect("alice", 1).await);
    servers.primary.kill();
    until("the node without a primary knows it", async || n2.seen("alice").await.is_none()).await;
    until("the new primary is found, and told of alice", async || n2.seen("alice").await == Some(vec![1])).await;
    until("the bus carries", async || n1.send("n2", "word").await && n2.got.lock().contains(&"word".to_owned())).await;
    until("the bus is whole", async || n1.whole() && n2.whole()).await;
}
