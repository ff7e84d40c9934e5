use std::num::NonZeroUsize;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use wasmtime::component::Linker;
use wasmtime::{Config, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, Strategy, WasmBacktraceDetails};

use crate::compile::Compiler;
use crate::deadline::Activity;
use crate::host::{self, Host};
use crate::native::InUse;
use crate::wasi;

/// While something runs.
const TICK: Duration = Duration::from_millis(1);
/// While nothing does: a call that begins then is looked at as much later.
const IDLE_TICK: Duration = Duration::from_millis(5);

/// What plugins may use, whatever their manifests say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory of an instance, at most; a manifest that asks for more is refused.
    pub memory_bytes_max: usize,
    /// CPU time of a call, at most; a manifest that asks for more is refused.
    pub deadline_ms_max: u32,
    /// CPU time of a start and of `configure`, each: embedded engines unpack themselves.
    pub start_ms_max: u32,
    /// Stack of a call. It lies on that of the thread that calls.
    pub stack_bytes_max: usize,
    /// Elements of one table; embedded engines need about 8,000.
    pub table_elements_max: usize,
    /// Instances at one time, of all plugins together: workers, times live plugins, times 2.
    pub instances_max: u32,
    /// Warm instances that a plugin keeps when nobody calls.
    pub warm_max: usize,
    /// Calls after which an instance is renewed.
    pub calls_per_instance_max: u64,
    /// Bytes that a call may hand to the host in lists and strings.
    pub hostcall_bytes_max: usize,
    /// Lines that a call may write; what follows is dropped.
    pub log_lines_per_call_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes_max: 64 << 20,
            deadline_ms_max: 50,
            start_ms_max: 500,
            stack_bytes_max: 256 << 10,
            table_elements_max: 20_000,
            instances_max: 256,
            warm_max: 32,
            calls_per_instance_max: 100_000,
            hostcall_bytes_max: 4 << 20,
            log_lines_per_call_max: 64,
        }
    }
}

/// The engine could not be made.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Mostly too little address space.
    #[error(
        "cannot make the WebAssembly engine: {problem}; lower `instances_max` ({instances_max}) if address space is limited"
    )]
    Make {
        /// What the engine says.
        problem: String,
        /// As configured.
        instances_max: u32,
    },
    /// No thread to be had.
    #[error("cannot start the thread that keeps the plugins' time")]
    Ticker(#[source] std::io::Error),
}

/// Compiles and runs components. One per process; cheap to clone.
#[derive(Clone)]
pub struct Engine {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) engine: wasmtime::Engine,
    pub(crate) linker: Linker<Host>,
    pub(crate) limits: ArcSwap<Limits>,
    pub(crate) compiler: Option<Arc<dyn Compiler>>,
    /// One at a time, whoever compiles.
    pub(crate) compiling: Mutex<()>,
    /// Files of native code that loaded plugins came from.
    pub(crate) in_use: InUse,
    /// Whether anything runs whose time the clock keeps.
    pub(crate) activity: Activity,
}

impl Engine {
    /// An engine that compiles in this process: for tests and tools. A server has a [`crate::ChildCompiler`].
    pub fn new(limits: Limits) -> Result<Self, EngineError> {
        Self::make(limits, None)
    }

    /// An engine whose native code comes from `compiler`.
    pub fn with_compiler(limits: Limits, compiler: Arc<dyn Compiler>) -> Result<Self, EngineError> {
        Self::make(limits, Some(compiler))
    }

    /// Makes the engine and starts its clock, a thread that ends with the last clone of it and the last plugin.
    fn make(limits: Limits, compiler: Option<Arc<dyn Compiler>>) -> Result<Self, EngineError> {
        let make = |error: wasmtime::Error| EngineError::Make {
            problem: format!("{error:#}"),
            instances_max: limits.instances_max,
        };
        let engine = wasmtime::Engine::new(&config(&limits)).map_err(make)?;
        let mut linker = Linker::new(&engine);
        host::link(&mut linker).and_then(|()| wasi::link(&mut linker)).map_err(make)?;
        let inner = Arc::new(Inner {
            engine,
            linker,
            limits: ArcSwap::from_pointee(limits),
            compiler,
            compiling: Mutex::new(()),
            in_use: InUse::default(),
            activity: Activity::default(),
        });
        let weak = Arc::downgrade(&inner);
        let spawned = thread::Builder::new().name("policy-clock".to_owned()).spawn(move || tick(&weak));
        spawned.map_err(EngineError::Ticker)?;
        Ok(Self { inner })
    }

    /// Those that hold now.
    pub fn limits(&self) -> Arc<Limits> {
        self.inner.limits.load_full()
    }

    /// Others hold from now on: for plugins that are loaded, and for instances that are made, after this. What the engine was made for stays: memory,
    /// stack, tables and the number of instances.
    pub fn set_limits(&self, limits: Limits) {
        let made = self.inner.limits.load();
        let limits = Limits {
            memory_bytes_max: made.memory_bytes_max,
            stack_bytes_max: made.stack_bytes_max,
            table_elements_max: made.table_elements_max,
            instances_max: made.instances_max,
            ..limits
        };
        self.inner.limits.store(Arc::new(limits));
    }
}

/// An engine that runs: what [`code_config`] says, and where instances live, which the code does not depend on.
fn config(limits: &Limits) -> Config {
    let instances = limits.instances_max;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(8))
        .total_memories(instances.saturating_mul(2))
        .total_tables(instances.saturating_mul(4))
        .max_core_instances_per_component(32)
        .max_memories_per_component(8)
        .max_tables_per_component(32)
        .table_elements(limits.table_elements_max)
        .max_memory_size(limits.memory_bytes_max);
    let mut config = code_config();
    config
        .max_wasm_stack(limits.stack_bytes_max)
        // Not used, for all calls are synchronous; it may not be smaller.
        .async_stack_size(limits.stack_bytes_max.max(1 << 20))
        .wasm_backtrace_max_frames(NonZeroUsize::new(20))
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config
}

/// All that native code depends on. Who compiles and who runs must agree in it, so both have it from here; the engine refuses code that was made otherwise.
pub(crate) fn code_config() -> Config {
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .cranelift_opt_level(OptLevel::Speed)
        .cranelift_nan_canonicalization(true)
        .concurrency_support(false)
        .epoch_interruption(true)
        .wasm_relaxed_simd(false)
        .wasm_memory64(false)
        .wasm_component_model(true);
    config
}

fn tick(engine: &Weak<Inner>) {
    while let Some(inner) = engine.upgrade() {
        inner.engine.increment_epoch();
        let pause = if inner.activity.take() { TICK } else { IDLE_TICK };
        drop(inner);
        thread::sleep(pause);
    }
}
