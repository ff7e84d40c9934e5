//! A policy floor as the server builds it: the engine, the built-ins, a catalog in SQLite; and short ways to ask it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use heddle_model::{
    ClientId, Clock, Conversation, Delivery, Fallback, GroupId, Hook, MessageId, Plan, SystemClock, UserId,
};
use heddle_pack::{BuildOptions, Packed, build_plugin};
use heddle_policy::{
    Command, Component, Generation, Loaded, Loader, MessageView, PlanAsk, PluginRef, Policies, PolicyConfig,
    PolicyDeps, RateAnswer, RateAsk, RecordConfig, Redaction, RouteAsk, Routed, RoutingRights, SortAsk, StartError,
    WatchConfig,
};
use heddle_presence::{Event, Observation, Sighting, Status};
use heddle_store::{SqliteStore, StoreConfig};
use heddle_wasm::{Engine, Limits, LoadOptions, NativeCache};
use parking_lot::Mutex;

/// One a process, as in the server.
static ENGINE: LazyLock<Engine> = LazyLock::new(|| Engine::new(Limits::default()).expect("an engine"));

/// Loads as the server does, and notes what.
#[derive(Clone, Default)]
pub(crate) struct EngineLoader(Arc<Mutex<Vec<(String, Hook)>>>);

#[async_trait]
impl Loader for EngineLoader {
    async fn load(&self, plugin: &Packed, hook: Hook, config: &str) -> Result<Arc<dyn Component>, String> {
        self.0.lock().push((plugin.manifest.name.clone(), hook));
        let cache = Some(NativeCache::at(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("native")));
        let options = LoadOptions { config: Some(config.to_owned()), cache, ..LoadOptions::default() };
        let plugin = plugin.clone();
        let loaded = tokio::task::spawn_blocking(move || ENGINE.load(&plugin, &options))
            .await
            .expect("it loads or says why not");
        Ok(Arc::new(Loaded(loaded.map_err(|error| error.to_string())?)))
    }

    async fn prove(&self, plugin: &Packed) -> Result<(), Vec<String>> {
        let report = ENGINE.check_cases(plugin, &LoadOptions::default()).map_err(|error| vec![error.to_string()])?;
        report.problems().map_or(Ok(()), Err)
    }
}

/// Running policies.
pub(crate) struct World {
    /// The handle.
    pub(crate) policies: Policies,
    store: SqliteStore,
    loader: EngineLoader,
    _dir: tempfile::TempDir,
}

/// What a sender sends to the group `home`, unless said otherwise.
pub(crate) struct Sent {
    pub(crate) to: Conversation,
    pub(crate) size: u32,
    pub(crate) tag: Option<(&'static str, &'static str)>,
}

impl Default for Sent {
    fn default() -> Self {
        Self { to: group("home"), size: 5, tag: None }
    }
}

impl World {
    pub(crate) async fn start(chains: Vec<(Hook, Vec<PluginRef>)>) -> Self {
        Self::try_start(chains).await.unwrap_or_else(|error| panic!("{error}"))
    }

    pub(crate) async fn try_start(chains: Vec<(Hook, Vec<PluginRef>)>) -> Result<Self, StartError> {
        let dir = tempfile::tempdir().expect("a directory");
        let store =
            SqliteStore::open(StoreConfig::at(dir.path().join("store.sqlite")), clock()).await.expect("a store");
        Self::on(store, dir, chains).await
    }

    /// Another start on the same catalog.
    pub(crate) async fn again(self, chains: Vec<(Hook, Vec<PluginRef>)>) -> Self {
        Self::on(self.store, self._dir, chains).await.unwrap_or_else(|error| panic!("{error}"))
    }

    async fn on(
        store: SqliteStore,
        dir: tempfile::TempDir,
        chains: Vec<(Hook, Vec<PluginRef>)>,
    ) -> Result<Self, StartError> {
        let named = heddle_builtin::plugins();
        let builtins =
            named.into_iter().map(|(hook, plugin)| (Hook::named(hook).expect("a hook"), plugin.bytes)).collect();
        let loader = EngineLoader::default();
        let deps = PolicyDeps {
            catalog: store.store().catalog,
            clock: clock(),
            builtins,
            loader: Arc::new(loader.clone()),
            cluster: None,
            shared: None,
        };
        let redaction = Redaction { bodies: true, ..Redaction::default() };
        let record = RecordConfig { one_in: 1, redaction, ..RecordConfig::default() };
        let watch = WatchConfig { record, ..WatchConfig::default() };
        let policies = Policies::start(PolicyConfig { chains, watch, ..PolicyConfig::default() }, deps).await?;
        Ok(Self { policies, store, loader, _dir: dir })
    }

    /// What was loaded since the last look.
    pub(crate) fn loaded(&self) -> Vec<(String, Hook)> {
        std::mem::take(&mut *self.loader.0.lock())
    }

