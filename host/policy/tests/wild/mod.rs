//! Components that answer anything: legal, illegal, at the border; from a seed, and written down for the oracle.
#![allow(dead_code, reason = "each test file uses its part")]

use std::sync::Arc;

use async_trait::async_trait;
use heddle_model::{Clock, Decision, Fallback, Hook, ManualClock};
use heddle_pack::contract::{
    Audience, Changes, Conversation, Envelope, FanoutMode, Moment, Observation, RateLimitOutcome, RateLimitRequest,
    Refusal, RoutingDecision, Sighting, Status, Verdict,
};
use heddle_pack::{Manifest, Packed};
use heddle_policy::{Component, Fault, Generation, Loader, MessageView, PluginRef, Policies, PolicyConfig, PolicyDeps};
use heddle_store::{SqliteStore, StoreConfig};
use parking_lot::Mutex;

/// What a wild component said, and to what.
#[derive(Debug, Clone)]
pub(crate) enum Said {
    RateLimit { key: String, state: Vec<u8>, outcome: RateLimitOutcome },
    Routing(RoutingDecision),
    Plan(FanoutMode),
    Column(Vec<u8>),
    Observe(Sighting),
}

/// SplitMix64 (Steele, Lea, Flood 2014), and what was said since the last look.
pub(crate) struct Hand {
    clock: Arc<ManualClock>,
    state: Mutex<u64>,
    said: Mutex<Vec<(String, Said)>>,
}

impl Hand {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        let (state, said) = (Mutex::new(seed), Mutex::new(Vec::new()));
        Arc::new(Self { clock: Arc::new(ManualClock::at(1)), state, said })
    }

    pub(crate) fn below(&self, bound: usize) -> usize {
        let mut state = self.state.lock();
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }

    pub(crate) fn pick<T: Clone>(&self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    fn one_in(&self, bound: usize) -> bool {
        self.below(bound) == 0
    }

    /// In the order in which it was said; each plugin by its name. A minute later: a plugin that failed is asked about the same again.
    pub(crate) fn said(&self) -> Vec<(String, Said)> {
        self.clock.advance(60_000);
        std::mem::take(&mut *self.said.lock())
    }

    fn refusal(&self) -> Refusal {
        let reason = "r".repeat(self.pick(&[0, 10, 255, 256, 257, 5_000]));
        Refusal { reason, retry_after: self.pick(&[None, Some(0), Some(1_000), Some(u64::MAX)]) }
    }

    fn changes(&self) -> Changes {
        let users = ["alice", "bob", "carol", "mallory", "nobody", "", "a\nb"];
        let only = |_| {
            let count = self.pick(&[0, 1, 2, 3, 6]);
            let mut only: Vec<String> = (0..count).map(|_| self.pick(&users[..3 + self.below(5)]).to_owned()).collect();
            if self.one_in(500) {
                only = vec!["alice".to_owned(); self.pick(&[10_000, 10_001])];
            }
            only
        };
        let direct = |name: &str| Conversation::Direct(name.to_owned());
        let group = |id: &str| Conversation::Group(id.to_owned());
        let targets = [
            group("home"),
            group("mine"),
            group("lobby"),
            group("foreign"),
            direct("bob"),
            direct("mallory"),
            group(""),
        ];
        let text = |_| "t".repeat(self.pick(&[0, 5, 5, 5, 65_435, 65_436, 65_437, 70_000]));
        let tags = self.pick(&[0, 0, 1, 2, 16, 17]);
        Changes {
            to: self.one_in(2).then(|| self.pick(&targets)),
            only: self.one_in(2).then_some(()).map(only),
            text: self.one_in(3).then_some(()).map(text),
            tags: (0..tags).map(|_| (self.tag(&[0, 64, 65]), self.tag(&[0, 256, 257]))).collect(),
        }
    }

    /// A short text, now and then as long as one of these.
    fn tag(&self, lengths: &[usize]) -> String {
        if self.one_in(25) { "n".repeat(self.pick(lengths)) } else { format!("tag{}", self.below(40)) }
    }

    fn column(&self, wanted: usize) -> Vec<u8> {
        let length = if self.one_in(6) { self.pick(&[0, wanted.saturating_sub(1), wanted + 1, 5_000]) } else { wanted };
        let mut codes: Vec<u8> = (0..length).map(|_| self.below(3) as u8).collect();
        if self.one_in(6) && !codes.is_empty() {
            let at = self.below(codes.len());
            codes[at] = self.pick(&[3, 4, 255]);
        }
        codes
    }
}

/// Answers anything, or, as the built-in one, what harms nobody.
struct Wild {
    name: String,
    hand: Arc<Hand>,
}

impl Wild {
    fn tame(&self) -> bool {
        self.name.starts_with("builtin")
    }

    fn say<T>(&self, answer: T, said: impl FnOnce(&T) -> Said) -> Result<T, Fault> {
        if !self.tame() {
            self.hand.said.lock().push((self.name.clone(), said(&answer)));
        }
        Ok(answer)
    }
}

impl Component for Wild {
    fn rate_limit(&self, _: Moment, request: &RateLimitRequest, state: &[u8]) -> Result<RateLimitOutcome, Fault> {
        let hand = &self.hand;
        let mut outcome = RateLimitOutcome { verdict: Verdict::Allow, state: Vec::new(), keep: 0 };
        if !self.tame() {
            outcome.state = vec![hand.below(256) as u8; hand.pick(&[0, 1, 9, 255, 256, 256, 257, 4_000])];
            outcome.keep = hand.pick(&[0, 60_000, 86_400_000, 86_400_001, u64::MAX]);
            if hand.one_in(4) {
                outcome.verdict = Verdict::Deny(hand.refusal());
            }
        }
        let key = format!("{} {}", request.scope.as_str(), request.key);
        self.say(outcome, |outcome| Said::RateLimit { key, state: state.to_vec(), outcome: outcome.clone() })
    }

