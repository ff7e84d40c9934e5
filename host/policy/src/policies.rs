use std::num::NonZeroUsize;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use heddle_model::{Digest, Hook, Millis, UserId};
use heddle_store::StoreError;
use lru::LruCache;
use parking_lot::Mutex;
use tokio::sync::mpsc::channel;

use crate::change::{audit, grown};
use crate::content::Content;
use crate::floor::Floor;
use crate::guard::guard;
use crate::load::{self, Plan};
use crate::meter::exposition;
use crate::state::States;
use crate::watch::Watch;
use crate::{Generation, PolicyConfig, PolicyDeps, PolicyError, Recorded, StartError, measure};

/// Alarms of plugins that nobody has looked at yet.
const ALARMS_MAX: usize = 16;
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
    pub(crate) floor: Floor,
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
        let (alarms, heard) = channel(ALARMS_MAX);
        let watched = &config.watch;
        let watch = Watch::start(watched.repeat_one_in, watched.record.clone(), alarms, Arc::clone(&deps.clock));
        let watch = Arc::new(watch.map_err(|error| refused(vec![format!("a thread cannot be started: {error}")]))?);
        let states = Arc::new(States::new(config.limits.states_max));
        let floor = Floor { deps, limits: config.limits.clone(), states, watch };
        let mut generation = first(&config, &floor).await?;
        generation.micros = measure::medians(&generation);
        let older = NonZeroUsize::new(config.limits.generations_max).unwrap_or(NonZeroUsize::MIN);
        let policies = Self {
            shared: Arc::new(Shared {
                current: ArcSwap::from_pointee(generation),
                older: Mutex::new(LruCache::new(older)),
                changing: tokio::sync::Mutex::default(),
                loading: tokio::sync::Mutex::default(),
                floor,
            }),
        };
        tokio::spawn(guard(Arc::downgrade(&policies.shared), heard, config.watch));
        Ok(policies)
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
        let (states, state_bytes) = self.shared.floor.states.figures();
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
        let (floor, current) = (&self.shared.floor, self.current());
        let row = match current.revoked.contains(&number) {
            true => None,
            false => floor.deps.catalog.generation(number).await?,
        };
        let content = row.and_then(|row| Content::parse(&row.json));
        floor.recall(number, content.as_ref(), current.builtins.clone()).await
    }

    /// What the plugins of the loaded generations did, in the text format of Prometheus.
    #[must_use]
    pub fn exposition(&self) -> String {
        let mut generations = vec![self.current()];
        generations.extend(self.shared.older.lock().iter().map(|(_, older)| Arc::clone(older)));
        exposition(&generations)
    }

    /// The calls that were kept since `since`, oldest first.
    #[must_use]
    pub fn recorded(&self, since: Millis, hook: Option<Hook>, plugin: Option<&str>) -> Vec<Recorded> {
        self.shared.floor.watch.recorder.since(since, hook, plugin)
    }

    /// The file of a plugin in the catalog.
    ///
    /// # Errors
    /// The catalog does not answer.
    pub async fn file(&self, digest: Digest) -> Result<Option<Bytes>, StoreError> {
        Ok(self.shared.floor.deps.catalog.plugin(digest).await?.map(|file| file.bytes))
    }
}

/// The set to start with, recorded if it is a new one.
async fn first(config: &PolicyConfig, floor: &Floor) -> Result<Generation, StartError> {
    for _ in 0..NUMBER_TRIES {
        let newest = floor.deps.catalog.newest_generation().await?;
        let grown = grown(config, newest.as_ref(), floor).await;
        let plan = Plan::check(grown.as_ref().unwrap_or(config), &floor.deps.builtins)
            .map_err(|problems| StartError::Refused { problems })?;
        let before = newest.as_ref().and_then(|newest| Content::parse(&newest.json));
        let content = plan.content(before.as_ref(), &load::fingerprint(config), &config.limits);
        let (_, sum) = content.canonical();
        let number = newest.as_ref().map_or(0, |newest| newest.number);
        if newest.as_ref().is_some_and(|newest| newest.content == sum) {
            return floor.load(&plan, &content, number).await;
        }
        let at = floor.deps.clock.now();
        let said = ("heddle", "start", "the configuration, or this build, names another policy set");
        let audit = audit(at, said, newest.as_ref(), number + 1, &content);
        if let Some(made) = floor.establish(&plan, &content, number + 1, audit).await? {
            return Ok(made);
        }
    }
    let taken = format!("the next generation number was taken {NUMBER_TRIES} times by others, start again");
    Err(StartError::Refused { problems: vec![taken] })
}

impl heddle_presence::PresencePolicy for Policies {
    fn observe(&self, observation: &heddle_presence::Observation<'_>) -> heddle_presence::Sighting {
        self.current().observe(observation)
    }

    fn reveal(&self, now: Millis, subject: &UserId, relations: &[u8]) -> Vec<heddle_presence::Visibility> {
        self.current().reveal(now, subject, relations)
    }
}
