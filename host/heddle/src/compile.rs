//! `heddle compile-component`: the child that a server compiles in. Component in, native code out, within bounds that the kernel keeps.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use heddle_wasm::{ChildCompiler, CompileBounds, CompileError, Compiler, compile_child};
use parking_lot::Mutex;

use crate::cli::CompileComponentArgs;
use crate::config::Config;

/// The word before the bounds.
const VERB: &str = "compile-component";

/// What the server compiles with: this program again, within bounds that may change.
pub struct ServerCompiler(Mutex<ChildCompiler>);

impl ServerCompiler {
    /// Bounded as configured.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self(Mutex::new(child(config)))
    }

    /// Other bounds, for what is compiled from now on.
    pub fn bound(&self, config: &Config) {
        *self.0.lock() = child(config);
    }
}

impl Compiler for ServerCompiler {
    fn compile(&self, component: &[u8]) -> Result<Vec<u8>, CompileError> {
        let child = self.0.lock().clone();
        child.compile(component)
    }
}

/// What compiling one component may use.
pub(crate) fn bounds(config: &Config) -> CompileBounds {
    CompileBounds::new(config.policies.compile_time.0, config.policies.compile_memory.0)
}

/// The child, with its bounds.
pub(crate) fn child(config: &Config) -> ChildCompiler {
    ChildCompiler::this_program(&[VERB], bounds(config))
}

/// The child. What it says goes to the parent, without a name before it.
#[allow(clippy::print_stderr, reason = "the parent reads it")]
pub fn command(args: &CompileComponentArgs) -> ExitCode {
    let bounds = CompileBounds::new(Duration::from_secs(args.seconds), args.bytes);
    match compile_child(&bounds, io::stdin().lock(), io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::from(ChildCompiler::REFUSED)
        }
    }
}
