//! Several nodes that agree on a policy set: one catalog, one control log in memory, real components.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use heddle_model::{Clock, Hook, ManualClock, NodeId};
use heddle_pack::Manifest;
use heddle_policy::{
    Change, ChangeError, Changed, Cluster, Control, PluginRef, Policies, PolicyConfig, PolicyDeps, PolicyError,
    PolicyLimits, Request, Seal, StartError,
};
use heddle_store::{Catalog as _, SqliteStore, StoreConfig};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::world::{EngineLoader, clock, component, file, fixture};

/// The longest that anything here may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(5);

/// A control log, and who is said to live.
#[derive(Default)]
struct Topic {
    records: Mutex<Vec<Bytes>>,
    head: watch::Sender<u64>,
    members: Mutex<Vec<NodeId>>,
    /// What this node prepares does not come through while it is.
    late: Mutex<Option<NodeId>>,
    /// Something waits for that.
    waits: AtomicBool,
}

impl Topic {
    fn write(&self, record: impl Into<Bytes>) {
        let mut records = self.records.lock();
        records.push(record.into());
        self.head.send_replace(records.len() as u64);
    }
}

/// A node's way to it, which may be cut.
struct Line {
    topic: Arc<Topic>,
    cut: Arc<AtomicBool>,
}

impl Line {
    fn open(&self) -> Result<(), String> {
        if self.cut.load(Ordering::SeqCst) { Err("the line is cut".to_owned()) } else { Ok(()) }
    }
}

#[async_trait]
impl Control for Line {
    async fn write(&self, record: Bytes) -> Result<(), String> {
        self.open()?;
        let text = String::from_utf8_lossy(&record).into_owned();
        let late = || self.topic.late.lock().as_ref().is_some_and(|it| text.contains(&format!("\"by\":\"{it}\"")));
        while text.starts_with(r#"{"type":"prepare""#) && late() {
            self.topic.waits.store(true, Ordering::SeqCst);
            sleep(LOOK).await;
        }
        self.topic.write(record);
        Ok(())
    }

    async fn head(&self) -> Result<u64, String> {
        self.open()?;
        Ok(*self.topic.head.borrow())
    }

    async fn read(&self, from: u64) -> Result<(Vec<Bytes>, u64), String> {
        let mut head = self.topic.head.subscribe();
        head.wait_for(|head| *head > from).await.map_err(|error| error.to_string())?;
        self.open()?;
        let records = self.topic.records.lock();
        let from = usize::try_from(from).unwrap();
        Ok((records[from..].to_vec(), records.len() as u64))
    }

    async fn members(&self) -> Result<Vec<NodeId>, String> {
        self.open()?;
        Ok(self.topic.members.lock().clone())
    }
}

/// Nodes on one catalog.
struct Nodes {
    topic: Arc<Topic>,
    store: SqliteStore,
    _dir: tempfile::TempDir,
}

/// One of them.
struct Node {
    policies: Policies,
    cut: Arc<AtomicBool>,
    clock: Arc<ManualClock>,
}

/// How a node is to start.
#[derive(Default)]
struct Start {
    chains: Vec<(Hook, Vec<PluginRef>)>,
    limits: PolicyLimits,
}

impl Nodes {
    async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let store =
            SqliteStore::open(StoreConfig::at(dir.path().join("store.sqlite")), clock()).await.expect("a store");
        Self { topic: Arc::default(), store, _dir: dir }
    }

    async fn start(&self, name: &str) -> Node {
        self.start_as(name, Start::default()).await.unwrap_or_else(|error| panic!("{error}"))
    }

    async fn start_as(&self, name: &str, start: Start) -> Result<Node, StartError> {
        let node = NodeId::new(name).expect("a name");
        let (cut, time) = (Arc::new(AtomicBool::new(false)), Arc::new(ManualClock::at(1_000_000)));
        let named = heddle_builtin::plugins();
        let builtins =
            named.into_iter().map(|(hook, plugin)| (Hook::named(hook).expect("a hook"), plugin.bytes)).collect();
        if !self.topic.members.lock().contains(&node) {
            self.topic.members.lock().push(node.clone());
        }
        let control = Arc::new(Line { topic: Arc::clone(&self.topic), cut: Arc::clone(&cut) });
        let deps = PolicyDeps {
            catalog: self.store.store().catalog,
            clock: Arc::clone(&time) as Arc<dyn Clock>,
            builtins,
            loader: Arc::new(EngineLoader::default()),
            cluster: Some(Cluster { node, control, partitions: 1, ready_within: Duration::from_secs(10) }),
            shared: None,
        };
        let Start { chains, limits } = start;
        let policies = Policies::start(PolicyConfig { chains, limits, ..PolicyConfig::default() }, deps).await?;
        Ok(Node { policies, cut, clock: time })
    }

    async fn three(&self) -> [Node; 3] {
        let (one, two, three) = tokio::join!(self.start("one"), self.start("two"), self.start("three"));
        [one, two, three]
    }

    /// The catalog has exactly these generations.
    async fn recorded(&self, upto: u64) -> Vec<u64> {
        let mut numbers = Vec::new();
        for number in 1..=upto {
            if self.store.generation(number).await.expect("an answer").is_some() {
                numbers.push(number);
            }
        }
        numbers
    }

    fn is_gone(&self, name: &str) {
        self.topic.members.lock().retain(|member| member.as_str() != name);
    }
}

impl Node {
    fn number(&self) -> u64 {
        self.policies.current().number()
    }

    fn chain(&self, hook: Hook) -> Vec<String> {
        let infos = self.policies.current().describe();
        infos.iter().filter(|info| info.hook == hook).map(|info| info.name.to_string()).collect()
    }

    async fn deploy(&self, plugin: PluginRef) -> Result<Changed, ChangeError> {
        self.change(Change::Deploy { hook: None, file: plugin, seal: Seal::default(), trial: None }).await
    }

    async fn change(&self, change: Change) -> Result<Changed, ChangeError> {
        let request = Request { change, who: "tester".to_owned(), why: "a test".to_owned() };
        tokio::time::timeout(PATIENCE, self.policies.change(request)).await.expect("an end")
    }
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !done() {
            sleep(LOOK).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("never: {what}"));
}

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
    // One that began when another had won is the next.
    let newest = 1 + won as u64;
    until("all agree", || three.iter().all(|node| node.number() == newest)).await;
    assert_eq!(nodes.recorded(9).await, (1..=newest).collect::<Vec<_>>());
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
