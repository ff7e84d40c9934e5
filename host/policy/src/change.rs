//! Another policy set in place of the one that decides, while traffic flows: checked, loaded, proved, recorded, then one pointer swap.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use heddle_model::{Digest, Hook};
use heddle_store::{AuditEntry, CatalogGeneration, StoreError};
use serde_json::{Map, Value};

use crate::audit::AuditRow;
use crate::cluster::Proposal;
use crate::content::{Before, Content, Entry, TrialMode, version};
use crate::edit::{edit, set_by_operator};
use crate::floor::Floor;
use crate::health::Health;
use crate::load::{self, Plan};
use crate::policies::Policies;
use crate::seal::{self, Seal};
use crate::{ChangeError, Generation, PluginRef, PolicyConfig, TrialRef, measure};

/// Generations that are searched for an earlier one.
pub(crate) const BACK_MAX: u64 = 64;

/// What an operator wants to be otherwise.
#[derive(Debug, Clone)]
pub enum Change {
    /// This plugin in place of the one of its name; else at the end of the chain.
    Deploy {
        /// Where; none: at each hook that its manifest has.
        hook: Option<Hook>,
        /// The file. Its configuration is merged over what the operator had set for the plugin of its name.
        file: PluginRef,
        /// What vouches for it.
        seal: Seal,
        /// It does not decide for all yet.
        trial: Option<TrialMode>,
    },
    /// The plugin on trial decides for all.
    Promote,
    /// The plugin on trial goes.
    Abandon,
    /// A plugin that keeps its place is asked again, or no more.
    Enable {
        /// The manifest's name.
        plugin: String,
        /// At this hook only.
        hook: Option<Hook>,
        /// Is it asked?
        enabled: bool,
    },
    /// What a generation decided is not to be carried on: the built-in plan fans its records out. The current one gives way to the one before.
    Revoke {
        /// Which; none: the current.
        generation: Option<u64>,
    },
    /// Other configuration for a plugin, at every hook where it stands.
    Configure {
        /// The manifest's name.
        plugin: String,
        /// Key by key; `null` goes back to the manifest's value.
        changes: Map<String, Value>,
    },
    /// These plugins in this order. Each stands in the chain now, or is the built-in one; an empty chain is the built-in one.
    Chain {
        /// Which chain.
        hook: Hook,
        /// Names.
        plugins: Vec<String>,
    },
    /// Without this plugin; where none is left, the built-in one decides.
    Remove {
        /// The manifest's name.
        plugin: String,
        /// At this hook only.
        hook: Option<Hook>,
    },
    /// The content of an older generation, under a new number.
    Rollback {
        /// Which; none: the one before the current.
        to: Option<u64>,
    },
}

/// A change, and what the audit says of it.
#[derive(Debug, Clone)]
pub struct Request {
    /// What.
    pub change: Change,
    /// As authenticated.
    pub who: String,
    /// In the operator's words.
    pub why: String,
}

/// What a change led to.
#[derive(Clone)]
pub struct Changed {
    /// The generation that decided before.
    pub before: u64,
    /// The one that decides now: the same if nothing would be otherwise.
    pub now: Arc<Generation>,
}

/// What a set has beside its plugins.
pub(crate) struct Carried {
    /// Digest of the configuration that it grew from.
    pub(crate) configured: String,
    /// Generations whose records the built-in plan fans out.
    pub(crate) revoked: BTreeSet<u64>,
    /// Versions of plugins that nothing is to go back to by itself, beside those that are known.
    pub(crate) failed: Vec<String>,
    /// For the audit: a lower version after a higher one was meant.
    pub(crate) allow_downgrade: bool,
}

impl Carried {
    /// As before.
    pub(crate) fn of(before: &Content) -> Self {
        Self {
            configured: before.configured.clone(),
            revoked: before.revoked.clone(),
            failed: Vec::new(),
            allow_downgrade: false,
        }
    }
}

/// The newest generation, and the number that the one after it has: whoever takes it first has followed this one.
pub(crate) struct Newest {
    pub(crate) row: CatalogGeneration,
    pub(crate) content: Content,
    pub(crate) next: u64,
}

