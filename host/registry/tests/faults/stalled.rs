//! A server that takes nothing more: what waits for it is bounded, and nobody waits with it.

use heddle_registry::RedisConfig;
use heddle_test_servers as servers;

use crate::nodes::{Node, config, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_stalled_server_is_bounded_by_number() {
    let Some(server) = servers::Redis::start().await else { return };
    let of = |name| RedisConfig { queue_max: 64, deadline_ms: 5_000, ..config(&server.url(), name) };
    let (n1, n2) = (Node::start(of("n1")).await, Node::start(of("n2")).await);
    server.freeze();
    let mut taken = 0;
    for n in 0..10_000 {
        taken += usize::from(n1.send("n2", &n.to_string()).await);
    }
    // The queue, and the batch that the publisher has in its hands.
    assert!((64..=64 + 128).contains(&taken), "{taken} of 10,000 messages wait for a queue of 64");
    // Calls: as many as the queue holds wait for their deadline, the others are told at once.
    let waiting: Vec<_> = (0..64).map(|n| tokio::spawn(waiting_call(&n1, n))).collect();
    until("the queue is full", async || {
        matches!(tokio::time::timeout(std::time::Duration::from_millis(100), n1.seen("alice")).await, Ok(None))
    })
    .await;
    server.thaw();
    for call in waiting {
        call.await.unwrap();
    }
    until("calls are answered again", async || n1.seen("alice").await.is_some()).await;
    until("the bus carries", async || n1.send("n2", "end").await && n2.got.lock().contains(&"end".to_owned())).await;
}

fn waiting_call(node: &Node, n: u64) -> impl Future<Output = ()> + Send + 'static {
    let states = node.redis.states();
    async move {
        use heddle_registry::KeyedStates as _;
        drop(states.get(&n.to_string()).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_stalled_server_is_bounded_by_bytes() {
    let Some(server) = servers::Redis::start().await else { return };
    let of = |name| RedisConfig { queue_bytes_max: 1 << 20, deadline_ms: 5_000, ..config(&server.url(), name) };
    let (n1, n2) = (Node::start(of("n1")).await, Node::start(of("n2")).await);
    server.freeze();
    let (large, mut taken) = ("x".repeat(100_000), 0);
    for _ in 0..2_000 {
        taken += usize::from(n1.send("n2", &large).await);
    }
    assert!((1..=10).contains(&taken), "{taken} messages of 100 kB wait in 1 MiB");
    server.thaw();
    until("they arrive when it goes on", async || n2.got.lock().len() >= taken).await;
    assert!(!n1.send("n2", &"x".repeat(2 << 20)).await, "larger than the bus carries");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stays_stalled_with_full_buffers_is_left_and_found_again() {
    let Some(server) = servers::Redis::start().await else { return };
    let (n1, n2) = (Node::start(config(&server.url(), "n1")).await, Node::start(config(&server.url(), "n2")).await);
    assert!(n1.connect("alice", 1).await);
    server.freeze();
    // More than the buffers of both ends of the connection hold: the client is stuck in the middle of a write.
    let large = "x".repeat(500_000);
    until("nobody asks any more", async || {
        n1.send("n2", &large).await;
        n1.seen("alice").await;
        !n1.redis.answers()
    })
    .await;
    until("the bus is silent", async || !n1.whole() && !n2.whole()).await;
    assert!(!n1.send("n2", "refused").await);
    server.thaw();
    until("calls are answered", async || n2.seen("alice").await == Some(vec![1])).await;
    until("the bus carries", async || n1.send("n2", "end").await && n2.got.lock().contains(&"end".to_owned())).await;
    until("it is whole", async || n1.whole() && n2.whole()).await;
    assert!(!n2.got.lock().contains(&"refused".to_owned()));
}
