use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use arc_swap::ArcSwap;
use heddle_model::{Hook, Millis, UserId};
use heddle_store::{AuditEntry, CatalogGeneration, StoreError};
use lru::LruCache;
use parking_lot::Mutex;

use crate::change::{audit, grown};
use crate::content::{Content, Entry, Previous, digest};
use crate::load::{self, Plan};
use crate::member::Member;
use crate::state::States;
use crate::{Generation, PolicyConfig, PolicyDeps, PolicyError, PolicyLimits, StartError, measure};

/// How often the next number may be somebody else's.
const NUMBER_TRIES: usize = 3;

/// The handle: cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Policies {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) current: ArcSwap<Generation>,
    pub(crate) older: Mutex<LruCache<u64, Arc<Generation>>>,
    /// Held while the next generation is made.
    pub(crate) changing: tokio::sync::Mutex<()>,
    /// Held while an older generation is loaded: two workers that meet it do not load it twice.
    loading: tokio::sync::Mutex<()>,
    pub(crate) states: Arc<States>,
    pub(crate) limits: PolicyLimits,
    pub(crate) trust: heddle_pack::TrustList,
    pub(crate) deps: PolicyDeps,
}

/// How much it holds, for gauges.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PolicyFigures {
    /// Keys of rate limits.
    pub states: usize,
    /// Bytes of those keys and their states.
    pub state_bytes: usize,
    /// Generations loaded, the current one included.
    pub generations: usize,
}

impl Policies {
    /// Checks, loads and warms the policy set, and records it in the catalog: under the newest number if its content is the same, else under the next.
    /// While the configuration stays what it was, that is the newest set of the catalog, with what was changed while running.
    ///
    /// # Errors
    /// All that is wrong, at once; or the catalog fails.
    pub async fn start(config: PolicyConfig, deps: PolicyDeps) -> Result<Self, StartError> {
        let refused = |problems| StartError::Refused { problems };
        let states = Arc::new(States::new(config.limits.states_max));
        for _ in 0..NUMBER_TRIES {
            let newest = deps.catalog.newest_generation().await?;
            let grown = grown(&config, newest.as_ref(), &deps).await;
            let plan = Plan::check(grown.as_ref().unwrap_or(&config), &deps.builtins).map_err(refused)?;
            let before = newest.as_ref().and_then(|newest| Content::parse(&newest.json));
            let content = plan.content(before.as_ref(), &load::fingerprint(&config), &config.limits);
            let (_, sum) = content.canonical();
            let same = newest.as_ref().is_some_and(|newest| newest.content == sum);
            let number = newest.as_ref().map_or(0, |newest| newest.number) + u64::from(!same);
            let made = if same {
                Some(load_all(&plan, &content, number, &states, &config.limits, &deps).await?)
            } else {
                let at = deps.clock.now();
                let said = ("heddle", "start", "the configuration, or this build, names another policy set");
                let audit = audit(at, said, newest.as_ref(), number, &content);
                establish(&plan, &content, number, audit, &states, &config.limits, &deps).await?
            };
            let Some(mut generation) = made else { continue };
            generation.micros = measure::medians(&generation);
            let older = NonZeroUsize::new(config.limits.generations_max).unwrap_or(NonZeroUsize::MIN);
            return Ok(Self {
                shared: Arc::new(Shared {
                    current: ArcSwap::from_pointee(generation),
                    older: Mutex::new(LruCache::new(older)),
                    changing: tokio::sync::Mutex::default(),
                    loading: tokio::sync::Mutex::default(),
                    states,
                    limits: config.limits,
                    trust: config.trust,
                    deps,
                }),
            });
        }
        Err(refused(vec![format!("the next generation number was taken {NUMBER_TRIES} times by others, start again")]))
    }

    /// The generation that decides now: one atomic load.
    #[must_use]
    pub fn current(&self) -> Arc<Generation> {
        self.shared.current.load_full()
    }

    /// The generation of this number, loaded from the catalog if it is an older one. If its content is gone, the built-in plan stands in, and says so in its decisions.
    ///
    /// # Errors
    /// The catalog does not answer: try again.
    pub async fn generation(&self, number: u64) -> Result<Arc<Generation>, PolicyError> {
        if let Some(held) = self.held(number) {
            return Ok(held);
        }
        let _loading = self.shared.loading.lock().await;
        if let Some(held) = self.held(number) {
            return Ok(held);
        }
        let loaded = self.load(number).await.map_err(|source| PolicyError::Catalog { number, source })?;
        let loaded = Arc::new(loaded);
        self.shared.older.lock().put(number, Arc::clone(&loaded));
        Ok(loaded)
    }

    /// How much it holds.
    #[must_use]
    pub fn figures(&self) -> PolicyFigures {
        let (states, state_bytes) = self.shared.states.figures();
        PolicyFigures { states, state_bytes, generations: 1 + self.shared.older.lock().len() }
    }

    fn held(&self, number: u64) -> Option<Arc<Generation>> {
        let current = self.current();
        if current.number() == number {
            return Some(current);
        }
        self.shared.older.lock().get(&number).cloned()
    }

