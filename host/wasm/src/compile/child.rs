//! The child's half: it gives up what it does not need, reads a component, writes native code.

use std::io::{self, Read, Write};

use heddle_pack::PACKED_BYTES_MAX;
use rustix::process::{Resource, Rlimit, getpriority_process, setpriority_process, setrlimit};

use crate::compile::CompileBounds;
use crate::engine::code_config;

/// Address space beyond what is written to: this program, its libraries, what allocators reserve.
const RESERVED_BYTES: u64 = 1 << 30;
/// Behind everybody who serves.
const NICENESS: i32 = 10;

/// What a process started by [`crate::ChildCompiler`] does: limits itself, reads a component from `input` to its end, and writes the native code to
/// `output`.
///
/// # Errors
/// The compiler's own words; or why the limits, `input` or `output` do not work.
pub fn compile_child(bounds: &CompileBounds, input: impl Read, mut output: impl Write) -> Result<(), String> {
    confine(bounds).map_err(|error| format!("the compiler cannot limit itself: {error}"))?;
    let mut component = Vec::new();
    let read = input.take(PACKED_BYTES_MAX as u64 + 1).read_to_end(&mut component);
    read.map_err(|error| format!("the component cannot be read: {error}"))?;
    let code = native(&component)?;
    output.write_all(&code).and_then(|()| output.flush()).map_err(|error| format!("nobody takes the code: {error}"))
}

/// Compiled with nothing that runs code: no pool of instances, no linker, no clock.
fn native(component: &[u8]) -> Result<Vec<u8>, String> {
    let engine = wasmtime::Engine::new(&code_config()).map_err(|error| format!("{error:#}"))?;
    engine.precompile_component(component).map_err(|error| format!("{error:#}"))
}

/// From here on this process writes no file, leaves no core behind, ends with its parent, and is stopped by the kernel at its limits.
fn confine(bounds: &CompileBounds) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    // Whoever started it may be behind the others already: that counts once.
    if getpriority_process(None)? < NICENESS {
        setpriority_process(None, NICENESS)?;
    }
    let seconds = bounds.cpu_seconds();
    limit(Resource::Core, 0, 0)?;
    limit(Resource::Fsize, 0, 0)?;
    // The first is a signal with a name (SIGXCPU), the second is not to be argued with.
    limit(Resource::Cpu, seconds, seconds + 1)?;
    limit(Resource::Data, bounds.memory_bytes, bounds.memory_bytes)?;
    let space = bounds.memory_bytes.saturating_add(RESERVED_BYTES);
    limit(Resource::As, space, space)
}

/// Lowers a limit; one that is lower already stays.
fn limit(resource: Resource, current: u64, maximum: u64) -> io::Result<()> {
    let given = rustix::process::getrlimit(resource);
    let lower = |wanted: u64, given: Option<u64>| Some(given.map_or(wanted, |given| given.min(wanted)));
    let limit = Rlimit { current: lower(current, given.maximum), maximum: lower(maximum, given.maximum) };
    setrlimit(resource, limit).map_err(io::Error::from)
}
