//! A group message whose generation cannot be had waits for it, and with it those behind it in its partition; nothing else does.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use heddle_delivery::{Delivery, DeliveryConfig, Ports, SendOutcome, Submission, Submitted};
use heddle_log::{Log, MemoryLog};
use heddle_model::{
    ClientId, Conversation, Delivery as How, Digest, GroupChunk, GroupId, Hook, NodeId, Partitioning, Record,
    SystemClock, TopicPartition, UserId,
};
use heddle_pack::contract::{
    Audience, Envelope, FanoutMode, Moment, Observation, RateLimitOutcome, RateLimitRequest, RoutingDecision, Sighting,
    Status, Verdict,
};
use heddle_pack::{Manifest, Packed};
use heddle_policy::{Component, Fault, Generation, Loader, MessageView, PluginRef, Policies, PolicyConfig, PolicyDeps};
use heddle_registry::{EmbeddedBus, EmbeddedRegistry};
use heddle_store::{
    AuditEntry, Catalog, CatalogBounds, CatalogGeneration, CatalogPlugin, CatalogRemoved, SqliteStore, Store,
    StoreConfig, StoreError,
};
use tokio::sync::watch;
use tokio::time::timeout;

/// Nothing here takes so long, unless it never comes.
const PATIENCE: Duration = Duration::from_secs(60);
/// More than were waited for once, before everybody got it.
const ASKED: usize = 6;

/// Lets everything pass; as `odd` it leaves out every second member.
struct Lets {
    odd: bool,
}

impl Component for Lets {
    fn rate_limit(&self, _: Moment, _: &RateLimitRequest, _: &[u8]) -> Result<RateLimitOutcome, Fault> {
        Ok(RateLimitOutcome { verdict: Verdict::Allow, state: Vec::new(), keep: 0 })
    }

    fn migrate(&self, _: u32, _: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        Ok(None)
    }

    fn route(&self, _: Moment, _: &Envelope, _: &MessageView<'_>) -> Result<RoutingDecision, Fault> {
        Ok(RoutingDecision::Accept)
    }

    fn plan(&self, _: Moment, _: &Audience, _: &MessageView<'_>) -> Result<FanoutMode, Fault> {
        Ok(FanoutMode::Push)
    }

    fn sort(&self, _: Moment, _: &Audience, _: &MessageView<'_>, facts: &[u8]) -> Result<Vec<u8>, Fault> {
        Ok((0..facts.len()).map(|at| if self.odd && at % 2 == 1 { How::LeaveOut as u8 } else { 0 }).collect())
    }

    fn observe(&self, _: Moment, _: &Observation) -> Result<Sighting, Fault> {
        Ok(Sighting { status: Status::Online, announce: false, recheck: 0 })
    }

    fn reveal(&self, _: Moment, _: &str, relations: &[u8]) -> Result<Vec<u8>, Fault> {
        Ok(vec![0; relations.len()])
    }
}

struct Letting;

#[async_trait]
impl Loader for Letting {
    async fn load(&self, plugin: &Packed, _: Hook, _: &str) -> Result<Arc<dyn Component>, String> {
        Ok(Arc::new(Lets { odd: plugin.manifest.name == "odd" }))
    }

    async fn prove(&self, _: &Packed) -> Result<(), Vec<String>> {
        Ok(())
    }
}

/// A catalog that can be away, and counts who asked for a generation then.
struct Away {
    inner: Arc<dyn Catalog>,
    down: watch::Sender<bool>,
    asked: watch::Sender<usize>,
}

#[async_trait]
impl Catalog for Away {
    async fn add_plugin(&self, plugin: CatalogPlugin) -> Result<(), StoreError> {
        self.inner.add_plugin(plugin).await
    }

    async fn plugin(&self, digest: Digest) -> Result<Option<CatalogPlugin>, StoreError> {
        self.inner.plugin(digest).await
    }

    async fn plugin_versions(&self, name: &str) -> Result<Vec<String>, StoreError> {
        self.inner.plugin_versions(name).await
    }

    async fn newest_generation(&self) -> Result<Option<CatalogGeneration>, StoreError> {
        self.inner.newest_generation().await
    }

    async fn generation(&self, number: u64) -> Result<Option<CatalogGeneration>, StoreError> {
        if *self.down.borrow() {
            self.asked.send_modify(|asked| *asked += 1);
            return Err(StoreError::Unavailable { operation: "generation", reason: "it is away".to_owned() });
        }
        self.inner.generation(number).await
    }

