//! Several nodes: one catalog, one control log in memory, real components.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use heddle_model::{Clock, Hook, ManualClock, NodeId};
use heddle_pack::Packed;
use heddle_policy::{
    Change, ChangeError, Changed, Cluster, Component, Control, Loader, PluginRef, Policies, PolicyConfig, PolicyDeps,
    PolicyLimits, Request, Seal, StartError,
};
use heddle_store::{Catalog as _, SqliteStore, StoreConfig};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tokio::time::sleep;

use crate::world::{EngineLoader, clock};

/// The longest that anything here may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
pub(crate) const LOOK: Duration = Duration::from_millis(5);

/// A control log, and who is said to live.
#[derive(Default)]
pub(crate) struct Topic {
    pub(crate) records: Mutex<Vec<Bytes>>,
    head: watch::Sender<u64>,
    pub(crate) members: Mutex<Vec<NodeId>>,
    /// What this node prepares does not come through while it is.
    pub(crate) late: Mutex<Option<NodeId>>,
    /// Something waits for that.
    pub(crate) waits: AtomicBool,
}

impl Topic {
    pub(crate) fn write(&self, record: impl Into<Bytes>) {
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
pub(crate) struct Nodes {
    pub(crate) topic: Arc<Topic>,
    pub(crate) store: SqliteStore,
    _dir: tempfile::TempDir,
}

/// One of them.
pub(crate) struct Node {
    pub(crate) policies: Policies,
    pub(crate) cut: Arc<AtomicBool>,
    pub(crate) clock: Arc<ManualClock>,
}

/// Loads as every node does, and lets a plugin through its cases when somebody says so.
struct Held {
    inner: EngineLoader,
    gate: Arc<Semaphore>,
}

#[async_trait]
impl Loader for Held {
    async fn load(&self, plugin: &Packed, hook: Hook, config: &str) -> Result<Arc<dyn Component>, String> {
        self.inner.load(plugin, hook, config).await
    }

    async fn prove(&self, plugin: &Packed) -> Result<(), Vec<String>> {
        self.inner.prove(plugin).await?;
        // What waits takes the permit that says so, and then the one that lets it go.
        for _ in 0..2 {
            self.gate.acquire().await.expect("an open gate").forget();
        }
        Ok(())
    }
}

/// How a node is to start.
#[derive(Default)]
pub(crate) struct Start {
    /// A deployment takes two permits.
    pub(crate) gate: Option<Arc<Semaphore>>,
    pub(crate) chains: Vec<(Hook, Vec<PluginRef>)>,
    pub(crate) limits: PolicyLimits,
}

impl Nodes {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let store =
            SqliteStore::open(StoreConfig::at(dir.path().join("store.sqlite")), clock()).await.expect("a store");
        Self { topic: Arc::default(), store, _dir: dir }
    }

    pub(crate) async fn start(&self, name: &str) -> Node {
        self.start_as(name, Start::default()).await.unwrap_or_else(|error| panic!("{error}"))
    }

    pub(crate) async fn start_as(&self, name: &str, start: Start) -> Result<Node, StartError> {
        let node = NodeId::new(name).expect("a name");
        let (cut, time) = (Arc::new(AtomicBool::new(false)), Arc::new(ManualClock::at(1_000_000)));
        let named = heddle_builtin::plugins();
        let builtins =
            named.into_iter().map(|(hook, plugin)| (Hook::named(hook).expect("a hook"), plugin.bytes)).collect();
        if !self.topic.members.lock().contains(&node) {
            self.topic.members.lock().push(node.clone());
        }
        let control = Arc::new(Line { topic: Arc::clone(&self.topic), cut: Arc::clone(&cut) });
        let Start { chains, limits, gate } = start;
        let loader: Arc<dyn Loader> = match gate {
            None => Arc::new(EngineLoader::default()),
            Some(gate) => Arc::new(Held { inner: EngineLoader::default(), gate }),
        };
        let deps = PolicyDeps {
            catalog: self.store.store().catalog,
            clock: Arc::clone(&time) as Arc<dyn Clock>,
            builtins,
            loader,
            cluster: Some(Cluster { node, control, partitions: 1, ready_within: Duration::from_secs(10) }),
            shared: None,
        };
        let policies = Policies::start(PolicyConfig { chains, limits, ..PolicyConfig::default() }, deps).await?;
        Ok(Node { policies, cut, clock: time })
    }

    pub(crate) async fn three(&self) -> [Node; 3] {
        let (one, two, three) = tokio::join!(self.start("one"), self.start("two"), self.start("three"));
        [one, two, three]
    }

    /// The catalog has exactly these generations.
    pub(crate) async fn recorded(&self, upto: u64) -> Vec<u64> {
        let mut numbers = Vec::new();
        for number in 1..=upto {
            if self.store.generation(number).await.expect("an answer").is_some() {
                numbers.push(number);
            }
        }
        numbers
    }

    pub(crate) fn is_gone(&self, name: &str) {
        self.topic.members.lock().retain(|member| member.as_str() != name);
    }
}

impl Node {
    pub(crate) fn number(&self) -> u64 {
        self.policies.current().number()
    }

    pub(crate) fn chain(&self, hook: Hook) -> Vec<String> {
        let infos = self.policies.current().describe();
        infos.iter().filter(|info| info.hook == hook).map(|info| info.name.to_string()).collect()
    }

    pub(crate) async fn deploy(&self, plugin: PluginRef) -> Result<Changed, ChangeError> {
        self.change(Change::Deploy { hook: None, file: plugin, seal: Seal::default(), trial: None }).await
    }

    pub(crate) async fn change(&self, change: Change) -> Result<Changed, ChangeError> {
        let request = Request { change, who: "tester".to_owned(), why: "a test".to_owned() };
        tokio::time::timeout(PATIENCE, self.policies.change(request)).await.expect("an end")
    }
}

pub(crate) async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !done() {
            sleep(LOOK).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("never: {what}"));
}
