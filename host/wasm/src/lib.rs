//! Runs the components that decide: engine, limits, warm instances, the contract's imports, and a deterministic, empty WASI.
//!
//! It deliberately does not know chains, generations or failure modes (`heddle-policy` does), and no type of `bindgen!` leaves it: calls speak the plain types of
//! [`heddle_pack::contract`]. Every call is synchronous, bounded in CPU time and memory, and answers a decision within the contract's bounds, or a [`Fault`].
//!
//! Read first: [`Engine`] (one per process; loads) and [`Plugin`] (a loaded, configured component; its methods are the calls).
//!
//! ```no_run
//! # use std::sync::Arc;
//! # use heddle_wasm::{Engine, Limits, LoadOptions};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let engine = Engine::new(Limits::default())?;
//! let packed = heddle_pack::unpack(std::fs::read("token-bucket.wasm")?)?;
//! let plugin = engine.load(&packed, &LoadOptions::default())?;
//! # let _ = plugin; Ok(()) }
//! ```

mod bindings;
mod bounds;
mod cache;
mod cases;
mod compile;
mod convert;
mod deadline;
mod engine;
mod fault;
mod host;
mod instance;
mod load;
mod log;
mod message;
mod native;
mod plugin;
mod trial;
mod wasi;

pub use cache::NativeCache;
pub use cases::{CaseReport, Mismatch, run_cases};
pub use compile::{ChildCompiler, CompileBounds, CompileError, Compiler, compile_child};
pub use engine::{Engine, EngineError, Limits};
pub use fault::{Fault, FaultKind};
pub use heddle_pack::contract;
pub use load::{LoadError, LoadOptions};
pub use log::{Level, LogLine, LogSink, LogSource, NoLog, PluginLog};
pub use message::{MessageView, NoMessage};
pub use plugin::Plugin;
pub use trial::Answered;