    async fn add_generation(&self, row: CatalogGeneration, audit: AuditEntry) -> Result<bool, StoreError> {
        self.inner.add_generation(row, audit).await
    }

    async fn add_audit(&self, audit: AuditEntry) -> Result<(), StoreError> {
        self.inner.add_audit(audit).await
    }

    async fn audit(&self, limit: u32) -> Result<Vec<AuditEntry>, StoreError> {
        self.inner.audit(limit).await
    }

    async fn keep_within(&self, bounds: CatalogBounds) -> Result<CatalogRemoved, StoreError> {
        self.inner.keep_within(bounds).await
    }
}

/// A node without a gateway. Generation 1, which decides no more and is not loaded, leaves out every second member.
struct World {
    delivery: Delivery,
    log: Arc<dyn Log>,
    catalog: Arc<Away>,
    before: Arc<Generation>,
    _dir: tempfile::TempDir,
}

fn plugin(name: &str, hook: Hook, on_failure: &str) -> PluginRef {
    let scopes = if hook == Hook::RateLimit { "scopes = [\"user\"]\n" } else { "" };
    let toml =
        format!("name = \"{name}\"\nversion = \"1.0.0\"\n[hooks.{hook}]\n{scopes}on_failure = \"{on_failure}\"\n");
    let manifest = Manifest::parse(&toml, "plugin.toml").unwrap();
    PluginRef::file(name, heddle_pack::pack(b"\0asm\x0d\0\x01\0", &manifest, &[]).unwrap())
}

async fn policies(catalog: &Arc<Away>, fanout: Vec<PluginRef>) -> Policies {
    let builtin = |hook| -> (Hook, &'static [u8]) {
        (hook, Vec::leak(plugin(&format!("builtin-{hook}"), hook, "builtin").bytes.to_vec()))
    };
    let deps = PolicyDeps {
        catalog: catalog.clone(),
        clock: Arc::new(SystemClock::new()),
        builtins: Hook::ALL.into_iter().map(builtin).collect(),
        loader: Arc::new(Letting),
        cluster: None,
        shared: None,
    };
    let chains = vec![(Hook::Fanout, fanout)];
    Policies::start(PolicyConfig { chains, ..PolicyConfig::default() }, deps).await.unwrap()
}

