//! What plugins stand on: from files of the catalog to members of a generation, loaded and watched.

use std::collections::BTreeSet;
use std::sync::Arc;

use arc_swap::ArcSwap;
use heddle_model::{Conversation, Digest, Hook, Millis};
use heddle_pack::{OnFailure, Share};
use heddle_store::{AuditEntry, CatalogGeneration, StoreError};
use parking_lot::Mutex;
use serde_json::Value;

use crate::arm::{Arm, Canary, place};
use crate::change::resolve;
use crate::component::{Component, Gone};
use crate::content::{Content, Entry, Previous, TrialMode};
use crate::files::Files;
use crate::generation::{Luck, PolicyInfo, Standing};
use crate::health::Health;
use crate::load::{self, Checked, Plan, pack_hook};
use crate::member::Member;
use crate::policies::unless_broken;
use crate::reuse::Reuse;
use crate::shadow::Shadow;
use crate::shared::SharedStates;
use crate::state::States;
use crate::tap::Tapped;
use crate::watch::Watch;
use crate::{ChangeError, Generation, PluginRef, PolicyDeps, PolicyLimits, StartError, Tally};

/// All that does not change from generation to generation.
pub(crate) struct Floor {
    pub(crate) deps: PolicyDeps,
    pub(crate) limits: ArcSwap<PolicyLimits>,
    pub(crate) files: Files,
    pub(crate) trust: ArcSwap<heddle_pack::TrustList>,
    pub(crate) states: Arc<States>,
    /// Those of all nodes; none: there is one.
    pub(crate) shared: Option<Arc<SharedStates>>,
    pub(crate) watch: Arc<Watch>,
    pub(crate) reuse: Reuse,
    /// Versions that went on failing since they came into the set.
    pub(crate) failing: Mutex<BTreeSet<String>>,
}

/// What a generation is put together of.
struct Parts {
    number: u64,
    builtins: [Arc<Member>; 4],
    chains: [Vec<Arc<Member>>; 4],
    disabled: Vec<PolicyInfo>,
    trial: Option<(TrialMode, Vec<Arc<Member>>)>,
    revoked: BTreeSet<u64>,
    files: BTreeSet<Digest>,
}

impl Floor {
    /// Loads a set and records it under `number`; none if somebody else took that number.
    pub(crate) async fn establish(
        &self,
        plan: &Plan,
        content: &Content,
        number: u64,
        audit: AuditEntry,
    ) -> Result<Option<Generation>, StartError> {
        let generation = self.load(plan, content, number).await?;
        let (at, (json, sum)) = (audit.at, content.canonical());
        self.keep_files(plan, at).await?;
        let row = CatalogGeneration { number, content: sum, json, at, why: audit.why.clone() };
        Ok(self.deps.catalog.add_generation(row, audit).await?.then_some(generation))
    }

    /// Puts the files of a set into the catalog.
    pub(crate) async fn keep_files(&self, plan: &Plan, at: Millis) -> Result<(), StoreError> {
        for file in plan.files(at) {
            self.files.add(file).await?;
        }
        Ok(())
    }

    /// Loads a set that was made before, perhaps elsewhere, from the catalog's files.
    pub(crate) async fn load_content(&self, content: &Content, number: u64) -> Result<Generation, ChangeError> {
        let config = resolve(content, self).await?;
        let plan = Plan::check(&config, &self.deps.builtins).map_err(|problems| ChangeError::Refused { problems })?;
        Ok(self.load(&plan, content, number).await?)
    }

    /// Loads every plugin of a new set; everything that is wrong at once.
    pub(crate) async fn load(&self, plan: &Plan, content: &Content, number: u64) -> Result<Generation, StartError> {
        let mut problems = Vec::new();
        let mut builtins = Vec::new();
        for (hook, plugin) in &plan.builtins {
            let entry = content.builtins.get(hook);
            match self.member(*hook, plugin, entry, number, None, false).await {
                Ok(member) => builtins.push(member),
                Err(problem) => problems.push(problem),
            }
        }
        let builtins: Result<[Arc<Member>; 4], _> = builtins.try_into();
        let (mut chains, mut disabled) = (<[Vec<Arc<Member>>; 4]>::default(), Vec::new());
        for (hook, plugins) in &plan.chains {
            for (at, plugin) in plugins.iter().enumerate() {
                let entry = content.chains.get(hook).and_then(|entries| entries.get(at));
                if plugin.disabled {
                    disabled.extend(entry.map(|entry| asleep(*hook, entry)));
                    continue;
                }
                // The built-in in its own chain is the built-in itself.
                let builtin = builtins.as_ref().ok().map(|all| &all[place(*hook)]);
                if let Some(builtin) = builtin.filter(|builtin| builtin.digest == plugin.digest)
                    && plan.builtins.get(hook).is_some_and(|builtin| builtin.config == plugin.config)
                {
                    chains[place(*hook)].push(Arc::clone(builtin));
                    continue;
                }
                let previous = match entry.and_then(|entry| entry.previous.as_ref()) {
                    Some(previous) => self.previous(*hook, previous, number).await?,
                    None => None,
                };
                match self.member(*hook, plugin, entry, number, previous, false).await {
                    Ok(member) => chains[place(*hook)].push(member),
                    Err(problem) => problems.push(problem),
                }
            }
        }
        let mut trial = None;
        if let Some((mode, plugins)) = &plan.trial {
            let mut members = Vec::new();
            for (hook, plugin) in plugins {
                let entry = content.trial.as_ref().and_then(|trial| trial.entries.get(hook));
                match self.member(*hook, plugin, entry, number, None, true).await {
                    Ok(member) => members.push(member),
                    Err(problem) => problems.push(problem),
                }
            }
            trial = Some((*mode, members));
        }
        match builtins {
            Ok(builtins) if problems.is_empty() => {
                let (revoked, files) = (content.revoked.clone(), content.files());
                Ok(self.assemble(Parts { number, builtins, chains, disabled, trial, revoked, files }))
            }
            _ => Err(StartError::Refused { problems }),
        }
    }

