//! Messages that get lost on the way, and messages that nobody can read.

use heddle_registry::Bus as _;
use heddle_test_servers as servers;

use crate::nodes::{Node, config, until};
use crate::proxy::Proxy;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_third_message_is_lost_and_counted_and_the_others_arrive_in_order() {
    let Some(server) = servers::Redis::start().await else { return };
    let proxy = Proxy::before(server.port(), "heddle:bus:n2", 3).await;
    let (n1, n3) = (Node::start(config(&server.url(), "n1")).await, Node::start(config(&server.url(), "n3")).await);
    let n2 = Node::start(config(&proxy.url(), "n2")).await;
    let before = proxy.dropped();
    let lost_before = n2.bus.state().borrow().lost;
    for n in 0..3_000 {
        // The queue may be full for a moment: nothing that is to be lost here is to be refused.
        until("there is room", async || n1.send("n2", &n.to_string()).await).await;
        if n % 10 == 0 {
            until("there is room", async || n1.send("n3", &format!("other {n}")).await).await;
        }
    }
    // Two in a row are never dropped.
    until("the last is there", async || {
        n1.send("n2", "end").await;
        n2.got.lock().iter().any(|text| text == "end")
    })
    .await;
    until("the others too", async || n3.got.lock().len() == 300).await;
    let numbers: Vec<u32> = n2.got.lock().iter().filter_map(|text| text.parse().ok()).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "in order, and none twice");
    assert!((1_900..=2_100).contains(&numbers.len()), "{} of 3,000 arrived", numbers.len());
    assert!(n3.got.lock().iter().all(|text| text.starts_with("other")), "nothing for another node");
    assert_eq!(n3.bus.state().borrow().lost, 0);
    // What was dropped is known as soon as something later of the same sender is there.
    until("what was lost is counted", async || {
        n1.send("n2", "end").await;
        n2.bus.state().borrow().lost - lost_before + 2 >= proxy.dropped() - before
    })
    .await;
    assert!(n2.bus.state().borrow().lost - lost_before <= proxy.dropped() - before);
    until("two of three of its own voice are enough", async || n2.whole()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_is_dropped_and_what_follows_arrives() {
    let Some(server) = servers::Redis::start().await else { return };
    let (n1, n2) = (Node::start(config(&server.url(), "n1")).await, Node::start(config(&server.url(), "n2")).await);
    for junk in ["", "x", "\x01\x00short", "\x02another version of what follows", &"y".repeat(100_000)] {
        assert_eq!(server.ask(&["PUBLISH", "heddle:bus:n2", junk]).await, servers::Reply::Number(1), "n2 listens");
        server.ask(&["PUBLISH", "heddle:bus", junk]).await;
        server.ask(&["PUBLISH", "heddle:other", junk]).await;
    }
    assert!(n1.send("n2", "after").await);
    until("what follows is there", async || !n2.got.lock().is_empty()).await;
    assert_eq!(*n2.got.lock(), ["after"]);
}