impl World {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock: Arc<SystemClock> = Arc::new(SystemClock::new());
        let store = SqliteStore::open(StoreConfig::at(dir.path().join("store.sqlite")), clock.clone()).await.unwrap();
        let store: Store = store.store();
        let (down, asked) = (watch::Sender::new(false), watch::Sender::new(0));
        let catalog = Arc::new(Away { inner: Arc::clone(&store.catalog), down, asked });
        let before = policies(&catalog, vec![plugin("odd", Hook::Fanout, "closed")]).await.current();
        let now = policies(&catalog, vec![]).await;
        assert_eq!((before.number(), now.current().number()), (1, 2));
        let node = NodeId::new("n").unwrap();
        let log: Arc<dyn Log> = MemoryLog::new(4, clock.clone());
        let of = node.clone();
        let ports = Ports {
            log: Arc::clone(&log),
            store,
            registry: Arc::new(EmbeddedRegistry::new(node.clone())),
            bus: Box::new(move |inbox| Arc::new(EmbeddedBus::new(of, inbox))),
            policies: now,
            clock,
            node,
        };
        let delivery = Delivery::start(DeliveryConfig::default(), ports).await.unwrap();
        Self { delivery, log, catalog, before, _dir: dir }
    }

    /// Alice says something, decided by generation 1.
    async fn say(&self, client_id: &str, to: Conversation) {
        let submission = Submission {
            sender: user("alice"),
            client_id: ClientId::new(client_id).unwrap(),
            to,
            text: Some(client_id.into()),
            data: None,
            tags: Vec::new(),
            mentions: Vec::new(),
            lamport: None,
            resend: false,
            generation: Arc::clone(&self.before),
            decisions: Vec::new(),
        };
        let outcome = match self.delivery.submit(submission).await {
            Submitted::Settled(outcome) => outcome,
            Submitted::Appending(appending) => appending.await,
        };
        assert!(matches!(&outcome, SendOutcome::Accepted(accepted) if accepted.generation == 1), "{outcome:?}");
    }

    async fn group(&self) -> GroupId {
        let members: Vec<UserId> = (0..6).map(|n| user(&format!("m{n}"))).collect();
        let client_id = ClientId::new("group").unwrap();
        self.delivery.create_group(&user("alice"), &client_id, "all", &members).await.unwrap()
    }

    async fn records(&self, partition: TopicPartition) -> Vec<Record> {
        let head = *self.log.head(partition).borrow();
        let (mut from, mut records) = (0, Vec::new());
        while from < head {
            let batch = self.log.read(partition, from, usize::MAX).await.unwrap();
            records.extend(batch.records.iter().map(|stored| Record::decode(&stored.bytes).unwrap()));
            from = batch.next;
        }
        records
    }

    /// Who was given it, by the chunks that stand, once somebody was.
    async fn given(&self, text: &str) -> (Vec<String>, Vec<GroupChunk>) {
        let all = async {
            loop {
                let mut chunks = Vec::new();
                for partition in (Partitioning { count: 4 }).all() {
                    chunks.extend(self.records(partition).await.into_iter().filter_map(|record| match record {
                        Record::GroupChunk(chunk) if chunk.message.text.as_deref() == Some(text) => Some(chunk),
                        _ => None,
                    }));
                }
                let mut users: Vec<String> =
                    chunks.iter().flat_map(|chunk| &chunk.members).map(|member| member.user.to_string()).collect();
                users.sort();
                // They are appended together: the sender's is one of them.
                if users.iter().any(|user| user == "alice") {
                    return (users, chunks);
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, all).await.expect("it is expanded")
    }
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

/// Everybody of the group but every second one, as the plugin sees them.
fn even() -> Vec<String> {
    let partitioning = Partitioning { count: 4 };
    let mut others: Vec<_> = (0..6).map(|n| user(&format!("m{n}"))).map(|it| (partitioning.home(&it), it)).collect();
    others.sort();
    let mut given: Vec<String> = others.iter().step_by(2).map(|(_, user)| user.to_string()).collect();
    given.push("alice".to_owned());
    given.sort();
    given
}

#[tokio::test]
async fn a_group_message_waits_for_its_generation_however_long_and_who_is_left_out_stays_left_out() {
    let world = World::start().await;
    let group = world.group().await;
    world.catalog.down.send_replace(true);
    world.say("to all", Conversation::Group(group.clone())).await;
    let mut asked = world.catalog.asked.subscribe();
    timeout(PATIENCE, asked.wait_for(|asked| *asked > ASKED)).await.expect("it goes on asking").unwrap();
    // Direct messages go on meanwhile.
    world.say("to bob", Conversation::Direct(user("bob"))).await;
    let home = Partitioning { count: 4 }.home(&user("alice"));
    let own = async {
        while !world.records(home).await.iter().any(|record| matches!(record, Record::OwnCopy(_))) {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, own).await.expect("the sender's own copy is derived");
    let mut chunks = HashMap::new();
    for partition in (Partitioning { count: 4 }).all() {
        let found = world.records(partition).await.into_iter().filter(|it| matches!(it, Record::GroupChunk(_))).count();
        chunks.insert(partition, found);
    }
    assert!(chunks.values().all(|found| *found == 0), "nobody decided, and somebody has it: {chunks:?}");

    world.catalog.down.send_replace(false);
    let (given, chunks) = world.given("to all").await;
    assert_eq!(given, even());
    let odd = Digest::of(&plugin("odd", Hook::Fanout, "closed").bytes);
    for decision in chunks.iter().flat_map(|chunk| &chunk.decisions) {
        assert_eq!((decision.digest, decision.fallback), (odd, None), "waiting is no fault of the policy");
    }
    assert!(chunks.iter().all(|chunk| !chunk.decisions.is_empty()), "every chunk says who decided");
    world.delivery.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_node_stops_though_a_group_message_waits() {
    let world = World::start().await;
    let group = world.group().await;
    world.catalog.down.send_replace(true);
    world.say("to all", Conversation::Group(group)).await;
    let mut asked = world.catalog.asked.subscribe();
    timeout(PATIENCE, asked.wait_for(|asked| *asked > 0)).await.expect("it is met").unwrap();
    // Tasks that do not end are given up after five seconds.
    timeout(Duration::from_secs(4), world.delivery.stop(Duration::ZERO)).await.expect("it stops");
}