    /// A generation of the catalog, as far as its files are there: for the rest the built-in decides, and says so. `builtins`: this build's.
    pub(crate) async fn recall(
        &self,
        number: u64,
        content: Option<&Content>,
        builtins: [Arc<Member>; 4],
    ) -> Result<Generation, StoreError> {
        let (mut chains, mut disabled) = (<[Vec<Arc<Member>>; 4]>::default(), Vec::new());
        for hook in Hook::ALL {
            let chain = &mut chains[place(hook)];
            match content.and_then(|content| content.chains.get(&hook)) {
                None => chain.push(self.gone(hook, None, number)),
                Some(entries) => {
                    for entry in entries {
                        match entry.disabled {
                            true => disabled.push(asleep(hook, entry)),
                            false => chain.push(self.recorded(hook, entry, number).await?),
                        }
                    }
                }
            }
        }
        let mut trial = None;
        // What a shadow would have said does not matter any more.
        if let Some(tried) =
            content.and_then(|content| content.trial.as_ref()).filter(|it| it.mode != TrialMode::Shadow)
        {
            let mut members = Vec::new();
            for (hook, entry) in &tried.entries {
                members.push(self.recorded(*hook, entry, number).await?);
            }
            trial = Some((tried.mode, members));
        }
        let (revoked, files) = (BTreeSet::new(), content.map(Content::files).unwrap_or_default());
        Ok(self.assemble(Parts { number, builtins, chains, disabled, trial, revoked, files }))
    }

    /// Loads what was checked.
    async fn member(
        &self,
        hook: Hook,
        plugin: &Checked,
        entry: Option<&Entry>,
        number: u64,
        previous: Option<Arc<Member>>,
        on_trial: bool,
    ) -> Result<Arc<Member>, String> {
        let config = Value::Object(plugin.config.clone()).to_string();
        let component = self.reuse.load(&plugin.packed, plugin.digest, hook, config).await;
        let component = component.map_err(|error| format!("{hook}: {}: {error}", plugin.source))?;
        let manifest = &plugin.packed.manifest;
        let declared = pack_hook(hook).and_then(|hook| manifest.hooks.get(&hook));
        let targets = declared.map(|hook| hook.redirect_to.as_slice()).unwrap_or_default();
        let health = Health::new(hook, &manifest.name, plugin.digest, number, on_trial, self.watch.alarms.clone());
        Ok(Arc::new(Member {
            version: manifest.version.as_str().into(),
            config: plugin.config.clone(),
            state_version: manifest.state_version,
            state_from: entry.and_then(|entry| entry.state_from),
            scopes: declared.map(|hook| hook.scopes.clone()).unwrap_or_default(),
            shares: declared.is_some_and(|hook| hook.share == Share::Cluster),
            on_failure: plugin.on_failure,
            redirect_to: targets.iter().filter_map(|target| Conversation::parse(target).ok()).collect(),
            reads_body: manifest.reads_body,
            asks: manifest.limits,
            previous,
            ..self.watched(health, manifest.state_version, component)
        }))
    }

    /// A plugin of which nothing but the component is known.
    fn watched(&self, health: Health, state_version: u32, bare: Arc<dyn Component>) -> Member {
        let health = Arc::new(health);
        let (watch, clock) = (Arc::clone(&self.watch), Arc::clone(&self.deps.clock));
        Member {
            hook: health.hook,
            name: health.name.clone(),
            version: "".into(),
            digest: health.digest,
            config: serde_json::Map::new(),
            state_version,
            state_from: None,
            scopes: Vec::new(),
            shares: false,
            on_failure: OnFailure::Builtin,
            redirect_to: Vec::new(),
            reads_body: false,
            asks: heddle_pack::Limits { memory_bytes: 0, deadline_ms: 0 },
            component: Tapped::new(Arc::clone(&bare), state_version, Arc::clone(&health), watch, clock),
            bare,
            previous: None,
            health,
        }
    }

