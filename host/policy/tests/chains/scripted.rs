//! Scripted components in place of an engine, a catalog in memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use heddle_model::{ClientId, Conversation, Digest, GroupId, Hook, ManualClock, MessageId, UserId};
use heddle_pack::contract::{
    self, Audience, Changes, Envelope, FanoutMode, Moment, Observation, RateLimitOutcome, RateLimitRequest,
    RoutingDecision, Verdict,
};
use heddle_pack::{Manifest, Packed};
use heddle_policy::{
    Component, Fault, Loader, MessageView, PluginRef, Policies, PolicyConfig, PolicyDeps, PolicyLimits, RoutingRights,
    StartError,
};
use heddle_store::{AuditEntry, Catalog, CatalogBounds, CatalogGeneration, CatalogPlugin, CatalogRemoved, StoreError};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// What a component does is in its configuration: `do`, and `n` for variants of it.
pub(crate) struct Scripted {
    does: String,
    calls: AtomicU64,
}

impl Scripted {
    pub(crate) fn passes() -> Self {
        Self { does: "pass".to_owned(), calls: AtomicU64::new(0) }
    }

    fn fault<T>(&self) -> Option<Result<T, Fault>> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        (self.does == "trap").then(|| Err(Fault { kind: "trap", text: "unreachable".to_owned() }))
    }

    fn refusal(&self) -> contract::Refusal {
        contract::Refusal { reason: "no".to_owned(), retry_after: (self.does != "never").then_some(5_000) }
    }
}

impl Component for Scripted {
    fn rate_limit(&self, _: Moment, request: &RateLimitRequest, state: &[u8]) -> Result<RateLimitOutcome, Fault> {
        if let Some(fault) = self.fault() {
            return fault;
        }
        let used = state.first().copied().unwrap_or(0);
        let denied = match self.does.as_str() {
            "deny" | "never" => true,
            "deny-ip" => request.scope == contract::Scope::Ip,
            "three" => used >= 3,
            _ => false,
        };
        let verdict = if denied { Verdict::Deny(self.refusal()) } else { Verdict::Allow };
        let state = if self.does == "fat" { vec![0; 257] } else { vec![used + 1] };
        Ok(RateLimitOutcome { verdict, state, keep: 60_000 })
    }

    fn migrate(&self, _: u32, _: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        Ok(None)
    }

    fn route(&self, _: Moment, envelope: &Envelope, message: &MessageView<'_>) -> Result<RoutingDecision, Fault> {
        if let Some(fault) = self.fault() {
            return fault;
        }
        // Of some senders it knows nothing.
        if self.does == "moody" && envelope.sender.starts_with('u') {
            return Err(Fault { kind: "trap", text: "unreachable".to_owned() });
        }
        let group = |id: &str| Changes { to: Some(contract::Conversation::Group(id.to_owned())), ..Changes::default() };
        let only = |who: &[&str]| Some(who.iter().map(|who| (*who).to_owned()).collect());
        Ok(match self.does.as_str() {
            "deny" => RoutingDecision::Reject(self.refusal()),
            "discard" => RoutingDecision::Discard,
            "redirect" => RoutingDecision::AcceptWith(group("mine")),
            "astray" => RoutingDecision::AcceptWith(group("foreign")),
            "outsider" => RoutingDecision::AcceptWith(Changes { only: only(&["mallory"]), ..Changes::default() }),
            "narrow" => RoutingDecision::AcceptWith(Changes { only: only(&["alice", "bob"]), ..Changes::default() }),
            "widen" => {
                RoutingDecision::AcceptWith(Changes { only: only(&["alice", "bob", "carol"]), ..Changes::default() })
            }
            "shout" => {
                let text = message.text.map(str::to_uppercase);
                let tags = vec![("size".to_owned(), envelope.size.to_string())];
                RoutingDecision::AcceptWith(Changes { text, tags, ..Changes::default() })
            }
            _ => RoutingDecision::Accept,
        })
    }

