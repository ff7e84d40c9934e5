use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use bytes::Bytes;
use heddle_model::{Digest, Hook, Millis, UserId};
use heddle_store::StoreError;
use parking_lot::Mutex;
use tokio::sync::mpsc::channel;

use crate::audit::AuditRow;
use crate::bounds::tend;
use crate::change::{Carried, Next, grown, parsed, proposal};
use crate::cluster::{Following, confirm, obey, tidy};
use crate::content::{Before, Content};
use crate::files::Files;
use crate::floor::Floor;
use crate::guard::guard;
use crate::load::{self, Plan};
use crate::meter::exposition;
use crate::older::Older;
use crate::reuse::Reuse;
use crate::shared::SharedStates;
use crate::state::States;
use crate::watch::Watch;
use crate::{
    ChangeError, Generation, PolicyConfig, PolicyDeps, PolicyError, PolicyLimits, Recorded, StartError, WatchConfig,
    measure,
};

/// Alarms of plugins that nobody has looked at yet.
const ALARMS_MAX: usize = 16;
/// How often the next number may be somebody else's.
const NUMBER_TRIES: usize = 3;
/// Why a start makes a generation.
const NAMES_ANOTHER: &str = "the configuration, or this build, names another policy set";

/// The handle: cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Policies {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) current: ArcSwap<Generation>,
    pub(crate) older: Mutex<Older>,
    /// Held while an operator's next generation is made: one at a time is checked and compiled.
    pub(crate) changing: tokio::sync::Mutex<()>,
    /// Held while a generation that is ready is given its number and begins to decide: what takes a plugin back waits for no compiler.
    pub(crate) publishing: tokio::sync::Mutex<()>,
    /// Held while an older generation is loaded: two workers that meet it do not load it twice.
    loading: tokio::sync::Mutex<()>,
    /// Another set decides, and nobody has looked yet whether catalog and disk hold too much.
    pub(crate) changed: AtomicBool,
    pub(crate) floor: Floor,
    /// Where there are several nodes: what they agreed.
    pub(crate) following: Option<Arc<Following>>,
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
        let watch = Watch::start(config.watch.clone(), alarms, Arc::clone(&deps.clock));
        let watch = Arc::new(watch.map_err(|error| refused(vec![format!("a thread cannot be started: {error}")]))?);
        let states = Arc::new(States::new(config.limits.states_max));
        let limits = ArcSwap::from_pointee(config.limits.clone());
        let trust = ArcSwap::from_pointee(config.trust.clone());
        let cluster = deps.cluster.clone();
        let shared =
            deps.shared.clone().map(|all| SharedStates::new(all, Arc::clone(&states), Arc::clone(&deps.clock)));
        let reuse = Reuse::new(Arc::clone(&deps.loader));
        let files = Files::new(Arc::clone(&deps.catalog), config.mirror.clone());
        let floor = Floor { deps, limits, files, trust, states, shared, watch, reuse, failing: Mutex::default() };
        let following = match cluster {
            Some(cluster) => Some(
                Following::begin(cluster, Arc::clone(&floor.deps.clock))
                    .await
                    .map_err(|reason| StartError::Cluster { reason })?,
            ),
            None => None,
        };
        let (mut generation, configured) = first(&config, &floor, following.as_deref()).await?;
        generation.micros = measure::medians(&generation);
        let older = Older::new(config.limits.generations_max, config.limits.draining_max);
        let policies = Self {
            shared: Arc::new(Shared {
                current: ArcSwap::from_pointee(generation),
                older: Mutex::new(older),
                changing: tokio::sync::Mutex::default(),
                publishing: tokio::sync::Mutex::default(),
                loading: tokio::sync::Mutex::default(),
                changed: AtomicBool::new(true),
                floor,
                following: following.clone(),
            }),
        };
        let weak = || Arc::downgrade(&policies.shared);
        if let Some(following) = following {
            tokio::spawn(obey(weak(), Arc::clone(&following)));
            tokio::spawn(confirm(weak(), Arc::clone(&following)));
            tokio::spawn(tidy(weak(), following));
        }
        tokio::spawn(guard(weak(), heard));
        tokio::spawn(tend(weak()));
        if !configured {
            policies.propose_configured(&config).await?;
        }
        Ok(policies)
    }

    /// Where nodes agreed on another set than this one's configuration names, which changed: asks them for it. That another node cannot have it (of
    /// an older build, say) keeps this one from nothing.
    async fn propose_configured(&self, config: &PolicyConfig) -> Result<(), StartError> {
        let _only = self.shared.changing.lock().await;
        if let Some(following) = &self.shared.following {
            following.settled().await;
        }
        let newest = match self.newest().await {
            Ok(newest) => newest,
            Err(error @ ChangeError::Busy) => {
                keep_theirs(&error);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let grown = grown(config, Some(&newest.row), &self.shared.floor).await?;
        let carried = Carried { configured: load::fingerprint(config), ..Carried::of(&newest.content) };
        let said = ("heddle", "start", NAMES_ANOTHER);
        let next = Next { carried, ..Next::after(&newest) };
        match self.decide(next, grown.as_ref().unwrap_or(config), said).await {
            Ok(_) => Ok(()),
            // What cannot be loaded here is this node's own fault.
            Err(error @ (ChangeError::Refused { .. } | ChangeError::Unknown { .. })) => Err(error.into()),
            Err(error) => {
                keep_theirs(&error);
                Ok(())
            }
        }
    }

    /// Whether this node knows what decides now: where nodes agree on a policy set, one that was cut off or stood still may not, and must neither
    /// decide nor say `accepted`. (DELIVERY 27)
    ///
    /// # Errors
    /// Why it does not, for whoever asks.
    pub fn knows(&self) -> Result<(), String> {
        self.shared.following.as_ref().map_or(Ok(()), |following| following.knows())
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
        let current = self.current().number();
        if number > current && self.shared.following.is_some() {
            return Err(PolicyError::Ahead { number, current });
        }
        loop {
            let loaded = self.load(number).await.map_err(|source| PolicyError::Catalog { number, source })?;
            let (generation, revoked) = (Arc::new(loaded.0), loaded.1);
            let mut older = self.shared.older.lock();
            // Somebody may have revoked it meanwhile.
            if self.current().revoked.contains(&number) == revoked {
                older.met(Arc::clone(&generation), self.shared.floor.deps.clock.monotonic());
                return Ok(generation);
            }
        }
    }

    /// From now on watched, and trusted, as configured here.
    pub fn configure(&self, watch: WatchConfig, trust: heddle_pack::TrustList) {
        self.shared.floor.watch.configure(watch);
        self.shared.floor.trust.store(Arc::new(trust));
    }

    /// What of the set that decides is above these limits: with them a start would refuse it. One problem a line.
    #[must_use]
    pub fn outgrown(&self, limits: &PolicyLimits) -> Vec<String> {
        let (current, mut problems) = (self.current(), Vec::new());
        for hook in Hook::ALL {
            let length = current.chain(hook).len();
            if length > limits.chain_max {
                let max = limits.chain_max;
                problems
                    .push(format!("{hook}: {length} plugins are in the chain, and policies.chain_max would be {max}"));
            }
        }
        for (member, _) in current.members() {
            let (asks, max) = (member.asks.deadline_ms, limits.deadline_ms_max);
            let problem = format!(
                "{} {}, which decides, asks for a deadline of {asks} ms, and policies.deadline_max would be {max} ms",
                member.name, member.version
            );
            if asks > max && !problems.contains(&problem) {
                problems.push(problem);
            }
        }
        problems
    }

    /// From now on these limits hold: for the next change, and for what is kept. What an engine was made for does not change.
    pub fn limit(&self, limits: PolicyLimits, mirror_bytes_max: u64) {
        let floor = &self.shared.floor;
        self.shared.older.lock().bound(limits.generations_max, limits.draining_max);
        floor.states.bound(limits.states_max);
        floor.files.bound(mirror_bytes_max);
        floor.limits.store(Arc::new(limits));
        // What is too much now goes with the next look.
        self.shared.changed.store(true, Ordering::Relaxed);
    }

    /// How much it holds.
    #[must_use]
    pub fn figures(&self) -> PolicyFigures {
        let (states, state_bytes) = self.shared.floor.states.figures();
        let older = self.shared.older.lock();
        PolicyFigures { states, state_bytes, generations: 1 + older.loaded() + older.kept() }
    }

    fn held(&self, number: u64) -> Option<Arc<Generation>> {
        let current = self.current();
        if current.number() == number {
            return Some(current);
        }
        let older = self.shared.older.lock().get(number);
        older.or_else(|| self.shared.following.as_ref()?.held(number))
    }

    /// From the catalog; and whether it is revoked.
    async fn load(&self, number: u64) -> Result<(Generation, bool), StoreError> {
        let (floor, current) = (&self.shared.floor, self.current());
        let revoked = current.revoked.contains(&number);
        let row = match revoked {
            true => None,
            false => floor.deps.catalog.generation(number).await.or_else(unless_broken)?,
        };
        let content = row.and_then(|row| Content::parse(&row.json));
        Ok((floor.recall(number, content.as_ref(), current.builtins.clone()).await?, revoked))
    }

    /// What the plugins of the loaded generations did, in the text format of Prometheus.
    #[must_use]
    pub fn exposition(&self) -> String {
        let mut generations = vec![self.current()];
        let (draining, kept) = {
            let older = self.shared.older.lock();
            generations.extend(older.iter().cloned());
            (older.loaded(), older.kept())
        };
        exposition(&generations, &[("serving", 1), ("draining", draining), ("kept", kept)])
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
        self.shared.floor.files.read(digest).await
    }
}

/// A row that is broken stays so: it is as good as gone, and waiting for it would hold up those who need it for ever.
pub(crate) fn unless_broken<T>(error: StoreError) -> Result<Option<T>, StoreError> {
    match error {
        StoreError::Broken { table, reason } => {
            tracing::error!(table, reason, "the catalog has a broken row, the built-in policy decides in its place");
            Ok(None)
        }
        other => Err(other),
    }
}

/// The set to start with, recorded if it is a new one; and whether it is the one that the configuration names.
async fn first(
    config: &PolicyConfig,
    floor: &Floor,
    following: Option<&Following>,
) -> Result<(Generation, bool), StartError> {
    for _ in 0..NUMBER_TRIES {
        let agreed = following.and_then(Following::newest);
        let newest = match &agreed {
            Some(agreed) => Some(agreed.clone()),
            None => floor.deps.catalog.newest_generation().await?,
        };
        let grown = grown(config, newest.as_ref(), floor).await?;
        let plan = Plan::check(grown.as_ref().unwrap_or(config), &floor.deps.builtins)
            .map_err(|problems| StartError::Refused { problems })?;
        let before = newest.as_ref().and_then(|newest| Content::parse(&newest.json));
        let lines: Vec<&Content> = before.iter().collect();
        let failed = before.as_ref().map(|before| before.failed.as_slice()).unwrap_or_default();
        let lineage = Before { now: before.as_ref(), lines: &lines, failed };
        let content = plan.content(&lineage, &load::fingerprint(config), &config.limits);
        let (_, sum) = content.canonical();
        let number = newest.as_ref().map_or(0, |newest| newest.number);
        let same = newest.as_ref().is_some_and(|newest| newest.content == sum);
        if same && (following.is_none() || agreed.is_some()) {
            return Ok((floor.load(&plan, &content, number).await?, true));
        }
        if agreed.is_some() {
            // The others go on with it, until they are ready for another.
            let content = parsed(number, &newest.map(|newest| newest.json).unwrap_or_default())?;
            return Ok((floor.load_content(&content, number).await?, false));
        }
        let number = if same { number } else { number + 1 };
        let said = ("heddle", "start", NAMES_ANOTHER);
        let row = AuditRow { said, before: newest.as_ref(), number, after: &content };
        let audit = row.entry(floor.deps.clock.now(), false);
        match following {
            Some(following) => {
                floor.keep_files(&plan, audit.at).await?;
                let founded = following.found(number, proposal(&content, audit)).await;
                founded.map_err(|reason| StartError::Cluster { reason })?;
            }
            None => {
                if let Some(made) = floor.establish(&plan, &content, number, audit).await? {
                    return Ok((made, true));
                }
            }
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

fn keep_theirs(error: &ChangeError) {
    tracing::warn!(%error, "the nodes keep their policy set, this one's configuration or build names another");
}
