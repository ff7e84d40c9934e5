use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use toml::Table;

use crate::contract::Scope;
use crate::error::PackError;
use crate::keys::{Keys, closest, join};
use crate::memory_size;

/// Bytes of a `plugin.toml`.
pub const MANIFEST_BYTES_MAX: usize = 64 * 1024;
const MEMORY_DEFAULT: u64 = 16 << 20;
const MEMORY_MIN: u64 = 1 << 20;
const MEMORY_MAX: u64 = 1 << 30;
const DEADLINE_MS_DEFAULT: u32 = 5;
const DEADLINE_MS_MAX: u32 = 1_000;
const LIST_MAX: usize = 64;

/// The four places at which a policy decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hook {
    /// May this client do this now?
    RateLimit,
    /// What becomes of this message?
    Routing,
    /// Who of a group gets a message, and how?
    Fanout,
    /// What is a user's status, and who may know?
    Presence,
}

impl Hook {
    /// All of them, in the order of a message's path.
    pub const ALL: [Self; 4] = [Self::RateLimit, Self::Routing, Self::Fanout, Self::Presence];

    /// As configuration, manifest and metrics name it; the WIT interface has the same name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RateLimit => "rate-limit",
            Self::Routing => "routing",
            Self::Fanout => "fanout",
            Self::Presence => "presence",
        }
    }

    /// From its name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|hook| hook.as_str() == name)
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who decides when the plugin cannot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// The last good version of this plugin; none: the built-in one.
    Previous,
    /// The embedded first-party component.
    #[default]
    Builtin,
    /// Nobody: it is refused, or tried again later.
    Closed,
    /// Nobody: it passes. Rate limit and presence only.
    Open,
}

impl OnFailure {
    /// As the manifest spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Previous => "previous",
            Self::Builtin => "builtin",
            Self::Closed => "closed",
            Self::Open => "open",
        }
    }
}

/// Whose a rate limit's state is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Share {
    /// Each node counts what it serves.
    #[default]
    Node,
    /// All nodes count together, as long as what they share answers in time.
    Cluster,
}

impl Share {
    const ALL: [Self; 2] = [Self::Node, Self::Cluster];

    /// As the manifest spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Cluster => "cluster",
        }
    }
}

/// One `[hooks.NAME]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookManifest {
    /// Rate limit only: what is counted; the hook is called once for each.
    pub scopes: Vec<Scope>,
    /// Rate limit only: who counts together.
    #[serde(default)]
    pub share: Share,
    /// What happens on a fault.
    pub on_failure: OnFailure,
    /// Routing only: conversations that a message may be sent to instead, as `group:ID`.
    pub redirect_to: Vec<String>,
}

/// `[limits]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Linear memory of one instance.
    pub memory_bytes: u64,
    /// CPU time of one call.
    pub deadline_ms: u32,
}

/// `[build]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// Program and arguments, run in the plugin's folder.
    pub command: Vec<String>,
    /// The component that the command writes, from the plugin's folder.
    pub artifact: String,
    /// What `heddle plugin dev` watches, as globs.
    pub watch: Vec<String>,
}

/// A checked `plugin.toml`.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// 1 to 64 of `a-z`, `0-9` and `-`.
    pub name: String,
    /// The plugin's version, as in `0.1.0`.
    pub version: String,
    /// Of the bytes that a rate limit returns.
    pub state_version: u32,
    /// The hooks that the component exports; at least one.
    pub hooks: BTreeMap<Hook, HookManifest>,
    /// `[reads] body`: may it read text and data?
    pub reads_body: bool,
    /// What a call may use.
    pub limits: Limits,
    /// How to build it; needed only by `heddle plugin build`.
    pub build: Option<Build>,
    /// `[config]` as JSON, an object.
    pub config: serde_json::Value,
    source: String,
}

impl Manifest {
    /// Checks the text of a `plugin.toml` (`place` is how errors name it) and reports everything that is wrong at once.
    pub fn parse(text: &str, place: &str) -> Result<Self, PackError> {
        let refused = |problems| PackError::Manifest { place: place.to_owned(), problems };
        if text.len() > MANIFEST_BYTES_MAX {
            return Err(refused(vec![format!("{} bytes, at most {MANIFEST_BYTES_MAX} are allowed", text.len())]));
        }
        let table: Table = text.parse().map_err(|error: toml::de::Error| refused(vec![error.to_string()]))?;
        let mut keys = Keys::new();
        keys.only(&table, "", &["name", "version", "state_version", "hooks", "reads", "limits", "build", "config"]);
        let manifest = Self {
            name: read_name(&mut keys, &table),
            version: read_version(&mut keys, &table),
            state_version: keys.number(&table, "", "state_version", 1, u32::MAX).unwrap_or(1),
            hooks: read_hooks(&mut keys, &table),
            reads_body: read_reads(&mut keys, &table),
            limits: read_limits(&mut keys, &table),
            build: read_build(&mut keys, &table),
            config: read_config(&mut keys, &table),
            source: text.to_owned(),
        };
        if keys.problems.is_empty() { Ok(manifest) } else { Err(refused(keys.problems)) }
    }

