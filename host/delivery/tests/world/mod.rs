//! Delivery on a log in memory and a store in a file, with policies that allow everything.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use async_trait::async_trait;
use heddle_delivery::{Delivery, DeliveryConfig, Ports};
use heddle_log::{Log, MemoryLog};
use heddle_model::{
    BodyHash, ClientId, Conversation, Hook, Message, MessageId, NodeId, Partitioning, Plan, Record, Stamp, SystemClock,
    TopicPartition, UserId,
};
use heddle_pack::contract::{
    Audience, FanoutMode, Moment, Observation, RateLimitOutcome, RateLimitRequest, RoutingDecision, Sighting, Status,
    Verdict,
};
use heddle_pack::{Manifest, Packed};
use heddle_policy::{Component, Fault, Loader, MessageView, Policies, PolicyConfig, PolicyDeps};
use heddle_registry::{EmbeddedBus, EmbeddedRegistry};
use heddle_store::{SqliteStore, Store, StoreConfig};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

/// Of the log.
const PARTITIONS: u32 = 16;
/// The longest that a condition is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// Everything but delivery itself.
pub(crate) struct World {
    pub(crate) log: Arc<MemoryLog>,
    pub(crate) store: Store,
    pub(crate) counters: Arc<Counters>,
    policies: Policies,
    _directory: tempfile::TempDir,
    _sqlite: SqliteStore,
}

impl World {
    pub(crate) async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(SystemClock::new());
        let config = StoreConfig::at(directory.path().join("store.sqlite"));
        let sqlite = SqliteStore::open(config, clock.clone()).await.unwrap();
        let store = sqlite.store();
        let deps = PolicyDeps {
            catalog: Arc::clone(&store.catalog),
            clock: clock.clone(),
            builtins: Hook::ALL.into_iter().map(|hook| (hook, empty(hook))).collect(),
            loader: Arc::new(Allowing),
            cluster: None,
            shared: None,
        };
        let policies = Policies::start(PolicyConfig::default(), deps).await.unwrap();
        let log = MemoryLog::new(PARTITIONS, clock);
        Self { log, store, counters: Arc::default(), policies, _directory: directory, _sqlite: sqlite }
    }

    pub(crate) fn home(&self, name: &str) -> TopicPartition {
        Partitioning { count: PARTITIONS }.home(&user(name))
    }

    /// Starts it.
    pub(crate) async fn deliver(&self) -> Delivery {
        self.deliver_from(self.log.clone()).await
    }

    /// The same, on another view of the log.
    pub(crate) async fn deliver_from(&self, log: Arc<dyn Log>) -> Delivery {
        let node = NodeId::new("node-1").unwrap();
        let at = node.clone();
        let ports = Ports {
            log,
            store: self.store.clone(),
            registry: Arc::new(EmbeddedRegistry::new(node.clone())),
            bus: Box::new(move |inbox| Arc::new(EmbeddedBus::new(at, inbox))),
            policies: self.policies.clone(),
            clock: Arc::new(SystemClock::new()),
            node,
        };
        let config = DeliveryConfig { archive_interval_ms: 10, ..DeliveryConfig::default() };
        Delivery::start(config, ports).await.unwrap()
    }

    /// Waits for a condition.
    pub(crate) async fn until(&self, condition: impl AsyncFn() -> bool, what: &str) {
        let met = async {
            while !condition().await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, met).await.is_ok(), "not within {PATIENCE:?}: {what}");
    }
}

pub(crate) fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

/// A message as a gateway would write it, but for what is said of its lamport.
pub(crate) fn direct(from: &str, to: &str, text: &str, lamport: u64) -> Record {
    let (sender, to) = (user(from), Conversation::Direct(user(to)));
    let client_id = ClientId::new(text).unwrap();
    Record::Direct(Arc::new(Message {
        id: MessageId::of(&sender, &to, &client_id),
        sender,
        client_id,
        addressed: to.clone(),
        to,
        text: Some(text.into()),
        data: None,
        tags: Vec::new(),
        mentions: Vec::new(),
        sent_at: 1,
        lamport,
        body: BodyHash::of(Some(text), None),
        rewritten: false,
        only: None,
        discarded: false,
        quiet: false,
        outsider: false,
        plan: Plan::Push,
        stamp: Stamp::default(),
    }))
}

/// A plugin file with an empty component.
fn empty(hook: Hook) -> &'static [u8] {
    let scopes = if hook == Hook::RateLimit { "scopes = [\"user\"]\n" } else { "" };
    let toml =
        format!("name = \"allow-{hook}\"\nversion = \"1.0.0\"\n[hooks.{hook}]\n{scopes}on_failure = \"builtin\"\n");
    let manifest = Manifest::parse(&toml, "plugin.toml").unwrap();
    Vec::leak(heddle_pack::pack(b"\0asm\x0d\0\x01\0", &manifest, &[]).unwrap())
}

struct Allowing;

#[async_trait]
impl Loader for Allowing {
    async fn load(&self, _: &Packed, _: Hook, _: &str) -> Result<Arc<dyn Component>, String> {
        Ok(Arc::new(Self))
    }

    async fn prove(&self, _: &Packed) -> Result<(), Vec<String>> {
        Ok(())
    }
}

impl Component for Allowing {
    fn rate_limit(&self, _: Moment, _: &RateLimitRequest, _: &[u8]) -> Result<RateLimitOutcome, Fault> {
        Ok(RateLimitOutcome { verdict: Verdict::Allow, state: Vec::new(), keep: 0 })
    }

    fn migrate(&self, _: u32, _: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        Ok(None)
    }

    fn route(
        &self,
        _: Moment,
        _: &heddle_pack::contract::Envelope,
        _: &MessageView<'_>,
    ) -> Result<RoutingDecision, Fault> {
        Ok(RoutingDecision::Accept)
    }

    fn plan(&self, _: Moment, _: &Audience, _: &MessageView<'_>) -> Result<FanoutMode, Fault> {
        Ok(FanoutMode::Push)
    }

    fn sort(&self, _: Moment, _: &Audience, _: &MessageView<'_>, facts: &[u8]) -> Result<Vec<u8>, Fault> {
        Ok(vec![0; facts.len()])
    }

    fn observe(&self, _: Moment, _: &Observation) -> Result<Sighting, Fault> {
        Ok(Sighting { status: Status::Online, announce: false, recheck: 0 })
    }

    fn reveal(&self, _: Moment, _: &str, relations: &[u8]) -> Result<Vec<u8>, Fault> {
        Ok(vec![2; relations.len()])
    }
}

/// Counts dead letters, and records that were passed by, of whoever runs on this thread.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) dead: Arc<AtomicU64>,
    pub(crate) passed: Arc<AtomicU64>,
}

impl Recorder for Counters {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        match key.name() {
            "heddle_dead_letters_total" => Counter::from_arc(Arc::clone(&self.dead)),
            "heddle_records_passed_total" => Counter::from_arc(Arc::clone(&self.passed)),
            _ => Counter::noop(),
        }
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}
