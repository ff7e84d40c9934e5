//! A node that follows a log which others work on: what is for nobody here is passed by, and is there for whoever comes.

mod world;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use heddle_delivery::{Delivery, Opening, Outgoing, Owned, Session};
use heddle_log::{AppendError, Appended, Batch, Derived, Layout, Log, LookupError, MemoryLog, Place, ReadError};
use heddle_model::{ConnectionId, DeviceId, MessageId, Offset, TopicPartition};
use heddle_presence::Mark;
use tokio::sync::watch;
use world::{World, direct, user};

/// Nothing here takes so long, unless it never comes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A log that others work on.
struct Followed {
    log: Arc<MemoryLog>,
    /// What this node works on.
    assigned: watch::Sender<Vec<TopicPartition>>,
    /// Reads wait: the node stands still.
    held: watch::Sender<bool>,
}

impl Followed {
    fn new(log: &Arc<MemoryLog>) -> Arc<Self> {
        let (assigned, held) = (watch::Sender::new(Vec::new()), watch::Sender::new(false));
        Arc::new(Self { log: Arc::clone(log), assigned, held })
    }
}

#[async_trait]
impl Log for Followed {
    fn layout(&self) -> Layout {
        Layout { shared: true, ..self.log.layout() }
    }

    async fn append(&self, at: TopicPartition, id: Option<MessageId>, bytes: Bytes) -> Result<Appended, AppendError> {
        self.log.append(at, id, bytes).await
    }

    async fn derive(&self, derived: Derived) -> Result<Vec<Offset>, AppendError> {
        self.log.derive(derived).await
    }

    async fn read(&self, at: TopicPartition, from: Offset, bytes_max: usize) -> Result<Batch, ReadError> {
        drop(self.held.subscribe().wait_for(|held| !held).await);
        self.log.read(at, from, bytes_max).await
    }

    async fn lookup(&self, id: &MessageId, elsewhere: bool) -> Result<Option<Place>, LookupError> {
        self.log.lookup(id, elsewhere).await
    }

    fn head(&self, at: TopicPartition) -> watch::Receiver<Offset> {
        self.log.head(at)
    }

    fn derived(&self, at: TopicPartition) -> Offset {
        self.log.derived(at)
    }

    fn archived(&self, at: TopicPartition, upto: Offset) {
        self.log.archived(at, upto);
    }

    fn assigned(&self) -> watch::Receiver<Vec<TopicPartition>> {
        self.assigned.subscribe()
    }
}

/// A session that begins with the log.
async fn open(delivery: &Delivery, number: u64, name: &str) -> Session {
    let opening = Opening {
        user: user(name),
        device: DeviceId::new("d").unwrap(),
        issued: 1,
        connection: ConnectionId(number),
        resume: Some(delivery.numbering().upto(0)),
        mark: Mark::default(),
    };
    delivery.open(opening).await.unwrap().0
}

/// Texts of so many messages, as they come.
async fn texts(session: &mut Session, count: usize) -> Vec<String> {
    let mut texts = Vec::new();
    while texts.len() < count {
        let out = tokio::time::timeout(PATIENCE, session.next()).await.expect("it comes").unwrap();
        texts.extend(out.into_iter().filter_map(|out| match out {
            Outgoing::Event { event, .. } => Some(event.message()?.text.as_deref()?.to_owned()),
            _ => None,
        }));
    }
    texts
}

#[tokio::test]
async fn what_is_for_nobody_here_is_passed_by_and_is_there_for_who_comes_and_who_is_here_gets_the_rest() {
    let world = World::new().await;
    let _counting = metrics::set_default_local_recorder(&*world.counters);
    let passed = || world.counters.passed.load(Ordering::Relaxed);
    let delivery = world.deliver_from(Followed::new(&world.log)).await;
    let send = async |to: &str, text: &str| {
        let record = direct("alice", to, text, 1);
        world.log.append(world.home(to), record.message_id(), record.encode()).await.unwrap();
    };
    for text in ["one", "two"] {
        send("bob", text).await;
    }
    world.until(async || passed() == 2, "both are passed by").await;
    let mut bob = open(&delivery, 1, "bob").await;
    assert_eq!(texts(&mut bob, 2).await, ["one", "two"]);
    send("bob", "three").await;
    send("carol", "four").await;
    assert_eq!(texts(&mut bob, 1).await, ["three"]);
    world.until(async || passed() == 3, "carol's is passed by, bob's is not").await;
    assert_eq!(texts(&mut open(&delivery, 2, "carol").await, 1).await, ["four"]);
    assert_eq!(world.counters.dead.load(Ordering::Relaxed), 0);
}

/// A node stood still, others archived meanwhile, and it began where the archive was: devices that were connected passed over what lay between.
#[tokio::test]
async fn who_is_connected_to_a_node_that_begins_further_up_gets_what_it_left_out() {
    let world = World::new().await;
    let (home, followed) = (world.home("bob"), Followed::new(&world.log));
    let (here, _there) = (world.deliver_from(followed.clone()).await, world.deliver().await);
    let send = async |text: &str| {
        let record = direct("alice", "bob", text, 1);
        world.log.append(home, record.message_id(), record.encode()).await.unwrap();
    };
    let archived = async |upto: u64| {
        let cursors = world.store.archive.cursors().await.unwrap();
        cursors.iter().any(|cursor| cursor.partition == home && cursor.upto >= here.numbering().upto(upto))
    };
    let mut bob = open(&here, 1, "bob").await;
    send("one").await;
    assert_eq!(texts(&mut bob, 1).await, ["one"]);
    followed.held.send_replace(true);
    send("two").await;
    world.until(async || archived(2).await, "the other node archives it").await;
    world.until(async || world.log.derived(home) == 2, "and derives it").await;
    followed.assigned.send_replace(vec![home]);
    world.until(async || here.owned().partitions == 1, "this one takes the partition over").await;
    followed.held.send_replace(false);
    send("three").await;
    assert_eq!(texts(&mut bob, 2).await, ["two", "three"]);
}

#[tokio::test]
async fn how_far_its_workers_are_behind_is_told_of_a_node_that_works_and_of_what_it_owns_alone() {
    let world = World::new().await;
    let (home, followed) = (world.home("bob"), Followed::new(&world.log));
    let here = world.deliver_from(followed.clone()).await;
    followed.held.send_replace(true);
    for text in ["one", "two", "three"] {
        let record = direct("alice", "bob", text, 1);
        world.log.append(home, record.message_id(), record.encode()).await.unwrap();
    }
    assert_eq!(here.owned(), Owned::default(), "it only follows");
    followed.assigned.send_replace(vec![home]);
    let behind = Owned { partitions: 1, derive_lag: 3 };
    world.until(async || here.owned() == behind, "it owns what waits").await;
    followed.held.send_replace(false);
    world.until(async || here.owned() == Owned { derive_lag: 0, ..behind }, "it has worked on all").await;
}