    /// The text that it was read from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// `[config]` as the text that `configure` gets.
    pub fn config_json(&self) -> String {
        self.config.to_string()
    }
}

fn read_name(keys: &mut Keys, table: &Table) -> String {
    let name = keys.string(table, "", "name").unwrap_or_default();
    let fits = (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-');
    match table.get("name") {
        None => keys.problem("name", "missing, give the plugin a name"),
        Some(_) if !fits => {
            keys.problem("name", format!("{name:?} is no name, use 1 to 64 of a-z, 0-9 and -, not starting with -"));
        }
        Some(_) => {}
    }
    name.to_owned()
}

fn read_version(keys: &mut Keys, table: &Table) -> String {
    let version = keys.string(table, "", "version").unwrap_or_default();
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let parts: Vec<&str> = core.split('.').collect();
    let fits = version.len() <= 64
        && version.bytes().all(|b| b.is_ascii_alphanumeric() || b".-+".contains(&b))
        && parts.len() == 3
        && parts.iter().all(|part| part.parse::<u32>().is_ok());
    match table.get("version") {
        None => keys.problem("version", "missing, write it as in \"0.1.0\""),
        Some(_) if !fits => keys.problem("version", format!("{version:?} is no version, write it as in \"0.1.0\"")),
        Some(_) => {}
    }
    version.to_owned()
}

fn read_hooks(keys: &mut Keys, table: &Table) -> BTreeMap<Hook, HookManifest> {
    let mut hooks = BTreeMap::new();
    let Some(named) = keys.table(table, "", "hooks") else {
        if !table.contains_key("hooks") {
            keys.problem("hooks", "missing, name a hook, as in [hooks.routing]");
        }
        return hooks;
    };
    if named.is_empty() {
        keys.problem("hooks", "empty, name a hook, as in [hooks.routing]");
    }
    keys.only(named, "hooks", &Hook::ALL.map(Hook::as_str));
    for hook in Hook::ALL {
        if let Some(inner) = keys.table(named, "hooks", hook.as_str()) {
            hooks.insert(hook, read_hook(keys, inner, hook));
        }
    }
    hooks
}

fn read_hook(keys: &mut Keys, table: &Table, hook: Hook) -> HookManifest {
    let path = format!("hooks.{hook}");
    let known: &[&str] = match hook {
        Hook::RateLimit => &["on_failure", "scopes", "share"],
        Hook::Routing => &["on_failure", "redirect_to"],
        Hook::Fanout | Hook::Presence => &["on_failure"],
    };
    keys.only(table, &path, known);
    let on_failure = read_on_failure(keys, table, hook, &path);
    let mut scopes = Vec::new();
    if hook == Hook::RateLimit {
        for name in keys.strings(table, &path, "scopes").unwrap_or_else(|| vec!["user".to_owned()]) {
            match Scope::ALL.into_iter().find(|scope| scope.as_str() == name) {
                Some(scope) if scopes.contains(&scope) => {
                    keys.problem(&join(&path, "scopes"), format!("{name:?} stands in it twice"));
                }
                Some(scope) => scopes.push(scope),
                None => keys.problem(&join(&path, "scopes"), one_of(&name, &Scope::ALL.map(Scope::as_str))),
            }
        }
        if table.get("scopes").and_then(toml::Value::as_array).is_some_and(Vec::is_empty) {
            keys.problem(&join(&path, "scopes"), "empty, name at least one scope, as in [\"user\"]");
        }
    }
    let share = match hook {
        Hook::RateLimit => read_share(keys, table, &path, &scopes),
        _ => Share::default(),
    };
    let redirect_to = match hook {
        Hook::Routing => keys.strings(table, &path, "redirect_to").unwrap_or_default(),
        _ => Vec::new(),
    };
    let place = join(&path, "redirect_to");
    for target in &redirect_to {
        if !target.strip_prefix("group:").is_some_and(|id| (1..=64).contains(&id.len())) {
            keys.problem(&place, format!("{target:?} is no conversation, write it as in \"group:ID\""));
        }
    }
    at_most(keys, &place, redirect_to.len());
    HookManifest { scopes, share, on_failure, redirect_to }
}

fn read_share(keys: &mut Keys, table: &Table, path: &str, scopes: &[Scope]) -> Share {
    let place = join(path, "share");
    let Some(name) = keys.string(table, path, "share") else { return Share::default() };
    let Some(share) = Share::ALL.into_iter().find(|share| share.as_str() == name) else {
        keys.problem(&place, one_of(name, &Share::ALL.map(Share::as_str)));
        return Share::default();
    };
    if share == Share::Cluster && scopes == [Scope::Connection] {
        keys.problem(
            &place,
            "\"cluster\" shares nothing of the scope \"connection\", a connection lives on one node: leave it out",
        );
    }
    share
}

fn read_on_failure(keys: &mut Keys, table: &Table, hook: Hook, path: &str) -> OnFailure {
    let all = [OnFailure::Previous, OnFailure::Builtin, OnFailure::Closed, OnFailure::Open];
    let open = matches!(hook, Hook::RateLimit | Hook::Presence);
    let offered: Vec<&str> =
        all.iter().filter(|mode| open || **mode != OnFailure::Open).map(|mode| mode.as_str()).collect();
    let place = join(path, "on_failure");
    match keys.string(table, path, "on_failure") {
        None => OnFailure::default(),
        Some("open") if !open => {
            keys.problem(&place, format!("\"open\" is not offered for {hook}, use one of {}", offered.join(", ")));
            OnFailure::default()
        }
        Some(name) => all.into_iter().find(|mode| mode.as_str() == name).unwrap_or_else(|| {
            keys.problem(&place, one_of(name, &offered));
            OnFailure::default()
        }),
    }
}

fn read_reads(keys: &mut Keys, table: &Table) -> bool {
    let Some(reads) = keys.table(table, "", "reads") else { return false };
    keys.only(reads, "reads", &["body"]);
    keys.boolean(reads, "reads", "body").unwrap_or(false)
}

fn read_limits(keys: &mut Keys, table: &Table) -> Limits {
    let mut limits = Limits { memory_bytes: MEMORY_DEFAULT, deadline_ms: DEADLINE_MS_DEFAULT };
    let Some(given) = keys.table(table, "", "limits") else { return limits };
    keys.only(given, "limits", &["memory", "deadline_ms"]);
    if let Some(text) = keys.string(given, "limits", "memory") {
        match memory_size::parse(text) {
            Some(bytes) if (MEMORY_MIN..=MEMORY_MAX).contains(&bytes) => limits.memory_bytes = bytes,
            Some(_) => keys.problem("limits.memory", format!("{text:?} is out of bounds, give 1 MiB to 1 GiB")),
            None => keys.problem("limits.memory", format!("{text:?} is no size, write it as in \"16 MiB\"")),
        }
    }
    if let Some(ms) = keys.number(given, "limits", "deadline_ms", 1, DEADLINE_MS_MAX) {
        limits.deadline_ms = ms;
    }
    limits
}

fn read_build(keys: &mut Keys, table: &Table) -> Option<Build> {
    let given = keys.table(table, "", "build")?;
    keys.only(given, "build", &["command", "artifact", "watch"]);
    let command = keys.strings(given, "build", "command").unwrap_or_default();
    let artifact = keys.string(given, "build", "artifact").unwrap_or_default().to_owned();
    let watch = keys.strings(given, "build", "watch").unwrap_or_default();
    if command.is_empty() && !keys.problems.iter().any(|problem| problem.starts_with("build.command")) {
        keys.problem("build.command", "missing, write program and arguments, as in [\"cargo\", \"build\"]");
    }
    if !given.contains_key("artifact") {
        keys.problem("build.artifact", "missing, name the file that the build writes");
    }
    at_most(keys, "build.command", command.len());
    at_most(keys, "build.watch", watch.len());
    Some(Build { command, artifact, watch })
}

fn read_config(keys: &mut Keys, table: &Table) -> serde_json::Value {
    let Some(given) = keys.table(table, "", "config") else { return serde_json::json!({}) };
    match serde_json::to_value(given) {
        Ok(value) => value,
        Err(error) => {
            keys.problem("config", error.to_string());
            serde_json::json!({})
        }
    }
}

fn one_of(name: &str, known: &[&str]) -> String {
    match closest(name, known) {
        Some(near) => format!("{name:?} is unknown, did you mean {near:?}?"),
        None => format!("{name:?} is unknown, use one of {}", known.join(", ")),
    }
}

fn at_most(keys: &mut Keys, place: &str, count: usize) {
    if count > LIST_MAX {
        keys.problem(place, format!("{count} entries, at most {LIST_MAX} are allowed"));
    }
}
