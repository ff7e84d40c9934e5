//! Another policy set in place of the one that decides, while traffic flows: checked, loaded, proved, recorded, then one pointer swap.

use std::sync::Arc;

use bytes::Bytes;
use heddle_model::Hook;
use heddle_store::{AuditEntry, CatalogGeneration, StoreError};
use serde_json::{Map, Value, json};

use crate::content::{Content, Entry, digest};
use crate::load::{self, Plan, pack_hook};
use crate::policies::{Policies, establish};
use crate::seal::{self, Seal};
use crate::{ChangeError, Generation, PluginRef, PolicyConfig, PolicyDeps, PolicyLimits, measure};

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

impl Change {
    /// In a word, for the audit.
    fn word(&self) -> &'static str {
        match self {
            Self::Deploy { .. } => "deploy",
            Self::Configure { .. } => "configure",
            Self::Chain { .. } => "chain",
            Self::Remove { .. } => "remove",
            Self::Rollback { .. } => "rollback",
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
        let shared = &*self.shared;
        let _only = shared.changing.try_lock().map_err(|_| ChangeError::Busy)?;
        let (deps, limits) = (&shared.deps, &shared.limits);
        let newest = deps.catalog.newest_generation().await?.ok_or(ChangeError::Conflict)?;
        let before = Content::parse(&newest.json).ok_or_else(|| ChangeError::Unknown {
            what: format!("the content of generation {} in a form that this build reads", newest.number),
        })?;
        let base = match &request.change {
            Change::Rollback { to } => older(deps, newest.number, *to).await?,
            _ => before.clone(),
        };
        if let Change::Deploy { file, seal, .. } = &request.change {
            seal::admit(&shared.trust, deps, file, seal).await?;
        }
        let mut config = resolve(&base, deps, limits).await?;
        edit(&mut config, &request.change)?;
        let plan = Plan::check(&config, &deps.builtins).map_err(|problems| ChangeError::Refused { problems })?;
        let content = plan.content(Some(&before), &before.configured, limits);
        if content.canonical().1 == newest.content {
            return Ok(Changed { before: newest.number, now: self.current() });
        }
        if let Change::Deploy { file, .. } = &request.change {
            prove(deps, file).await?;
        }
        let said = (&*request.who, request.change.word(), &*request.why);
        let audit = audit(deps.clock.now(), said, Some(&newest), newest.number + 1, &content);
        let made = establish(&plan, &content, newest.number + 1, audit, &shared.states, limits, deps).await;
        let generation = made?.ok_or(ChangeError::Conflict)?;
        let warmed = tokio::task::spawn_blocking(move || {
            let mut generation = generation;
            generation.micros = measure::medians(&generation);
            generation
        });
        let generation = warmed.await.map_err(|error| ChangeError::Refused { problems: vec![error.to_string()] })?;
        let now = Arc::new(generation);
        let decided = shared.current.swap(Arc::clone(&now));
        tracing::info!(
            generation = now.number(),
            before = decided.number(),
            who = request.who,
            what = request.change.word(),
            why = request.why,
            "another policy set decides"
        );
        let before = decided.number();
        shared.older.lock().put(before, decided);
        Ok(Changed { before, now })
    }
}

impl Policies {
    /// The newest changes, newest first.
    ///
    /// # Errors
    /// The catalog does not answer.
    pub async fn history(&self, limit: u32) -> Result<Vec<AuditEntry>, StoreError> {
        self.shared.deps.catalog.audit(limit).await
    }
}

/// The content to go back to.
async fn older(deps: &PolicyDeps, newest: u64, to: Option<u64>) -> Result<Content, ChangeError> {
    let number = to.unwrap_or_else(|| newest.saturating_sub(1));
    let row = deps.catalog.generation(number).await?;
    row.and_then(|row| Content::parse(&row.json))
        .ok_or_else(|| ChangeError::Unknown { what: format!("generation {number}") })
}

