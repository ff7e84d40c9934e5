use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use heddle_pack::contract::Moment;
use heddle_pack::{Hook, Manifest, PackError, Packed};
use parking_lot::Mutex;
use wasmtime::Store;
use wasmtime::component::{Component, Instance as Linked, InstancePre};

use crate::bindings::exports::heddle::policy::{fanout, lifecycle, presence, rate_limit, routing, state_migration};
use crate::cache::{self, Native, NativeCache};
use crate::compile::CompileError;
use crate::deadline;
use crate::engine::{Engine, Inner};
use crate::fault::{Fault, FaultKind};
use crate::host::Host;
use crate::instance::{Hooks, Instance};
use crate::log::{LogSink, NoLog};
use crate::plugin::Plugin;
use crate::wasi;

const VERSION: &str = "@0.1.0";

/// How a plugin is loaded.
pub struct LoadOptions {
    /// JSON for `configure`; none: the manifest's `[config]`.
    pub config: Option<String>,
    /// Where native code is kept; none: it is compiled each time.
    pub cache: Option<NativeCache>,
    /// Takes what the plugin writes.
    pub log: Arc<dyn LogSink>,
    /// The constant that WASI's random numbers come from: the same for all nodes of a generation.
    pub random_seed: u64,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self { config: None, cache: None, log: Arc::new(NoLog), random_seed: 0 }
    }
}

