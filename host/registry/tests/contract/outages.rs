//! What registry, bus and states do while what they stand on is away, and when it is back. The rules of one outage go through it together, each with
//! nodes of its own: what is away must be missed before it is back, which takes seconds.

use std::sync::Arc;
use std::time::Duration;

use heddle_model::{Clock as _, ConnectionId, SystemClock};
use heddle_registry::{Swap, Versioned};
use tokio::sync::{Barrier, RwLock};

use crate::worlds::{DEADLINE_MS, Node, Outage, World, device, until, user};

/// Rules that share an outage.
const RULES: usize = 3;
/// Far above a deadline, for a busy machine, and far below for ever.
const IN_TIME: Duration = Duration::from_millis(5 * DEADLINE_MS);
const DAY: u64 = 86_400_000;

/// Runs every rule through one outage.
pub(crate) async fn go_through(world: World, outage: Outage) {
    let stage = Stage { world: RwLock::new(world), outage, met: Barrier::new(RULES), clock: SystemClock::new() };
    tokio::join!(
        registry_calls_fail_in_time_and_what_changed_meanwhile_is_known_afterwards(&stage),
        the_bus_says_that_it_is_not_whole_and_carries_again_by_itself(&stage),
        a_state_is_changed_or_its_caller_told_and_no_version_goes_back(&stage),
    );
}

struct Stage {
    world: RwLock<World>,
    outage: Outage,
    met: Barrier,
    clock: SystemClock,
}

impl Stage {
    async fn node(&self, name: &str) -> Node {
        self.world.read().await.node(name).await
    }

    /// Waits for all rules, and breaks what the nodes stand on.
    async fn broken(&self) {
        if self.met.wait().await.is_leader() {
            self.world.write().await.broken(self.outage);
        }
        self.met.wait().await;
    }

    /// Waits for all rules, and mends it.
    async fn mended(&self) {
        if self.met.wait().await.is_leader() {
            self.world.write().await.mended(self.outage).await;
        }
        self.met.wait().await;
    }

    /// What is answered in time.
    async fn timed<T>(&self, what: &str, call: impl Future<Output = T>) -> T {
        let began = self.clock.monotonic();
        let answer = call.await;
        let took = self.clock.monotonic() - began;
        assert!(took < IN_TIME, "{what} took {took:?}");
        answer
    }
}

async fn registry_calls_fail_in_time_and_what_changed_meanwhile_is_known_afterwards(stage: &Stage) {
    let (n1, n2) = (stage.node("registry-1").await, stage.node("registry-2").await);
    n1.connect("alice", 1, "phone").await;
    n1.connect("alice", 2, "laptop").await;
    n2.connect("bob", 3, "phone").await;
    let found = *n1.registry.found_again().borrow();
    stage.broken().await;

    let (alice, bob, phone) = (user("alice"), user("bob"), device("phone"));
    let both = [alice.clone(), bob.clone()];
    let answers = async {
        tokio::join!(
            n1.registry.register(&alice, ConnectionId(4), &phone),
            n1.registry.unregister(&alice, ConnectionId(1)),
            n1.registry.routes(&both),
            n1.registry.online(&both),
            n1.registry.nodes(),
        )
    };
    let (came, went, routes, online, nodes) = stage.timed("a call", answers).await;
    assert!(came.is_err() && went.is_err(), "others cannot know of it: {came:?}, {went:?}");
    assert!(routes.is_err() && online.is_err() && nodes.is_err(), "{routes:?}, {online:?}, {nodes:?}");
    assert_eq!(n1.registry.here(&alice), [n1.route(2, "laptop"), n1.route(4, "phone")]);
    assert_eq!(n1.registry.here(&bob), []);
    stage.mended().await;

    let of_alice = [n1.route(2, "laptop"), n1.route(4, "phone")];
    let of_bob = [n2.route(3, "phone")];
    until("what came and went meanwhile is known everywhere", async || {
        let known = [n1.registry.routes(&both).await, n2.registry.routes(&both).await];
        known.iter().all(|known| known.as_deref() == Ok(&[of_alice.to_vec(), of_bob.to_vec()][..]))
    })
    .await;
    until("who is online too", async || n2.registry.online(&both).await == Ok(vec![true, true])).await;
    until("it is told that others may not have known", async || *n1.registry.found_again().borrow() > found).await;
}

