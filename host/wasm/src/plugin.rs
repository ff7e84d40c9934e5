use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use heddle_pack::contract::{
    Audience, Envelope, FanoutMode, Moment, Observation, RateLimitOutcome, RateLimitRequest, RoutingDecision, Sighting,
};
use heddle_pack::{Case, Hook, Manifest};
use parking_lot::Mutex;

use crate::engine::Inner;
use crate::fault::Fault;
use crate::instance::Instance;
use crate::load::Blueprint;
use crate::message::MessageView;

/// A loaded and configured component, with its warm instances. Every call takes one, or makes one; what comes back unharmed is kept.
///
/// Calls block the thread for at most the plugin's deadline. They may come from any thread, many at a time.
pub struct Plugin {
    pub(crate) inner: Arc<Inner>,
    pub(crate) blueprint: Arc<Blueprint>,
    pub(crate) manifest: Manifest,
    pub(crate) cases: Vec<Case>,
    pub(crate) digest: String,
    pub(crate) config: String,
    pub(crate) warm: Mutex<Vec<Instance>>,
    /// Warm instances are kept, as many as the engine's limits say.
    pub(crate) keeps_warm: bool,
    /// The most memory that any instance had when it was given back.
    pub(crate) memory_bytes: AtomicUsize,
}

impl Plugin {
    /// As packed.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// As packed.
    pub fn cases(&self) -> &[Case] {
        &self.cases
    }

    /// SHA-256 of the plugin's file, as lowercase hex.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The JSON that `configure` got.
    pub fn config(&self) -> &str {
        &self.config
    }

    /// Is this hook in its manifest (and so exported)?
    pub fn has(&self, hook: Hook) -> bool {
        self.manifest.hooks.contains_key(&hook)
    }

    /// Does it export `state-migration`?
    pub fn migrates_state(&self) -> bool {
        self.blueprint.migrates_state()
    }

    /// Makes warm instances until `count` are there (at most the engine's `warm_max`).
    pub fn warm_up(&self, count: usize) -> Result<(), Fault> {
        let warm_max = if self.keeps_warm { self.inner.limits.load().warm_max } else { 0 };
        let count = count.min(warm_max);
        while self.warm.lock().len() < count {
            let instance = self.fresh()?;
            self.keep(instance);
        }
        Ok(())
    }

    /// The same plugin, each call of which runs on an instance of its own: what a pure policy answers there, it answers anywhere.
    #[must_use]
    pub fn afresh(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            blueprint: Arc::clone(&self.blueprint),
            manifest: self.manifest.clone(),
            cases: Vec::new(),
            digest: self.digest.clone(),
            config: self.config.clone(),
            warm: Mutex::default(),
            keeps_warm: false,
            memory_bytes: AtomicUsize::new(0),
        }
    }

    /// The most linear memory, in bytes, that one of its instances had after a call.
    pub fn memory_bytes_peak(&self) -> usize {
        self.memory_bytes.load(Ordering::Relaxed)
    }

    /// May this client do this now? `state`: the bytes of the last allowed call for this scope and key.
    pub fn rate_limit(&self, at: &Moment, request: &RateLimitRequest, state: &[u8]) -> Result<RateLimitOutcome, Fault> {
        self.run(|instance| instance.rate_limit(at, request, state))
    }

    /// Bytes of an older `state_version` into this one's; none: start afresh. None too if the plugin does not migrate.
    pub fn migrate_state(&self, from_version: u32, state: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        if !self.migrates_state() {
            return Ok(None);
        }
        self.run(|instance| instance.migrate_state(from_version, state))
    }

    /// What becomes of this message?
    pub fn routing(
        &self,
        at: &Moment,
        envelope: &Envelope,
        message: &dyn MessageView,
    ) -> Result<RoutingDecision, Fault> {
        self.run(|instance| instance.routing(at, envelope, message))
    }

    /// How does this group message travel?
    pub fn fanout_plan(
        &self,
        at: &Moment,
        audience: &Audience,
        message: &dyn MessageView,
    ) -> Result<FanoutMode, Fault> {
        self.run(|instance| instance.fanout_plan(at, audience, message))
    }

    /// How does each of these members get it? A code of [`heddle_pack::contract::Delivery`] for each byte of `facts`.
    pub fn fanout_sort(
        &self,
        at: &Moment,
        audience: &Audience,
        facts: &[u8],
        message: &dyn MessageView,
    ) -> Result<Vec<u8>, Fault> {
        self.run(|instance| instance.fanout_sort(at, audience, facts, message))
    }

    /// What is this user's status?
    pub fn presence_observe(&self, at: &Moment, observation: &Observation) -> Result<Sighting, Fault> {
        self.run(|instance| instance.presence_observe(at, observation))
    }

    /// What may each of these viewers see? A code of [`heddle_pack::contract::Visibility`] for each byte of `relations`.
    pub fn presence_reveal(&self, at: &Moment, subject: &str, relations: &[u8]) -> Result<Vec<u8>, Fault> {
        self.run(|instance| instance.presence_reveal(at, subject, relations))
    }

    fn run<R>(&self, call: impl FnOnce(&mut Instance) -> Result<R, Fault>) -> Result<R, Fault> {
        let warm = self.warm.lock().pop();
        let mut instance = match warm {
            Some(instance) => instance,
            None => self.fresh()?,
        };
        let answer = call(&mut instance);
        self.keep(instance);
        answer
    }

    /// A new instance, configured.
    pub(crate) fn fresh(&self) -> Result<Instance, Fault> {
        self.blueprint.instance(&self.inner, &self.config).map_err(|failure| failure.into_fault())
    }

    fn keep(&self, instance: Instance) {
        let limits = self.inner.limits.load();
        let host = instance.store.data();
        self.memory_bytes.fetch_max(host.memory_bytes(), Ordering::Relaxed);
        // Linear memory never shrinks: one that has grown to three quarters is renewed.
        let grown = host.memory_bytes() > host.memory_max() / 4 * 3;
        if instance.spent || grown || instance.calls >= limits.calls_per_instance_max {
            return;
        }
        let mut warm = self.warm.lock();
        if self.keeps_warm && warm.len() < limits.warm_max {
            warm.push(instance);
        }
    }
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin")
            .field("name", &self.manifest.name)
            .field("version", &self.manifest.version)
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}