/// The policy set of a content as an operator would have asked for it, with this build's built-in plugins.
pub(crate) async fn resolve(
    content: &Content,
    deps: &PolicyDeps,
    limits: &PolicyLimits,
) -> Result<PolicyConfig, ChangeError> {
    let mut config = PolicyConfig { limits: limits.clone(), ..PolicyConfig::default() };
    for hook in Hook::ALL {
        let builtin = content.builtins.get(&hook);
        if let Some(entry) = builtin {
            config.builtin_config.push((hook, recorded(deps, entry).await?.config));
        }
        let mut chain = Vec::new();
        for entry in content.chains.get(&hook).into_iter().flatten() {
            let mut plugin = recorded(deps, entry).await?;
            let own = deps.builtins.iter().find(|(of, _)| *of == hook);
            if let Some((_, bytes)) = own.filter(|_| builtin.is_some_and(|builtin| builtin.digest == entry.digest)) {
                plugin.bytes = Bytes::from_static(bytes);
            }
            chain.push(plugin);
        }
        config.chains.push((hook, chain));
    }
    Ok(config)
}

/// A plugin of the catalog, with what the operator had set.
async fn recorded(deps: &PolicyDeps, entry: &Entry) -> Result<PluginRef, ChangeError> {
    let file = match digest(&entry.digest) {
        Some(digest) => deps.catalog.plugin(digest).await?,
        None => None,
    };
    let file = file.ok_or_else(|| ChangeError::Unknown {
        what: format!("the file of {} {} in the catalog", entry.name, entry.digest),
    })?;
    let source = format!("{} {}", entry.name, entry.version);
    let plugin = PluginRef { source, bytes: file.bytes, config: entry.config.clone() };
    Ok(PluginRef { config: set_by_operator(&plugin), ..plugin })
}

/// Changes the chains.
fn edit(config: &mut PolicyConfig, change: &Change) -> Result<(), ChangeError> {
    match change {
        Change::Rollback { .. } => Ok(()),
        Change::Deploy { hook, file, .. } => deploy(config, *hook, file),
        Change::Configure { plugin, changes } => configure(config, plugin, changes),
        Change::Chain { hook, plugins } => order(config, *hook, plugins),
        Change::Remove { plugin, hook } => remove(config, plugin, *hook),
    }
}

fn deploy(config: &mut PolicyConfig, hook: Option<Hook>, file: &PluginRef) -> Result<(), ChangeError> {
    let refused = |problem: String| ChangeError::Refused { problems: vec![format!("{}: {problem}", file.source)] };
    let packed = heddle_pack::unpack(file.bytes.as_ref()).map_err(|error| refused(error.to_string()))?;
    let name = &packed.manifest.name;
    let declared = |hook: &Hook| pack_hook(*hook).is_some_and(|hook| packed.manifest.hooks.contains_key(&hook));
    let hooks: Vec<Hook> = match hook {
        Some(hook) => vec![hook],
        None => Hook::ALL.into_iter().filter(declared).collect(),
    };
    for hook in hooks {
        let chain = chain(config, hook);
        match chain.iter_mut().find(|plugin| name_of(plugin).as_ref() == Some(name)) {
            Some(plugin) => {
                let mut kept = set_by_operator(plugin);
                kept.extend(file.config.clone());
                *plugin = PluginRef { config: kept, ..file.clone() };
            }
            None => chain.push(file.clone()),
        }
    }
    Ok(())
}

fn configure(config: &mut PolicyConfig, name: &str, changes: &Map<String, Value>) -> Result<(), ChangeError> {
    let mut found = false;
    for hook in Hook::ALL {
        for plugin in chain(config, hook).iter_mut().filter(|plugin| name_of(plugin).as_deref() == Some(name)) {
            let mut kept = set_by_operator(plugin);
            kept.extend(changes.clone());
            kept.retain(|_, value| !value.is_null());
            plugin.config = kept;
            found = true;
        }
    }
    if found { Ok(()) } else { Err(ChangeError::Unknown { what: format!("plugin {name:?} in any chain") }) }
}