async fn the_bus_says_that_it_is_not_whole_and_carries_again_by_itself(stage: &Stage) {
    let (n1, n2) = (stage.node("bus-1").await, stage.node("bus-2").await);
    let whole = |node: &Node| node.bus.state().borrow().whole;
    n1.bus.send(&n2.name, Arc::new("1".to_owned())).await.unwrap();
    until("it carries", async || !n2.got.lock().is_empty()).await;
    stage.broken().await;

    // Who tries to listen anew must not be too busy to notice.
    until("its absence is noticed", async || !whole(&n1) && !whole(&n2)).await;
    let mut refused = Vec::new();
    for n in 2..200 {
        let sent = stage.timed("a send", n1.bus.send(&n2.name, Arc::new(n.to_string()))).await;
        refused.extend(sent.is_err().then_some(n));
    }
    stage.timed("a send", n1.bus.send(&n1.name, Arc::new("mine".to_owned()))).await.unwrap();
    stage.timed("a broadcast", n1.bus.broadcast(Arc::new("200".to_owned()))).await;
    assert_eq!(*n1.got.lock(), ["mine", "200"], "a node reaches itself whatever is away");
    stage.mended().await;

    until("it is whole", async || whole(&n1) && whole(&n2)).await;
    for (from, to, first) in [(&n1, &n2, 1_000), (&n2, &n1, 2_000)] {
        let next = std::sync::atomic::AtomicU32::new(first);
        until("it carries again", async || {
            let number = next.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            drop(from.bus.send(&to.name, Arc::new(number.to_string())).await);
            to.got.lock().iter().any(|text| text.parse::<u32>().is_ok_and(|number| number >= first))
        })
        .await;
    }
    let numbers: Vec<u32> = n2.got.lock().iter().map(|text| text.parse().unwrap()).filter(|n| *n != 200).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "in order, and none twice: {numbers:?}");
    assert!(refused.iter().all(|n| !numbers.contains(n)), "what was refused has come: {numbers:?}");
}

async fn a_state_is_changed_or_its_caller_told_and_no_version_goes_back(stage: &Stage) {
    let (n1, n2) = (stage.node("states-1").await, stage.node("states-2").await);
    let Swap::Done(first) = n1.states.swap("k", 0, b"1", DAY).await.unwrap() else { panic!("nobody was there") };
    stage.broken().await;

    let answers = async { tokio::join!(n1.states.swap("k", first, b"2", DAY), n2.states.get("k")) };
    let (changed, read) = stage.timed("a call", answers).await;
    assert!(changed.is_err(), "{changed:?}");
    assert!(read.is_err(), "{read:?}");
    stage.mended().await;

    // Forgotten, as it was, or changed by the call that nobody heard of; what is on the way may still come.
    let third = std::cell::Cell::new(0);
    until("a state is changed again", async || {
        let Ok(there) = n2.states.get("k").await else { return false };
        let seen = there.as_ref().map_or(0, |there| there.version);
        match there.as_ref().map(|there| &there.bytes[..]) {
            None => {}
            Some(b"1") => assert_eq!(seen, first),
            Some(b"2") => assert!(seen > first, "{seen} after {first}"),
            // Stored by a swap below whose answer did not come.
            Some(b"3") => third.set(seen),
            Some(_) => panic!("{there:?}"),
        }
        if third.get() == 0
            && let Ok(Swap::Done(version)) = n2.states.swap("k", seen, b"3", DAY).await
        {
            third.set(version);
        }
        third.get() != 0
    })
    .await;
    let third = third.get();
    assert!(third > first, "{third} after {first}: whoever still holds the first could overwrite it");
    let there = Some(Versioned { bytes: "3".into(), version: third });
    until("both read it", async || {
        n1.states.get("k").await == Ok(there.clone()) && n2.states.get("k").await == Ok(there.clone())
    })
    .await;
    assert_eq!(n1.states.swap("k", first, b"late", DAY).await, Ok(Swap::Conflict(there)));
}