    fn plan(&self, _: Moment, _: &Audience, _: &MessageView<'_>) -> Result<FanoutMode, Fault> {
        self.fault().unwrap_or(Ok(if self.does == "pull" { FanoutMode::Pull } else { FanoutMode::Push }))
    }

    fn sort(&self, _: Moment, _: &Audience, _: &MessageView<'_>, facts: &[u8]) -> Result<Vec<u8>, Fault> {
        if let Some(fault) = self.fault() {
            return fault;
        }
        Ok(match self.does.as_str() {
            "odd" => (0..facts.len()).map(|at| if at % 2 == 1 { 2 } else { 0 }).collect(),
            "quiet" => vec![1; facts.len()],
            "few" => vec![0; facts.len() / 2],
            "codes" => vec![3; facts.len()],
            _ => vec![0; facts.len()],
        })
    }

    fn observe(&self, _: Moment, asked: &Observation) -> Result<contract::Sighting, Fault> {
        if let Some(fault) = self.fault() {
            return fault;
        }
        let status = if self.does == "offline" { contract::Status::Offline } else { contract::Status::Online };
        let recheck = if self.does == "hasty" { 999 } else { 0 };
        Ok(contract::Sighting { status, announce: status != asked.previous, recheck })
    }

    fn reveal(&self, _: Moment, _: &str, relations: &[u8]) -> Result<Vec<u8>, Fault> {
        let code = match self.does.as_str() {
            "offline" => 1,
            "codes" => 9,
            _ => 2,
        };
        self.fault().unwrap_or(Ok(vec![code; relations.len()]))
    }
}

/// Loads by the configuration; what is a `bomb` is compiled for as long as the catalog's gate is shut.
pub(crate) struct Scripts(Arc<Rows>);

#[async_trait]
impl Loader for Scripts {
    async fn load(&self, _: &Packed, _: Hook, config: &str) -> Result<Arc<dyn Component>, String> {
        let config: serde_json::Value = serde_json::from_str(config).map_err(|error| error.to_string())?;
        let does = config["do"].as_str().unwrap_or("pass").to_owned();
        if does == "bomb" {
            self.0.gate.notified().await;
        }
        if does == "refuse" {
            return Err("the plugin refused its configuration: no".to_owned());
        }
        Ok(Arc::new(Scripted { does, calls: AtomicU64::new(0) }))
    }

    async fn prove(&self, _: &Packed) -> Result<(), Vec<String>> {
        Ok(())
    }
}

#[derive(Default)]
pub(crate) struct Rows {
    pub(crate) plugins: Mutex<HashMap<Digest, CatalogPlugin>>,
    generations: Mutex<Vec<CatalogGeneration>>,
    pub(crate) audit: Mutex<Vec<AuditEntry>>,
    /// It answers nothing about generations.
    pub(crate) down: AtomicBool,
    /// Opens for one bomb.
    pub(crate) gate: Notify,
}