    /// In place of a plugin that cannot be had any more: the built-in decides, and the decision says so.
    fn gone(&self, hook: Hook, entry: Option<&Entry>, number: u64) -> Arc<Member> {
        let (name, version) = entry.map_or(("unknown", ""), |entry| (&*entry.name, &*entry.version));
        let digest = entry.and_then(|entry| Digest::parse(&entry.digest)).unwrap_or(Digest([0; 32]));
        let health = Health::new(hook, name, digest, number, false, self.watch.alarms.clone());
        Arc::new(Member { version: version.into(), ..self.watched(health, 0, Arc::new(Gone)) })
    }

    /// A plugin of the catalog, checked; none if it cannot be had.
    async fn checked(
        &self,
        hook: Hook,
        hex: &str,
        entry: &serde_json::Map<String, Value>,
    ) -> Result<Option<Checked>, StoreError> {
        let Some(digest) = Digest::parse(hex) else { return Ok(None) };
        let Some(bytes) = self.files.read(digest).await.or_else(unless_broken)? else { return Ok(None) };
        let file = PluginRef { config: entry.clone(), ..PluginRef::file(hex, bytes) };
        Ok(load::check(hook, &file, &self.limits.load()).ok())
    }

    /// The version before; one that cannot be had or loaded any more is none, and the built-in follows.
    async fn previous(&self, hook: Hook, previous: &Previous, number: u64) -> Result<Option<Arc<Member>>, StoreError> {
        let Some(checked) = self.checked(hook, &previous.digest, &previous.config).await? else { return Ok(None) };
        Ok(self.member(hook, &checked, None, number, None, false).await.ok())
    }

    /// A plugin of an older generation; one that cannot be had or loaded any more is replaced by the built-in.
    async fn recorded(&self, hook: Hook, entry: &Entry, number: u64) -> Result<Arc<Member>, StoreError> {
        let Some(checked) = self.checked(hook, &entry.digest, &entry.config).await? else {
            return Ok(self.gone(hook, Some(entry), number));
        };
        let previous = match &entry.previous {
            Some(previous) => self.previous(hook, previous, number).await?,
            None => None,
        };
        match self.member(hook, &checked, Some(entry), number, previous, false).await {
            Ok(member) => Ok(member),
            Err(problem) => {
                tracing::error!(
                    number,
                    problem,
                    "a policy of an older generation cannot be loaded, the built-in decides"
                );
                Ok(self.gone(hook, Some(entry), number))
            }
        }
    }

    fn assemble(&self, parts: Parts) -> Generation {
        let Parts { number, builtins, mut chains, disabled, trial, revoked, files } = parts;
        for (chain, builtin) in chains.iter_mut().zip(&builtins) {
            if chain.is_empty() {
                chain.push(Arc::clone(builtin));
            }
        }
        let stable = Arm::new(chains);
        let (mut canary, mut shadows) = (None, Vec::new());
        match trial {
            Some((TrialMode::Canary { percent }, members)) => {
                let salt = members.first().map_or([0; 32], |member| member.digest.0);
                canary = Some(Canary { arm: stable.with(&members), percent, salt });
            }
            Some((TrialMode::Shadow, members)) => shadows.extend(members.into_iter().map(|member| {
                let shadow = in_shadow(&stable, &member);
                (member, shadow)
            })),
            None => {}
        }
        let arms = || std::iter::once(&stable).chain(canary.as_ref().map(|canary| &canary.arm));
        let asked = arms().flat_map(|arm| arm.chain(Hook::RateLimit)).chain([&builtins[place(Hook::RateLimit)]]);
        let mut scopes = BTreeSet::new();
        for member in asked {
            let previous = member.previous.iter().flat_map(|previous| &previous.scopes);
            scopes.extend(member.scopes.iter().chain(previous).copied());
        }
        let scopes = scopes.into_iter().collect();
        let shares = arms().flat_map(|arm| arm.chain(Hook::RateLimit)).any(|member| member.shares);
        Generation {
            number,
            stable,
            canary,
            shadows,
            disabled,
            revoked,
            files,
            builtins,
            scopes,
            states: Arc::clone(&self.states),
            shared: self.shared.clone().filter(|_| shares),
            clock: Arc::clone(&self.deps.clock),
            luck: Luck::new(),
            micros: Vec::new(),
        }
    }
}

/// Shows it the calls of the plugin whose place it would take; else of the last.
fn in_shadow(stable: &Arm, member: &Member) -> Arc<Shadow> {
    let chain = stable.chain(member.hook);
    let live = chain.iter().find(|live| live.name == member.name);
    let shadow = Arc::new(Shadow::new(Arc::clone(&member.bare), member.state_version, live.is_some()));
    if let Some(live) = live.or(chain.last()) {
        live.component.show_to(Arc::clone(&shadow));
    }
    shadow
}

/// A plugin that keeps its place.
fn asleep(hook: Hook, entry: &Entry) -> PolicyInfo {
    PolicyInfo {
        hook,
        name: entry.name.as_str().into(),
        version: entry.version.as_str().into(),
        digest: Digest::parse(&entry.digest).unwrap_or(Digest([0; 32])),
        config: entry.config.clone(),
        on_failure: entry.on_failure,
        standing: Standing::Disabled,
        micros: 0.0,
        tally: Tally::default(),
    }
}