/// What a next set follows.
pub(crate) struct Next<'a> {
    /// If another comes before this one is ready, this one is not taken.
    pub(crate) newest: &'a Newest,
    /// As in [`Before::lines`].
    pub(crate) lines: Vec<&'a Content>,
    pub(crate) carried: Carried,
}

impl<'a> Next<'a> {
    /// A change of what decides.
    pub(crate) fn after(newest: &'a Newest) -> Self {
        Self { newest, lines: vec![&newest.content], carried: Carried::of(&newest.content) }
    }
}

impl Change {
    /// In a word, for the audit.
    fn word(&self) -> &'static str {
        match self {
            Self::Deploy { trial: None, .. } => "deploy",
            Self::Deploy { trial: Some(TrialMode::Shadow), .. } => "shadow",
            Self::Deploy { trial: Some(TrialMode::Canary { .. }), .. } => "canary",
            Self::Promote => "promote",
            Self::Abandon => "abandon",
            Self::Configure { .. } => "configure",
            Self::Chain { .. } => "chain",
            Self::Enable { enabled: true, .. } => "enable",
            Self::Enable { enabled: false, .. } => "disable",
            Self::Remove { .. } => "remove",
            Self::Rollback { .. } => "rollback",
            Self::Revoke { .. } => "revoke",
        }
    }
}

impl Policies {
    /// Makes the next generation and lets it decide. Whatever fails leaves the present one in place. Of several at once one is taken, the others get
    /// [`ChangeError::Busy`].
    ///
    /// # Errors
    /// All that is wrong with the new set; or the catalog fails.
    pub async fn change(&self, request: Request) -> Result<Changed, ChangeError> {
        let _only = self.shared.changing.try_lock().map_err(|_| ChangeError::Busy)?;
        let floor = &self.shared.floor;
        let newest = self.newest().await?;
        let (before, now) = (&newest.content, newest.row.number);
        let base = match &request.change {
            Change::Rollback { to } => Content { trial: None, ..older(floor, now, *to).await? },
            Change::Revoke { generation } if generation.is_none_or(|it| it == now) => {
                Content { trial: None, ..older(floor, now, None).await? }
            }
            Change::Revoke { generation: Some(number) } => {
                older(floor, now, Some(*number)).await?;
                before.clone()
            }
            _ => before.clone(),
        };
        if let Change::Deploy { file, seal, .. } = &request.change {
            seal::admit(&floor.trust.load_full(), &floor.deps, file, seal).await?;
        }
        let mut config = resolve(&base, floor).await?;
        edit(&mut config, &request.change)?;
        if let Change::Deploy { file, .. } = &request.change {
            prove(floor, file).await?;
        }
        let mut carried = Carried::of(before);
        if let Change::Revoke { generation } = &request.change {
            let number = generation.unwrap_or(now);
            carried.revoked.insert(number);
            carried.failed.extend(older(floor, now, Some(number)).await?.versions());
        }
        carried.allow_downgrade = matches!(&request.change, Change::Deploy { seal, .. } if seal.allow_downgrade);
        let said = (&*request.who, request.change.word(), &*request.why);
        let next = Next { lines: vec![&base], carried, ..Next::after(&newest) };
        self.decide(next, &config, said).await
    }

