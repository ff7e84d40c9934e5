//! The engine as the policies want it: loads plugin files into components, and keeps what plugins say.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;

use async_trait::async_trait;
use heddle_model::Hook;
use heddle_pack::Packed;
use heddle_policy::{Component, Loaded, Loader};
use heddle_wasm::{Compiler, Engine, LoadOptions, NativeCache, PluginLog};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::compile::ServerCompiler;
use crate::config::Config;
use crate::failure::Failure;

/// Behind everybody who serves.
const NICENESS: i32 = 10;
/// Plugins whose lines are kept; of more, those loaded first go.
const LOGS_MAX: usize = 64;

/// One engine, and where its native code is kept.
pub struct WasmLoader {
    engine: Engine,
    compiler: Arc<ServerCompiler>,
    cache: Mutex<NativeCache>,
    logs: PluginLogs,
}

/// What plugins wrote, by name and digest: a cheap handle.
#[derive(Clone)]
pub struct PluginLogs {
    kept: Arc<Mutex<Kept>>,
}

struct Kept {
    lines_max: usize,
    lines_per_second_max: u32,
    /// Grows by one with each plugin.
    next: u64,
    logs: BTreeMap<u64, (String, String, Arc<PluginLog>)>,
}

impl PluginLogs {
    /// Bounded as configured.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let (lines_max, lines_per_second_max) = super::settings::plugin_log(config);
        let kept = Kept { lines_max, lines_per_second_max, next: 0, logs: BTreeMap::new() };
        Self { kept: Arc::new(Mutex::new(kept)) }
    }

    fn bound(&self, config: &Config) {
        let (lines_max, lines_per_second_max) = super::settings::plugin_log(config);
        let mut kept = self.kept.lock();
        (kept.lines_max, kept.lines_per_second_max) = (lines_max, lines_per_second_max);
        kept.logs.values().for_each(|(.., log)| log.bound(lines_max, lines_per_second_max));
    }

    fn of(&self, name: &str, digest: &str) -> Arc<PluginLog> {
        let mut kept = self.kept.lock();
        if let Some((_, _, log)) = kept.logs.values().find(|(_, known, _)| known == digest) {
            return Arc::clone(log);
        }
        if kept.logs.len() >= LOGS_MAX {
            kept.logs.pop_first();
        }
        let log = Arc::new(PluginLog::new(kept.lines_max, kept.lines_per_second_max));
        let number = kept.next;
        kept.next += 1;
        kept.logs.insert(number, (name.to_owned(), digest.to_owned(), Arc::clone(&log)));
        log
    }

    /// For the admin listener.
    #[must_use]
    pub fn json(&self) -> Value {
        let one = |(name, digest, log): &(String, String, Arc<PluginLog>)| {
            let line = |line: heddle_wasm::LogLine| {
                json!({
                    "at": line.at, "level": format!("{:?}", line.level).to_lowercase(),
                    "source": format!("{:?}", line.source).to_lowercase(), "text": line.text,
                })
            };
            let lines: Vec<Value> = log.lines().into_iter().map(line).collect();
            json!({ "plugin": name, "digest": digest, "dropped": log.dropped(), "lines": lines })
        };
        Value::Array(self.kept.lock().logs.values().map(one).collect())
    }
}

impl WasmLoader {
    /// The one engine of the process.
    ///
    /// # Errors
    /// If the machine does not give it what it needs.
    pub fn new(config: &Config, logs: PluginLogs) -> Result<Self, Failure> {
        let compiler = Arc::new(ServerCompiler::new(config));
        let given = Arc::clone(&compiler) as Arc<dyn Compiler>;
        let engine = Engine::with_compiler(super::settings::engine(config), given)
            .map_err(|error| Failure::new(error.to_string()))?;
        Ok(Self { engine, compiler, cache: Mutex::new(super::settings::native_cache(config)), logs })
    }

    /// From now on limited as configured here, as far as the engine was not made for other limits.
    pub fn limit(&self, config: &Config) {
        self.engine.set_limits(super::settings::engine(config));
        self.compiler.bound(config);
        *self.cache.lock() = super::settings::native_cache(config);
        self.logs.bound(config);
    }

    fn cache(&self) -> Option<NativeCache> {
        Some(self.cache.lock().clone())
    }
}

#[async_trait]
impl Loader for WasmLoader {
    async fn load(&self, plugin: &Packed, _hook: Hook, config: &str) -> Result<Arc<dyn Component>, String> {
        let options = LoadOptions {
            config: Some(config.to_owned()),
            cache: self.cache(),
            log: self.logs.of(&plugin.manifest.name, &plugin.digest),
            // The same on every node and at every start.
            random_seed: plugin.digest.get(..16).and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or(0),
        };
        let (engine, plugin) = (self.engine.clone(), plugin.clone());
        let loaded = behind(move || engine.load(&plugin, &options)).await;
        let loaded = loaded.map_err(|error| format!("loading it failed: {error}"))?;
        Ok(Arc::new(Loaded(loaded.map_err(|error| error.to_string())?)))
    }

    async fn prove(&self, plugin: &Packed) -> Result<(), Vec<String>> {
        let (engine, plugin) = (self.engine.clone(), plugin.clone());
        let options = LoadOptions { cache: self.cache(), ..LoadOptions::default() };
        let proved = behind(move || engine.check_cases(&plugin, &options)).await;
        let report = proved.map_err(|error| vec![format!("running its cases failed: {error}")])?;
        report.map_err(|error| vec![error.to_string()])?.problems().map_or(Ok(()), Err)
    }
}

/// Does it on a thread of its own with the claim to a core that the compiler has: a deployment takes longer on a busy machine, and nobody who chats
/// waits for it.
async fn behind<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    let (done, answer) = oneshot::channel();
    let run = move || {
        // On Linux this is about the calling thread alone. Without it the thread competes, nothing else.
        let _ = rustix::process::setpriority_process(None, NICENESS);
        // Who asked may have gone.
        let _ = done.send(work());
    };
    thread::Builder::new().name("policy-load".to_owned()).spawn(run).map_err(|error| error.to_string())?;
    answer.await.map_err(|_| "its thread ended early, the log says why".to_owned())
}