impl Rows {
    fn answers(&self) -> Result<(), StoreError> {
        match self.down.load(Ordering::SeqCst) {
            true => Err(StoreError::Unavailable { operation: "anything", reason: "a test".to_owned() }),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl Catalog for Rows {
    async fn add_plugin(&self, plugin: CatalogPlugin) -> Result<(), StoreError> {
        self.plugins.lock().entry(plugin.digest).or_insert(plugin);
        Ok(())
    }

    async fn plugin(&self, digest: Digest) -> Result<Option<CatalogPlugin>, StoreError> {
        Ok(self.plugins.lock().get(&digest).cloned())
    }

    async fn plugin_versions(&self, name: &str) -> Result<Vec<String>, StoreError> {
        let rows = self.plugins.lock();
        Ok(rows.values().filter(|row| *row.name == *name).map(|row| row.version.to_string()).collect())
    }

    async fn newest_generation(&self) -> Result<Option<CatalogGeneration>, StoreError> {
        self.answers()?;
        Ok(self.generations.lock().last().cloned())
    }

    async fn generation(&self, number: u64) -> Result<Option<CatalogGeneration>, StoreError> {
        self.answers()?;
        Ok(self.generations.lock().iter().find(|row| row.number == number).cloned())
    }

    async fn add_generation(&self, row: CatalogGeneration, audit: AuditEntry) -> Result<bool, StoreError> {
        self.answers()?;
        let mut generations = self.generations.lock();
        if generations.last().is_some_and(|last| last.number >= row.number) {
            return Ok(false);
        }
        generations.push(row);
        self.audit.lock().push(audit);
        Ok(true)
    }

    async fn add_audit(&self, audit: AuditEntry) -> Result<(), StoreError> {
        self.audit.lock().push(audit);
        Ok(())
    }

    async fn audit(&self, limit: u32) -> Result<Vec<AuditEntry>, StoreError> {
        let rows = self.audit.lock();
        Ok(rows.iter().rev().take(usize::try_from(limit).unwrap_or(usize::MAX)).cloned().collect())
    }

    async fn keep_within(&self, _: CatalogBounds) -> Result<CatalogRemoved, StoreError> {
        Ok(CatalogRemoved::default())
    }
}

/// A plugin file with an empty component: what it does is in its configuration.
pub(crate) fn plugin(name: &str, hook: Hook, on_failure: &str, does: &str, body: bool) -> PluginRef {
    let scopes = if hook == Hook::RateLimit { "scopes = [\"user\", \"ip\"]\n" } else { "" };
    let toml = format!(
        "name = \"{name}\"\nversion = \"1.0.0\"\n[hooks.{hook}]\n{scopes}on_failure = \"{on_failure}\"\n\
         [reads]\nbody = {body}\n[config]\ndo = \"{does}\"\n"
    );
    let manifest = Manifest::parse(&toml, "plugin.toml").unwrap();
    let bytes = heddle_pack::pack(b"\0asm\x0d\0\x01\0", &manifest, &[]).unwrap();
    PluginRef::file(format!("{name}.wasm"), bytes)
}

pub(crate) async fn start_with(
    catalog: &Arc<Rows>,
    chains: Vec<(Hook, Vec<PluginRef>)>,
    builtin: &str,
) -> Result<Policies, StartError> {
    let leak = |hook: Hook| -> &'static [u8] {
        Vec::leak(plugin(&format!("builtin-{hook}"), hook, "builtin", builtin, false).bytes.to_vec())
    };
    let deps = PolicyDeps {
        catalog: catalog.clone(),
        clock: Arc::new(ManualClock::at(1)),
        builtins: Hook::ALL.into_iter().map(|hook| (hook, leak(hook))).collect(),
        loader: Arc::new(Scripts(catalog.clone())),
        cluster: None,
        shared: None,
    };
    let limits = PolicyLimits { generations_max: 2, draining_max: 3, ..PolicyLimits::default() };
    Policies::start(PolicyConfig { chains, limits, ..PolicyConfig::default() }, deps).await
}

pub(crate) fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

pub(crate) fn group(id: &str) -> Conversation {
    Conversation::Group(GroupId::new(id).unwrap())
}

pub(crate) fn id() -> MessageId {
    MessageId::of(&user("alice"), &group("home"), &ClientId::new("1").unwrap())
}

pub(crate) const BODY: MessageView<'static> =
    MessageView { kind: "message", text: Some("hello"), data: None, tags: &[], lamport: 1, sender_since: 0 };

/// Alice may send to `home` and `mine`; bob and carol are in `home`, bob in `mine`.
pub(crate) struct Rights;

impl RoutingRights for Rights {
    fn may_send_to(&self, to: &Conversation) -> bool {
        *to == group("home") || *to == group("mine")
    }

    fn is_member(&self, conversation: &Conversation, user: &UserId) -> bool {
        match user.as_str() {
            "alice" | "bob" => self.may_send_to(conversation),
            "carol" => *conversation == group("home"),
            _ => false,
        }
    }
}