    /// Puts a policy set in place of the newest. All that takes time is done before anybody is kept from doing the same. `said`: who, what, why.
    pub(crate) async fn decide(
        &self,
        next: Next<'_>,
        config: &PolicyConfig,
        said: (&str, &str, &str),
    ) -> Result<Changed, ChangeError> {
        let Next { newest: Newest { row: newest, content: before, next: number }, lines, carried } = next;
        let number = *number;
        let shared = &*self.shared;
        let floor = &shared.floor;
        let plan = Plan::check(config, &floor.deps.builtins).map_err(|problems| ChangeError::Refused { problems })?;
        let mut failed = carried.failed;
        failed.extend(self.versions(Health::failed_for_good));
        failed.extend(floor.failing.lock().intersection(&before.versions()).cloned());
        let faulty = self.versions(Health::faulty);
        let known = [&before.failed[..], &failed, &faulty].concat();
        let lineage = Before { now: Some(before), lines: &lines, failed: &known };
        let content = plan.content(&lineage, &carried.configured, &floor.limits.load());
        let mut content = Content { revoked: carried.revoked, ..content };
        content.remember_failed(before, failed);
        if content.canonical().1 == newest.content {
            return Ok(Changed { before: newest.number, now: self.current() });
        }
        // Whatever somebody puts there is given another try.
        let came: Vec<String> = content.versions().difference(&before.versions()).cloned().collect();
        let before = self.current().number();
        let audit = AuditRow { said, before: Some(newest), number, after: &content };
        let audit = audit.entry(floor.deps.clock.now(), carried.allow_downgrade);
        let generation = Self::warm(floor.load(&plan, &content, number).await?).await?;
        floor.keep_files(&plan, audit.at).await?;
        match &shared.following {
            None => {
                let _only = shared.publishing.lock().await;
                let (json, sum) = content.canonical();
                let row = CatalogGeneration { number, content: sum, json, at: audit.at, why: audit.why.clone() };
                // It is refused if somebody else took the number meanwhile.
                if !floor.deps.catalog.add_generation(row, audit).await? {
                    return Err(ChangeError::Conflict);
                }
                self.swap(generation);
                let (who, what, why) = said;
                tracing::info!(generation = number, before, who, what, why, "another policy set decides");
            }
            Some(following) => following.agree(generation, proposal(&content, audit)).await?,
        }
        floor.failing.lock().retain(|failing| !came.contains(failing));
        Ok(Changed { before, now: self.current() })
    }

    /// Versions of the plugins that decide and are so.
    fn versions(&self, so: impl Fn(&Health) -> bool) -> Vec<String> {
        let current = self.current();
        let members = current.stable.members().filter(|member| so(&member.health));
        members.map(|member| version(&member.digest.to_string(), &member.config)).collect()
    }

    /// Measures it, which warms its instances.
    pub(crate) async fn warm(mut generation: Generation) -> Result<Arc<Generation>, ChangeError> {
        let warmed = tokio::task::spawn_blocking(move || {
            generation.micros = measure::medians(&generation);
            Arc::new(generation)
        });
        warmed.await.map_err(|error| ChangeError::Refused { problems: vec![error.to_string()] })
    }

    /// From now on it decides. Answers the number of the one before.
    pub(crate) fn swap(&self, now: Arc<Generation>) -> u64 {
        let decided = self.shared.current.swap(Arc::clone(&now));
        let before = decided.number();
        self.shared.changed.store(true, Ordering::Relaxed);
        let mut older = self.shared.older.lock();
        older.retire(decided, self.shared.floor.deps.clock.monotonic());
        // They were loaded with what decided; from now on the built-in plan does.
        for number in &now.revoked {
            older.unload(*number);
        }
        before
    }

    /// The newest generation; not while nodes agree on the one after it.
    pub(crate) async fn newest(&self) -> Result<Newest, ChangeError> {
        let (row, next) = match &self.shared.following {
            Some(following) => following.newest_and_next()?,
            None => {
                let row = self.shared.floor.deps.catalog.newest_generation().await?.ok_or(ChangeError::Conflict)?;
                let next = row.number + 1;
                (row, next)
            }
        };
        let content = parsed(row.number, &row.json)?;
        Ok(Newest { row, content, next })
    }
}

/// The content of a generation, taken apart.
pub(crate) fn parsed(number: u64, json: &str) -> Result<Content, ChangeError> {
    Content::parse(json).ok_or_else(|| ChangeError::Unknown {
        what: format!("the content of generation {number} in a form that this build reads"),
    })
}