fn order(config: &mut PolicyConfig, hook: Hook, names: &[String]) -> Result<(), ChangeError> {
    let chain = chain(config, hook);
    let mut ordered = Vec::with_capacity(names.len());
    for name in names {
        let held = chain.iter().find(|plugin| name_of(plugin).as_ref() == Some(name)).cloned();
        ordered.push(held.ok_or_else(|| {
            let have: Vec<String> = chain.iter().filter_map(name_of).collect();
            ChangeError::Unknown {
                what: format!("plugin {name:?} in the chain of {hook}, only {}: deploy it first", have.join(", ")),
            }
        })?);
    }
    *chain = ordered;
    Ok(())
}

fn remove(config: &mut PolicyConfig, name: &str, hook: Option<Hook>) -> Result<(), ChangeError> {
    let mut found = false;
    for hook in Hook::ALL.into_iter().filter(|of| hook.is_none_or(|hook| hook == *of)) {
        chain(config, hook).retain(|plugin| {
            let goes = name_of(plugin).as_deref() == Some(name);
            found |= goes;
            !goes
        });
    }
    if found { Ok(()) } else { Err(ChangeError::Unknown { what: format!("plugin {name:?} in that chain") }) }
}

fn chain(config: &mut PolicyConfig, hook: Hook) -> &mut Vec<PluginRef> {
    let at = match config.chains.iter().position(|(of, _)| *of == hook) {
        Some(at) => at,
        None => {
            config.chains.push((hook, Vec::new()));
            config.chains.len() - 1
        }
    };
    &mut config.chains[at].1
}

fn name_of(plugin: &PluginRef) -> Option<String> {
    heddle_pack::unpack(plugin.bytes.as_ref()).ok().map(|packed| packed.manifest.name)
}

/// What differs from the manifest: it stays when the plugin's version changes.
fn set_by_operator(plugin: &PluginRef) -> Map<String, Value> {
    let packed = heddle_pack::unpack(plugin.bytes.as_ref()).ok();
    let defaults = packed.and_then(|packed| packed.manifest.config.as_object().cloned()).unwrap_or_default();
    plugin.config.clone().into_iter().filter(|(key, value)| defaults.get(key) != Some(value)).collect()
}

/// Runs the cases of a plugin that is new here.
async fn prove(deps: &PolicyDeps, file: &PluginRef) -> Result<(), ChangeError> {
    let unpacked = heddle_pack::unpack(file.bytes.as_ref());
    let packed = unpacked.map_err(|error| ChangeError::Refused { problems: vec![error.to_string()] })?;
    deps.loader.prove(&packed).await.map_err(|problems| ChangeError::Refused {
        problems: problems.into_iter().map(|problem| format!("{}: {problem}", file.source)).collect(),
    })
}

/// A row of the audit. `said`: who, what, why.
pub(crate) fn audit(
    at: u64,
    (who, what, why): (&str, &str, &str),
    before: Option<&CatalogGeneration>,
    number: u64,
    after: &Content,
) -> AuditEntry {
    let chains = |content: &Content| {
        let chains = content.chains.iter();
        json!(chains.map(|(hook, entries)| (hook.to_string(), json!(entries))).collect::<Map<_, _>>())
    };
    let before =
        before.map(|row| json!({ "generation": row.number, "chains": Content::parse(&row.json).as_ref().map(chains) }));
    let detail = json!({ "before": before, "after": { "generation": number, "chains": chains(after) } });
    AuditEntry { at, who: who.to_owned(), what: what.to_owned(), why: why.to_owned(), detail: detail.to_string() }
}

/// The newest content, if the operator's configuration is still the one that it grew from.
pub(crate) async fn grown(
    config: &PolicyConfig,
    newest: Option<&CatalogGeneration>,
    deps: &PolicyDeps,
) -> Option<PolicyConfig> {
    let content = newest.and_then(|newest| Content::parse(&newest.json))?;
    if content.configured != load::fingerprint(config) {
        return None;
    }
    match resolve(&content, deps, &config.limits).await {
        Ok(config) => Some(config),
        Err(error) => {
            tracing::error!(%error, "the newest policy set cannot be had, the configured one decides");
            None
        }
    }
}