/// Why a plugin is not admitted. The text is for its author, and for the operator who deploys it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// Not a plugin file.
    #[error(transparent)]
    File(#[from] PackError),
    /// More than the operator gives.
    #[error(
        "`{key}` = {asked} in plugin.toml is above this host's limit of {max}: lower it, or raise the host's limit"
    )]
    OverLimit {
        /// The manifest's key.
        key: &'static str,
        /// As the manifest says.
        asked: u64,
        /// As the host allows.
        max: u64,
    },
    /// The engine refuses the code, or it costs too much to compile.
    #[error("the component does not compile: {0}")]
    Compile(#[from] CompileError),
    /// Another world, or another version of it.
    #[error("plugin.toml names the hook {hook}, but the component exports no `{wanted}`; it exports {found}")]
    MissingExport {
        /// The hook, or `lifecycle`, which every policy has.
        hook: String,
        /// The interface.
        wanted: String,
        /// What it exports instead.
        found: String,
    },
    /// Something that this host does not give.
    #[error(
        "the component imports `{import}`, which a policy does not get: no files, sockets, clocks or services, only heddle:policy and the basics of WASI 0.2"
    )]
    UnknownImport {
        /// The interface.
        import: String,
    },
    /// Right name, wrong type.
    #[error(
        "`{interface}` has another type than heddle:policy 0.1.0 says: {problem}; build it against this host's wit/"
    )]
    WrongType {
        /// The interface.
        interface: String,
        /// What differs.
        problem: String,
    },
    /// It fell at start.
    #[error("it failed at start: {0}")]
    Start(#[source] Fault),
    /// It fell in `configure`.
    #[error("it failed in `configure`: {0}")]
    ConfigureFault(#[source] Fault),
    /// It does not want this configuration.
    #[error("it refuses its configuration: {text}")]
    Refused {
        /// In its own words.
        text: String,
    },
}

/// All that is needed for another instance.
pub(crate) struct Blueprint {
    pre: InstancePre<Host>,
    lifecycle: lifecycle::GuestIndices,
    rate_limit: Option<rate_limit::GuestIndices>,
    state_migration: Option<state_migration::GuestIndices>,
    routing: Option<routing::GuestIndices>,
    fanout: Option<fanout::GuestIndices>,
    presence: Option<presence::GuestIndices>,
    log: Arc<dyn LogSink>,
    random_seed: u64,
    reads_body: bool,
    memory_bytes_max: usize,
    deadline_ms: u32,
    /// Not removed from the disk while this lives.
    _native: Option<Arc<Path>>,
}

/// Why there is no instance.
pub(crate) enum Failure {
    Type { interface: &'static str, problem: String },
    Start(Fault),
    Configure(Fault),
    Refused(String),
}

impl Failure {
    pub(crate) fn into_fault(self) -> Fault {
        match self {
            Self::Start(fault) | Self::Configure(fault) => fault,
            Self::Type { problem, .. } => Fault::new(FaultKind::Trap, problem),
            Self::Refused(text) => {
                Fault::new(FaultKind::Trap, format!("refused its configuration, once accepted: {text}"))
            }
        }
    }
}

impl Engine {
    /// Checks, compiles, starts and configures a plugin; its first instance stays warm. Takes from milliseconds (native code cached) to seconds: call it on
    /// a thread that may block.
    pub fn load(&self, packed: &Packed, options: &LoadOptions) -> Result<Arc<Plugin>, LoadError> {
        let manifest = &packed.manifest;
        self.within_limits(manifest)?;
        let native = cache::compile(&self.inner, &packed.bytes, &packed.digest, options.cache.as_ref())?;
        check_names(&self.inner, &native.component, manifest)?;
        let blueprint = self.blueprint(native, manifest, options)?;
        let config = options.config.clone().unwrap_or_else(|| manifest.config_json());
        let first = blueprint.instance(&self.inner, &config).map_err(|failure| match failure {
            Failure::Type { interface, problem } => {
                LoadError::WrongType { interface: format!("heddle:policy/{interface}"), problem }
            }
            Failure::Start(fault) => LoadError::Start(fault),
            Failure::Configure(fault) => LoadError::ConfigureFault(fault),
            Failure::Refused(text) => LoadError::Refused { text },
        })?;
        Ok(Arc::new(Plugin {
            inner: Arc::clone(&self.inner),
            blueprint: Arc::new(blueprint),
            manifest: manifest.clone(),
            cases: packed.cases.clone(),
            digest: packed.digest.clone(),
            config,
            warm: Mutex::new(vec![first]),
            keeps_warm: true,
            memory_bytes: AtomicUsize::new(0),
        }))
    }

    /// Takes a plugin file apart and loads it.
    pub fn load_bytes(&self, bytes: impl Into<Arc<[u8]>>, options: &LoadOptions) -> Result<Arc<Plugin>, LoadError> {
        self.load(&heddle_pack::unpack(bytes)?, options)
    }

    fn within_limits(&self, manifest: &Manifest) -> Result<(), LoadError> {
        let limits = self.inner.limits.load();
        let (memory, deadline) = (manifest.limits.memory_bytes, manifest.limits.deadline_ms);
        if memory > limits.memory_bytes_max as u64 {
            return Err(LoadError::OverLimit {
                key: "limits.memory",
                asked: memory,
                max: limits.memory_bytes_max as u64,
            });
        }
        if deadline > limits.deadline_ms_max {
            let (asked, max) = (u64::from(deadline), u64::from(limits.deadline_ms_max));
            return Err(LoadError::OverLimit { key: "limits.deadline_ms", asked, max });
        }
        Ok(())
    }

    fn blueprint(&self, native: Native, manifest: &Manifest, options: &LoadOptions) -> Result<Blueprint, LoadError> {
        let pre = self.inner.linker.instantiate_pre(&native.component).map_err(|error| LoadError::WrongType {
            interface: "an import".to_owned(),
            problem: format!("{error:#}"),
        })?;
        let wrong = |interface: &str, error: wasmtime::Error| LoadError::WrongType {
            interface: format!("heddle:policy/{interface}"),
            problem: format!("{error:#}"),
        };
        macro_rules! indices {
            ($hook:ident, $module:ident) => {
                match manifest.hooks.contains_key(&Hook::$hook) {
                    true => Some($module::GuestIndices::new(&pre).map_err(|error| wrong(Hook::$hook.as_str(), error))?),
                    false => None,
                }
            };
        }
        Ok(Blueprint {
            lifecycle: lifecycle::GuestIndices::new(&pre).map_err(|error| wrong("lifecycle", error))?,
            rate_limit: indices!(RateLimit, rate_limit),
            state_migration: state_migration::GuestIndices::new(&pre).ok(),
            routing: indices!(Routing, routing),
            fanout: indices!(Fanout, fanout),
            presence: indices!(Presence, presence),
            log: Arc::clone(&options.log),
            random_seed: options.random_seed,
            reads_body: manifest.reads_body,
            memory_bytes_max: usize::try_from(manifest.limits.memory_bytes).unwrap_or(usize::MAX),
            deadline_ms: manifest.limits.deadline_ms,
            _native: native.file,
            pre,
        })
    }
}

impl Blueprint {
    pub(crate) fn migrates_state(&self) -> bool {
        self.state_migration.is_some()
    }

    /// A new store with a started and configured instance.
    pub(crate) fn instance(&self, inner: &Inner, config: &str) -> Result<Instance, Failure> {
        let (log, memory_bytes_max) = (Arc::clone(&self.log), self.memory_bytes_max);
        let limits = inner.limits.load();
        let activity = inner.activity.clone();
        let host = Host::new(log, self.random_seed, self.reads_body, memory_bytes_max, &limits, activity);
        let mut store = Store::new(&inner.engine, host);
        store.limiter(|host| host);
        store.set_hostcall_fuel(limits.hostcall_bytes_max);
        deadline::install(&mut store);
        store.data_mut().begin(Moment::default(), None);
        deadline::start(&mut store, limits.start_ms_max);
        let linked = match self.pre.instantiate(&mut store) {
            Ok(linked) => linked,
            Err(error) => return Err(Failure::Start(Fault::sort(&error, store.data()))),
        };
        let (lifecycle, hooks) = self.hooks(&mut store, &linked)?;
        store.data_mut().begin(Moment::default(), None);
        deadline::start(&mut store, limits.start_ms_max);
        match lifecycle.call_configure(&mut store, config) {
            Ok(Ok(())) => {}
            Ok(Err(text)) => return Err(Failure::Refused(text)),
            Err(error) => return Err(Failure::Configure(Fault::sort(&error, store.data()))),
        }
        let (deadline_ms, reads_body) = (self.deadline_ms, self.reads_body);
        Ok(Instance { store, hooks, deadline_ms, reads_body, calls: 0, spent: false })
    }

    fn hooks(&self, store: &mut Store<Host>, linked: &Linked) -> Result<(lifecycle::Guest, Hooks), Failure> {
        let wrong =
            |interface| move |error: wasmtime::Error| Failure::Type { interface, problem: format!("{error:#}") };
        macro_rules! guest {
            ($field:ident, $name:literal) => {
                match &self.$field {
                    Some(indices) => Some(indices.load(&mut *store, linked).map_err(wrong($name))?),
                    None => None,
                }
            };
        }
        let lifecycle = self.lifecycle.load(&mut *store, linked).map_err(wrong("lifecycle"))?;
        let hooks = Hooks {
            rate_limit: guest!(rate_limit, "rate-limit"),
            state_migration: guest!(state_migration, "state-migration"),
            routing: guest!(routing, "routing"),
            fanout: guest!(fanout, "fanout"),
            presence: guest!(presence, "presence"),
        };
        Ok((lifecycle, hooks))
    }
}

/// Are the interfaces there that the manifest promises, and none imported that nobody gives?
fn check_names(inner: &Inner, component: &Component, manifest: &Manifest) -> Result<(), LoadError> {
    let ty = component.component_type();
    for (import, _) in ty.imports(&inner.engine) {
        let name = import.split('@').next().unwrap_or(import);
        if !wasi::LINKED.contains(&name) && name != "heddle:policy/types" {
            return Err(LoadError::UnknownImport { import: import.to_owned() });
        }
    }
    let exports: Vec<&str> = ty.exports(&inner.engine).map(|(name, _)| name).collect();
    let wanted = manifest.hooks.keys().map(|hook| hook.as_str()).chain(["lifecycle"]);
    for hook in wanted {
        let interface = format!("heddle:policy/{hook}{VERSION}");
        if !exports.contains(&interface.as_str()) {
            let found = if exports.is_empty() { "nothing".to_owned() } else { exports.join(", ") };
            return Err(LoadError::MissingExport { hook: hook.to_owned(), wanted: interface, found });
        }
    }
    Ok(())
}