/// The content to go back to. Numbers that nodes did not agree on are missing.
async fn older(floor: &Floor, newest: u64, to: Option<u64>) -> Result<Content, ChangeError> {
    let candidates = match to {
        Some(number) => number..=number,
        None => newest.saturating_sub(BACK_MAX).max(1)..=newest.saturating_sub(1),
    };
    let named = *candidates.end();
    for number in candidates.rev() {
        if let Some(row) = floor.deps.catalog.generation(number).await? {
            return parsed(number, &row.json);
        }
    }
    Err(ChangeError::Unknown { what: format!("generation {named}") })
}

/// The policy set of a content as an operator would have asked for it, with this build's built-in plugins.
pub(crate) async fn resolve(content: &Content, floor: &Floor) -> Result<PolicyConfig, ChangeError> {
    let mut config = PolicyConfig { limits: floor.limits.load().as_ref().clone(), ..PolicyConfig::default() };
    for hook in Hook::ALL {
        let builtin = content.builtins.get(&hook);
        if let Some(entry) = builtin {
            config.builtin_config.push((hook, recorded(floor, entry).await?.config));
        }
        let mut chain = Vec::new();
        for entry in content.chains.get(&hook).into_iter().flatten() {
            let mut plugin = recorded(floor, entry).await?;
            let own = floor.deps.builtins.iter().find(|(of, _)| *of == hook);
            if let Some((_, bytes)) = own.filter(|_| builtin.is_some_and(|builtin| builtin.digest == entry.digest)) {
                plugin.bytes = Bytes::from_static(bytes);
            }
            chain.push(plugin);
        }
        config.chains.push((hook, chain));
    }
    if let Some(trial) = &content.trial
        && let Some(entry) = trial.entries.values().next()
    {
        let hooks = trial.entries.keys().copied().collect();
        config.trial = Some(TrialRef { mode: trial.mode, file: recorded(floor, entry).await?, hooks });
    }
    Ok(config)
}

/// A plugin of the catalog, with what the operator had set.
pub(crate) async fn recorded(floor: &Floor, entry: &Entry) -> Result<PluginRef, ChangeError> {
    let file = match Digest::parse(&entry.digest) {
        Some(digest) => floor.files.read(digest).await?,
        None => None,
    };
    let bytes = file.ok_or_else(|| ChangeError::Unknown {
        what: format!("the file of {} {} in the catalog", entry.name, entry.digest),
    })?;
    let source = format!("{} {}", entry.name, entry.version);
    let config = entry.config.clone();
    let plugin = PluginRef { config, disabled: entry.disabled, ..PluginRef::file(source, bytes) };
    Ok(PluginRef { config: set_by_operator(&plugin), ..plugin })
}

/// Runs the cases of a plugin that is new here.
async fn prove(floor: &Floor, file: &PluginRef) -> Result<(), ChangeError> {
    let unpacked = heddle_pack::unpack(file.bytes.as_ref());
    let packed = unpacked.map_err(|error| ChangeError::Refused { problems: vec![error.to_string()] })?;
    floor.deps.loader.prove(&packed).await.map_err(|problems| ChangeError::Refused {
        problems: problems.into_iter().map(|problem| format!("{}: {problem}", file.source)).collect(),
    })
}

/// What is said to the other nodes.
pub(crate) fn proposal(content: &Content, audit: AuditEntry) -> Proposal {
    let AuditEntry { at, who, what, why, detail } = audit;
    Proposal { json: content.canonical().0, at, who, what, why, detail }
}

/// The newest content, if the operator's configuration is still the one that it grew from. That the catalog is away for a moment is no reason to decide
/// by another one.
pub(crate) async fn grown(
    config: &PolicyConfig,
    newest: Option<&CatalogGeneration>,
    floor: &Floor,
) -> Result<Option<PolicyConfig>, StoreError> {
    let content = newest.and_then(|newest| Content::parse(&newest.json));
    let Some(content) = content.filter(|content| content.configured == load::fingerprint(config)) else {
        return Ok(None);
    };
    match resolve(&content, floor).await {
        Ok(config) => Ok(Some(config)),
        Err(ChangeError::Catalog(error)) if !matches!(error, StoreError::Broken { .. }) => Err(error),
        Err(error) => {
            tracing::error!(%error, "the newest policy set cannot be had, the configured one decides");
            Ok(None)
        }
    }
}