    /// One message of a user, everybody from the same address.
    pub(crate) fn rate(&self, name: &str, now: u64) -> RateAnswer {
        self.policies.current().rate_limit(&RateAsk {
            now,
            user: &user(name),
            ip: [127, 0, 0, 1].into(),
            connection: None,
            conversation: None,
            command: Command::ChatMessage,
            size: 100,
            connections_user: 1,
            connections_ip: 1,
            recipients: 1,
        })
    }

    /// Alice sends.
    pub(crate) fn route(&self, sent: Sent) -> Routed {
        self.route_of("alice", sent)
    }

    /// Somebody sends.
    pub(crate) fn route_of(&self, sender: &str, sent: Sent) -> Routed {
        let tags: Vec<_> = sent.tag.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        let message = MessageView { tags: &tags, ..BODY };
        let (sender, to) = (&user(sender), &sent.to);
        let ask = RouteAsk { now: 1, id: id(), sender, to, size: sent.size, members: 3, message };
        self.policies.current().route(&ask, &Rights)
    }

    pub(crate) fn plan(&self, members: u32) -> (Plan, Option<Fallback>) {
        let (group, sender) = (&GroupId::new("home").unwrap(), &user("alice"));
        let ask = PlanAsk { now: 1, id: id(), group, sender, members, online: 2, message: BODY };
        let (plan, decisions) = self.policies.current().plan(&ask);
        (plan, decisions[0].fallback)
    }

    /// The error is the time to wait.
    pub(crate) fn sort(&self, facts: &[u8], attempt: u32) -> Result<(Vec<Delivery>, Option<Fallback>), u64> {
        let (group, sender) = (&GroupId::new("home").unwrap(), &user("alice"));
        let ask = SortAsk {
            now: 1,
            id: id(),
            group,
            sender,
            members: 9,
            online: 2,
            message: BODY,
            facts,
            attempt,
            last: false,
        };
        let sorted = self.policies.current().sort(&ask).map_err(|retry| retry.after_ms)?;
        Ok((sorted.deliveries, sorted.decisions[0].fallback))
    }

    /// As a delivery worker asks the generation of a record.
    pub(crate) fn sort_by(&self, generation: &Generation, facts: &[u8]) -> (Vec<Delivery>, Option<Fallback>) {
        let (group, sender) = (&GroupId::new("home").unwrap(), &user("alice"));
        let ask = SortAsk {
            now: 1,
            id: id(),
            group,
            sender,
            members: 9,
            online: 2,
            message: BODY,
            facts,
            attempt: 0,
            last: false,
        };
        let sorted = generation.sort(&ask).expect("somebody decides");
        (sorted.deliveries, sorted.decisions.last().expect("a decision").fallback)
    }

    pub(crate) fn observe(&self, event: Event, connections: u32, previous: Status) -> Sighting {
        let user = &user("alice");
        let seen = Observation { now: 1, user, event, connections, idle_ms: 0, declared: None, previous };
        self.policies.current().observe(&seen)
    }
}

/// Alice is in `home` and `mine`.
struct Rights;

impl RoutingRights for Rights {
    fn may_send_to(&self, to: &Conversation) -> bool {
        *to == group("home") || *to == group("mine")
    }

    fn is_member(&self, conversation: &Conversation, user: &UserId) -> bool {
        user.as_str() == "alice" && self.may_send_to(conversation)
    }
}

const BODY: MessageView<'static> =
    MessageView { kind: "message", text: Some("hello"), data: None, tags: &[], lamport: 1, sender_since: 0 };

pub(crate) fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new())
}

fn id() -> MessageId {
    MessageId::of(&user("alice"), &group("home"), &ClientId::new("1").unwrap())
}

pub(crate) fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

pub(crate) fn group(id: &str) -> Conversation {
    Conversation::Group(GroupId::new(id).unwrap())
}

/// A plugin file, as an operator names it.
pub(crate) fn file(name: &str, bytes: Vec<u8>) -> PluginRef {
    PluginRef::file(format!("{name}.wasm"), bytes)
}

fn folder(fixture: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/policies").join(fixture)
}

/// The plugin file of a folder of `tests/policies`.
pub(crate) fn fixture(name: &str) -> PluginRef {
    let (_, bytes) = build_plugin(&folder(name), &BuildOptions::default()).unwrap_or_else(|error| panic!("{error}"));
    file(name, bytes)
}

/// Its component alone, to be packed with another manifest.
pub(crate) fn component(name: &str) -> Vec<u8> {
    let (manifest, _) = build_plugin(&folder(name), &BuildOptions::default()).unwrap_or_else(|error| panic!("{error}"));
    let artifact = manifest.build.expect("it says how it is built").artifact;
    std::fs::read(folder(name).join(artifact)).expect("it was built")
}