    async fn load(&self, number: u64) -> Result<Generation, StoreError> {
        let shared = &*self.shared;
        let content = shared.deps.catalog.generation(number).await?.and_then(|row| Content::parse(&row.json));
        let mut chains = BTreeMap::new();
        for hook in Hook::ALL {
            let mut members = Vec::new();
            match content.as_ref().and_then(|content| content.chains.get(&hook)) {
                None => members.push(load::gone(hook, None, number)),
                Some(entries) => {
                    for entry in entries {
                        members.push(from_entry(&shared.deps, &shared.limits, hook, entry, number).await?);
                    }
                }
            }
            chains.insert(hook, members);
        }
        let builtins = self.current().builtins.clone();
        let (states, clock) = (Arc::clone(&shared.states), Arc::clone(&shared.deps.clock));
        Ok(load::assemble(number, chains, builtins, states, clock))
    }
}

impl heddle_presence::PresencePolicy for Policies {
    fn observe(&self, observation: &heddle_presence::Observation<'_>) -> heddle_presence::Sighting {
        self.current().observe(observation)
    }

    fn reveal(&self, now: Millis, subject: &UserId, relations: &[u8]) -> Vec<heddle_presence::Visibility> {
        self.current().reveal(now, subject, relations)
    }
}

/// Loads a set and records it under `number`; none if somebody else took that number.
pub(crate) async fn establish(
    plan: &Plan,
    content: &Content,
    number: u64,
    audit: AuditEntry,
    states: &Arc<States>,
    limits: &PolicyLimits,
    deps: &PolicyDeps,
) -> Result<Option<Generation>, StartError> {
    let generation = load_all(plan, content, number, states, limits, deps).await?;
    let (at, (json, sum)) = (audit.at, content.canonical());
    for file in plan.files(at) {
        deps.catalog.add_plugin(file).await?;
    }
    let row = CatalogGeneration { number, content: sum, json, at, why: audit.why.clone() };
    Ok(deps.catalog.add_generation(row, audit).await?.then_some(generation))
}

/// Loads every plugin of a new set; everything that is wrong at once.
async fn load_all(
    plan: &Plan,
    content: &Content,
    number: u64,
    states: &Arc<States>,
    limits: &PolicyLimits,
    deps: &PolicyDeps,
) -> Result<Generation, StartError> {
    let mut problems = Vec::new();
    let (mut chains, mut builtins) = (BTreeMap::new(), Vec::new());
    for (hook, plugin) in &plan.builtins {
        match load::member(&*deps.loader, *hook, plugin, number, None).await {
            Ok(member) => builtins.push(member),
            Err(problem) => problems.push(problem),
        }
    }
    let builtins: Result<[Arc<Member>; 4], _> = builtins.try_into();
    for (hook, plugins) in &plan.chains {
        let mut members = Vec::new();
        for (at, plugin) in plugins.iter().enumerate() {
            // The built-in in its own chain is the built-in itself.
            let builtin = builtins.as_ref().ok().and_then(|all| all.iter().find(|builtin| builtin.hook == *hook));
            if let Some(builtin) = builtin.filter(|builtin| builtin.digest == plugin.digest)
                && plan.builtins.get(hook).is_some_and(|builtin| builtin.config == plugin.config)
            {
                members.push(Arc::clone(builtin));
                continue;
            }
            let entry = content.chains.get(hook).and_then(|entries| entries.get(at));
            let previous = match entry.and_then(load::previous_entry) {
                Some((_, previous)) => previous_member(deps, limits, *hook, previous, number).await?,
                None => None,
            };
            match load::member(&*deps.loader, *hook, plugin, number, previous).await {
                Ok(member) => members.push(member),
                Err(problem) => problems.push(problem),
            }
        }
        chains.insert(*hook, members);
    }
    match builtins {
        Ok(builtins) if problems.is_empty() => {
            Ok(load::assemble(number, chains, builtins, Arc::clone(states), Arc::clone(&deps.clock)))
        }
        _ => Err(StartError::Refused { problems }),
    }
}

/// The version before; one that cannot be had or loaded any more is none, and the built-in follows.
async fn previous_member(
    deps: &PolicyDeps,
    limits: &PolicyLimits,
    hook: Hook,
    previous: &Previous,
    number: u64,
) -> Result<Option<Arc<Member>>, StoreError> {
    let Some(digest) = digest(&previous.digest) else { return Ok(None) };
    let Some(file) = deps.catalog.plugin(digest).await? else { return Ok(None) };
    let Ok(checked) = load::check(hook, &load::from_catalog(file, &previous.config), limits) else { return Ok(None) };
    Ok(load::member(&*deps.loader, hook, &checked, number, None).await.ok())
}

/// A plugin of an older generation; one that cannot be had or loaded any more is replaced by the built-in.
async fn from_entry(
    deps: &PolicyDeps,
    limits: &PolicyLimits,
    hook: Hook,
    entry: &Entry,
    number: u64,
) -> Result<Arc<Member>, StoreError> {
    let gone = || load::gone(hook, Some(entry), number);
    let Some(digest) = digest(&entry.digest) else { return Ok(gone()) };
    let Some(file) = deps.catalog.plugin(digest).await? else { return Ok(gone()) };
    let Ok(checked) = load::check(hook, &load::from_catalog(file, &entry.config), limits) else { return Ok(gone()) };
    let previous = match &entry.previous {
        Some(previous) => previous_member(deps, limits, hook, previous, number).await?,
        None => None,
    };
    match load::member(&*deps.loader, hook, &checked, number, previous).await {
        Ok(member) => Ok(member),
        Err(problem) => {
            tracing::error!(number, problem, "a policy of an older generation cannot be loaded, the built-in decides");
            Ok(gone())
        }
    }
}