    fn migrate(&self, _: u32, _: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        Ok(None)
    }

    fn route(&self, _: Moment, _: &Envelope, _: &MessageView<'_>) -> Result<RoutingDecision, Fault> {
        let decision = match self.hand.below(20) {
            _ if self.tame() => RoutingDecision::Accept,
            0 => RoutingDecision::Accept,
            1 => RoutingDecision::Discard,
            2 => RoutingDecision::Reject(self.hand.refusal()),
            _ => RoutingDecision::AcceptWith(self.hand.changes()),
        };
        self.say(decision, |decision| Said::Routing(decision.clone()))
    }

    fn plan(&self, _: Moment, _: &Audience, _: &MessageView<'_>) -> Result<FanoutMode, Fault> {
        let pull = !self.tame() && self.hand.one_in(2);
        self.say(if pull { FanoutMode::Pull } else { FanoutMode::Push }, |mode| Said::Plan(*mode))
    }

    fn sort(&self, _: Moment, _: &Audience, _: &MessageView<'_>, facts: &[u8]) -> Result<Vec<u8>, Fault> {
        let codes = if self.tame() { vec![0; facts.len()] } else { self.hand.column(facts.len()) };
        self.say(codes, |codes| Said::Column(codes.clone()))
    }

    fn observe(&self, _: Moment, _: &Observation) -> Result<Sighting, Fault> {
        let status =
            if self.tame() { Status::Online } else { self.hand.pick(&[Status::Online, Status::Away, Status::Offline]) };
        let recheck = if self.tame() { 0 } else { self.hand.pick(&[0, 1, 999, 1_000, u64::MAX]) };
        let announce = !self.tame() && self.hand.one_in(2);
        self.say(Sighting { status, announce, recheck }, |sighting| Said::Observe(*sighting))
    }

    fn reveal(&self, _: Moment, _: &str, relations: &[u8]) -> Result<Vec<u8>, Fault> {
        let codes = if self.tame() { vec![2; relations.len()] } else { self.hand.column(relations.len()) };
        self.say(codes, |codes| Said::Column(codes.clone()))
    }
}

struct Wilds(Arc<Hand>);

#[async_trait]
impl Loader for Wilds {
    async fn load(&self, plugin: &Packed, _: Hook, _: &str) -> Result<Arc<dyn Component>, String> {
        Ok(Arc::new(Wild { name: plugin.manifest.name.clone(), hand: Arc::clone(&self.0) }))
    }

    async fn prove(&self, _: &Packed) -> Result<(), Vec<String>> {
        Ok(())
    }
}

fn plugin(name: &str, hook: Hook, lines: &str, body: bool) -> PluginRef {
    let text = format!(
        "name = \"{name}\"\nversion = \"1.0.0\"\n[hooks.{hook}]\non_failure = \"builtin\"\n{lines}\n[reads]\nbody = {body}\n"
    );
    let manifest = Manifest::parse(&text, "plugin.toml").expect("manifest");
    let bytes = heddle_pack::pack(b"\0asm\x0d\0\x01\0", &manifest, &[]).expect("pack");
    PluginRef::file(name, bytes)
}

/// Two wild plugins at a hook: `first` (may read the body, may redirect to the group `lobby`) and `second` (may do neither).
pub(crate) async fn generation(hook: Hook, hand: &Arc<Hand>) -> Arc<Generation> {
    let clock: Arc<dyn Clock> = Arc::clone(&hand.clock) as Arc<dyn Clock>;
    let dir = tempfile::tempdir().expect("dir");
    let store = SqliteStore::open(StoreConfig::at(dir.path().join("store.sqlite")), Arc::clone(&clock)).await;
    let (first, second) = match hook {
        Hook::Routing => ("redirect_to = [\"group:lobby\"]", ""),
        Hook::RateLimit => ("scopes = [\"user\", \"ip\"]", "scopes = [\"user\"]"),
        _ => ("", ""),
    };
    let chain = vec![plugin("first", hook, first, true), plugin("second", hook, second, false)];
    let leaked =
        |hook: Hook| -> &'static [u8] { Vec::leak(plugin(&format!("builtin-{hook}"), hook, "", false).bytes.to_vec()) };
    let builtins = Hook::ALL.into_iter().map(|hook| (hook, leaked(hook))).collect();
    let catalog = store.expect("a store").store().catalog;
    let deps =
        PolicyDeps { catalog, clock, builtins, loader: Arc::new(Wilds(Arc::clone(hand))), cluster: None, shared: None };
    let config = PolicyConfig { chains: vec![(hook, chain)], ..PolicyConfig::default() };
    let generation = Policies::start(config, deps).await.expect("policies").current();
    // What was asked to warm them.
    hand.said();
    generation
}

/// The decision is the plugin's own exactly if it is legal.
pub(crate) fn stamped(decision: &Decision, plugin: &str, stands: bool, what: impl Fn() -> String) {
    assert_eq!(&*decision.plugin, plugin, "{}", what());
    let wanted = if stands { None } else { Some(Fallback::Builtin) };
    assert_eq!(decision.fallback, wanted, "{}: legal is {stands}", what());
}

/// As long as it should be, of codes that exist.
pub(crate) fn legal_column(codes: &[u8], wanted: usize) -> bool {
    codes.len() == wanted && codes.iter().all(|code| *code < 3)
}

/// A reason that a client can be shown.
pub(crate) fn legal(refusal: &Refusal) -> bool {
    refusal.reason.len() <= 256
}
