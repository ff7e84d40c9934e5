//! Native code for components: made in this process, or in a child that has little time and memory.
//!
//! Compile time is outside what the engine guards: a small component can keep a compiler busy for minutes and cost it gigabytes. In a server that must
//! cost nobody anything, so there a [`ChildCompiler`] does it.

mod child;
mod parent;

pub use child::compile_child;
pub use parent::ChildCompiler;

use std::time::Duration;

/// Makes native code. Whatever makes it must use this crate's engine configuration, as [`compile_child`] does.
pub trait Compiler: Send + Sync + 'static {
    /// The native code of a component, as the engine serialises it. Blocks for as long as it takes.
    fn compile(&self, component: &[u8]) -> Result<Vec<u8>, CompileError>;
}

/// A component that costs a tenth of a second may take this long where others want all cores.
const WALL_MIN: Duration = Duration::from_secs(60);

/// What compiling one component may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileBounds {
    /// CPU time of all threads together; in whole seconds, at least one.
    pub cpu: Duration,
    /// Time by the clock.
    pub wall: Duration,
    /// Memory that is written to.
    pub memory_bytes: u64,
}

impl CompileBounds {
    /// By the clock it may take five times the CPU time, and a minute at least: a machine that is busy compiles slowly, for the child has the lowest
    /// claim to its cores.
    #[must_use]
    pub fn new(cpu: Duration, memory_bytes: u64) -> Self {
        Self { cpu, wall: (cpu * 5).max(WALL_MIN), memory_bytes }
    }

    fn cpu_seconds(&self) -> u64 {
        self.cpu.as_secs().max(1)
    }
}

impl Default for CompileBounds {
    /// For a JavaScript component with its engine inside, 15 s on two cores, twice over.
    fn default() -> Self {
        Self::new(Duration::from_secs(60), 2 << 30)
    }
}

/// Why there is no native code. For the plugin's author, and for the operator who deploys it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// The compiler read it and does not want it.
    #[error("{problem}")]
    Refused {
        /// What the compiler says.
        problem: String,
    },
    /// Too much work.
    #[error(
        "compiling took more than {seconds} s of CPU time: split what is large in it (one function of a hundred thousand instructions costs more \
         than a thousand of a hundred), or raise `policies.compile_time`"
    )]
    Cpu {
        /// As configured.
        seconds: u64,
    },
    /// Too slow: the machine is busy, or the compiler stands still.
    #[error(
        "compiling took more than {seconds} s by the clock: try again when the machine is less busy, or raise `policies.compile_time`"
    )]
    Wall {
        /// See [`CompileBounds::new`].
        seconds: u64,
    },
    /// Too large.
    #[error(
        "compiling took more than {mebibytes} MiB of memory: make the component smaller, or raise `policies.compile_memory`"
    )]
    Memory {
        /// As configured.
        mebibytes: u64,
    },
    /// The compiler fell.
    #[error("the compiler ended with {how}{}{said}", if said.is_empty() { "" } else { ": " })]
    Died {
        /// The signal or the exit code.
        how: String,
        /// The end of what it said.
        said: String,
    },
    /// No child to be had. Nothing that a plugin's author can mend.
    #[error("the compiler cannot be started: {0}")]
    Start(#[source] std::io::Error),
}
