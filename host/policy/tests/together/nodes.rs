//! Nodes whose one rate limit lets so many commands of a key pass, ever.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use heddle_model::{Clock, ConnectionId, Digest, Hook, ManualClock, UserId};
use heddle_pack::contract::{
    Audience, Envelope, FanoutMode, Moment, Observation, RateLimitOutcome, RateLimitRequest, Refusal, RoutingDecision,
    Sighting, Status, Verdict,
};
use heddle_pack::{Manifest, Packed};
use heddle_policy::{
    Call, Command, Component, Fault, Loader, MessageView, PluginRef, Policies, PolicyConfig, PolicyDeps, RateAnswer,
    RateAsk, RecordConfig, WatchConfig,
};
use heddle_store::{AuditEntry, Catalog, CatalogBounds, CatalogGeneration, CatalogPlugin, CatalogRemoved, StoreError};
use parking_lot::Mutex;

use crate::line::Line;

/// One plugin of the chain.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chain {
    pub(crate) name: &'static str,
    /// Of its state.
    pub(crate) version: u32,
    pub(crate) scopes: &'static str,
    pub(crate) shares: bool,
    pub(crate) messages: u32,
}

/// One that is shared: so many for each user.
pub(crate) fn limit(messages: u32) -> Chain {
    Chain { name: "tally", version: 1, scopes: r#"["user"]"#, shares: true, messages }
}

/// How many of these were.
pub(crate) fn allowed(answers: &[RateAnswer]) -> usize {
    answers.iter().filter(|answer| answer.denied.is_none()).count()
}

/// One node.
pub(crate) struct Node {
    pub(crate) policies: Policies,
    pub(crate) clock: Arc<ManualClock>,
    line: Arc<Line>,
    catalog: Arc<Rows>,
}

/// So many, each with memory of its own, on one line.
pub(crate) async fn nodes(count: usize, line: &Arc<Line>, chain: &[Chain]) -> Vec<Node> {
    let mut nodes = Vec::new();
    for _ in 0..count {
        nodes.push(Node::start(line, chain, Arc::default()).await);
    }
    nodes
}

impl Node {
    async fn start(line: &Arc<Line>, chain: &[Chain], catalog: Arc<Rows>) -> Self {
        static BUILTINS: LazyLock<Vec<(Hook, Vec<u8>)>> = LazyLock::new(|| {
            let builtin = |hook: Hook| {
                packed(&format!(
                    "name = \"builtin\"\nversion = \"1.0.0\"\n[hooks.{hook}]\n[config]\nmessages = 1000000\n"
                ))
            };
            Hook::ALL.into_iter().map(|hook| (hook, builtin(hook))).collect()
        });
        let clock = Arc::new(ManualClock::at(1));
        let deps = PolicyDeps {
            catalog: Arc::clone(&catalog) as Arc<dyn Catalog>,
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            builtins: BUILTINS.iter().map(|(hook, bytes)| (*hook, bytes.as_slice())).collect(),
            loader: Arc::new(Tallies),
            cluster: None,
            shared: Some(Arc::clone(line) as _),
        };
        let chains = vec![(Hook::RateLimit, chain.iter().map(file).collect())];
        let record = RecordConfig { one_in: 1, ..RecordConfig::default() };
        let watch = WatchConfig { record, repeat_one_in: 0, ..WatchConfig::default() };
        let policies = Policies::start(PolicyConfig { chains, watch, ..PolicyConfig::default() }, deps).await;
        Self { policies: policies.expect("it starts"), clock, line: Arc::clone(line), catalog }
    }

    /// The same node, started anew with other plugins.
    pub(crate) async fn again(&self, chain: &[Chain]) -> Self {
        Self::start(&self.line, chain, Arc::clone(&self.catalog)).await
    }

    /// A message of a user.
    pub(crate) async fn ask(&self, name: &str) -> RateAnswer {
        let (generation, user) = (self.policies.current(), UserId::new(name).unwrap());
        let ask = RateAsk {
            now: self.clock.now(),
            user: &user,
            ip: [127, 0, 0, 1].into(),
            connection: Some(ConnectionId(7)),
            conversation: None,
            command: Command::ChatMessage,
            size: 10,
            connections_user: 1,
            connections_ip: 1,
            recipients: 1,
        };
        match generation.counts_together() {
            true => generation.rate_limit_together(&ask).await,
            false => generation.rate_limit(&ask),
        }
    }

    /// So many, one after the other.
    pub(crate) async fn asks(&self, name: &str, times: usize) -> Vec<RateAnswer> {
        let mut answers = Vec::new();
        for _ in 0..times {
            answers.push(self.ask(name).await);
        }
        answers
    }

    /// The calls that were recorded: with which count, and whether they were allowed.
    pub(crate) fn recorded(&self) -> Vec<(u32, bool)> {
        let call = |recorded: heddle_policy::Recorded| match (recorded.call, recorded.answer) {
            (Call::RateLimit { state, .. }, heddle_policy::Answer::Outcome(outcome)) => {
                (state.as_slice().try_into().map_or(0, u32::from_le_bytes), outcome.verdict == Verdict::Allow)
            }
            other => panic!("{other:?}"),
        };
        self.policies.recorded(0, None, None).into_iter().map(call).collect()
    }
}

fn file(plugin: &Chain) -> PluginRef {
    let Chain { name, version, scopes, shares, messages } = plugin;
    let share = if *shares { "cluster" } else { "node" };
    let bytes = packed(&format!(
        "name = \"{name}\"\nversion = \"1.0.0\"\nstate_version = {version}\n[hooks.rate-limit]\nscopes = {scopes}\n\
         share = \"{share}\"\n[config]\nmessages = {messages}\n"
    ));
    PluginRef::file(format!("{name}.wasm"), bytes)
}

/// With an empty component.
fn packed(toml: &str) -> Vec<u8> {
    let manifest = Manifest::parse(toml, "plugin.toml").unwrap();
    heddle_pack::pack(b"\0asm\x0d\0\x01\0", &manifest, &[]).unwrap()
}

struct Tallies;

#[async_trait]
impl Loader for Tallies {
    async fn load(&self, _: &Packed, _: Hook, config: &str) -> Result<Arc<dyn Component>, String> {
        let config: serde_json::Value = serde_json::from_str(config).map_err(|error| error.to_string())?;
        let messages = config["messages"].as_u64().and_then(|messages| u32::try_from(messages).ok());
        Ok(Arc::new(Tally(messages.ok_or("messages is missing")?)))
    }

    async fn prove(&self, _: &Packed) -> Result<(), Vec<String>> {
        Ok(())
    }
}

/// Counts in four bytes; other bytes are its undoing.
struct Tally(u32);

impl Component for Tally {
    fn rate_limit(&self, _: Moment, _: &RateLimitRequest, state: &[u8]) -> Result<RateLimitOutcome, Fault> {
        let count = match state {
            [] => 0,
            bytes => bytes
                .try_into()
                .map(u32::from_le_bytes)
                .map_err(|_| Fault { kind: "trap", text: "no count".to_owned() })?,
        };
        let keep = 60_000;
        Ok(match count < self.0 {
            true => RateLimitOutcome { verdict: Verdict::Allow, state: (count + 1).to_le_bytes().to_vec(), keep },
            false => {
                let refusal = Refusal { reason: "no more".to_owned(), retry_after: None };
                RateLimitOutcome { verdict: Verdict::Deny(refusal), state: state.to_vec(), keep }
            }
        })
    }

    fn migrate(&self, _: u32, state: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        Ok(Some(state.to_vec()))
    }

    fn route(&self, _: Moment, _: &Envelope, _: &MessageView<'_>) -> Result<RoutingDecision, Fault> {
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

/// A catalog in memory.
#[derive(Default)]
struct Rows {
    plugins: Mutex<HashMap<Digest, CatalogPlugin>>,
    generations: Mutex<Vec<CatalogGeneration>>,
}

#[async_trait]
impl Catalog for Rows {
    async fn add_plugin(&self, plugin: CatalogPlugin) -> Result<(), StoreError> {
        self.plugins.lock().insert(plugin.digest, plugin);
        Ok(())
    }

    async fn plugin(&self, digest: Digest) -> Result<Option<CatalogPlugin>, StoreError> {
        Ok(self.plugins.lock().get(&digest).cloned())
    }

    async fn plugin_versions(&self, _: &str) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }

    async fn newest_generation(&self) -> Result<Option<CatalogGeneration>, StoreError> {
        Ok(self.generations.lock().last().cloned())
    }

    async fn generation(&self, number: u64) -> Result<Option<CatalogGeneration>, StoreError> {
        Ok(self.generations.lock().iter().find(|row| row.number == number).cloned())
    }

    async fn add_generation(&self, row: CatalogGeneration, _: AuditEntry) -> Result<bool, StoreError> {
        self.generations.lock().push(row);
        Ok(true)
    }

    async fn add_audit(&self, _: AuditEntry) -> Result<(), StoreError> {
        Ok(())
    }

    async fn audit(&self, _: u32) -> Result<Vec<AuditEntry>, StoreError> {
        Ok(Vec::new())
    }

    async fn keep_within(&self, _: CatalogBounds) -> Result<CatalogRemoved, StoreError> {
        Ok(CatalogRemoved::default())
    }
}
