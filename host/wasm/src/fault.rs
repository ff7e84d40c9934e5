use std::fmt;

use wasmtime::{Trap, WasmBacktrace};

use crate::host::Host;

const TEXT_BYTES_MAX: usize = 2_048;
const FRAMES_MAX: usize = 20;

/// What went wrong in a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// The guest panicked, trapped or called `exit`.
    Trap,
    /// It used up its time.
    Deadline,
    /// It asked for more memory than it may have.
    Memory,
    /// It answered outside the contract's bounds.
    BadAnswer,
    /// It read text or data, or wrote a text, without `[reads] body = true`.
    BodyNotDeclared,
    /// It asked for the message in a call that has none.
    NoMessage,
    /// It does not export this hook.
    NotExported,
    /// All instances that the host may have are in use. Not the plugin's fault.
    Busy,
}

impl FaultKind {
    /// For metrics and stamps.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trap => "trap",
            Self::Deadline => "deadline",
            Self::Memory => "memory",
            Self::BadAnswer => "bad-answer",
            Self::BodyNotDeclared => "body-not-declared",
            Self::NoMessage => "no-message",
            Self::NotExported => "not-exported",
            Self::Busy => "busy",
        }
    }
}

/// A call without a usable answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What went wrong.
    pub kind: FaultKind,
    /// For the plugin's author: the panic's text if there is one.
    pub text: String,
    /// Names of the guest's functions, innermost first, at most 20.
    pub backtrace: Vec<String>,
}

impl Fault {
    pub(crate) fn new(kind: FaultKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into(), backtrace: Vec::new() }
    }

    pub(crate) fn bad_answer(text: impl Into<String>) -> Self {
        Self::new(FaultKind::BadAnswer, text)
    }

    /// Sorts an error of the engine. `host`: what the store saw during the call.
    pub(crate) fn sort(error: &wasmtime::Error, host: &Host) -> Self {
        let backtrace = frames(error);
        let printed = host.output.errors();
        let (kind, text) = if let Some(stop) = error.downcast_ref::<Stop>() {
            (stop.kind(), stop.to_string())
        } else if let Some(denied) = host.memory_denied() {
            let max = host.memory_max();
            (FaultKind::Memory, format!("asked for {denied} bytes of memory, `limits.memory` allows {max}"))
        } else if error.downcast_ref::<wasmtime::PoolConcurrencyLimitError>().is_some() {
            (FaultKind::Busy, "all instances of the pool are in use".to_owned())
        } else if let Some(trap) = error.downcast_ref::<Trap>() {
            let kind = if *trap == Trap::Interrupt { FaultKind::Deadline } else { FaultKind::Trap };
            (kind, if printed.is_empty() { trap.to_string() } else { printed })
        } else {
            (FaultKind::BadAnswer, format!("the answer cannot be read: {}", error.root_cause()))
        };
        Self { kind, text: crate::log::cut(&text, TEXT_BYTES_MAX).to_owned(), backtrace }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.as_str(), self.text)?;
        for frame in &self.backtrace {
            write!(f, "\n  at {frame}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}

/// Why the host stops a guest.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stop {
    #[error("used {deadline_ms} ms of CPU time, its deadline")]
    Cpu { deadline_ms: u32 },
    #[error("ran for {wall_ms} ms, ten times its deadline")]
    Wall { wall_ms: u64 },
    #[error("`message.{getter}` reads the body: add `body = true` under [reads] in plugin.toml")]
    BodyNotDeclared { getter: &'static str },
    #[error("`message.{getter}` is there only during a call of routing or fanout")]
    NoMessage { getter: &'static str },
    #[error("called `exit`: a policy answers, it does not end")]
    Exit,
    #[error("asked for {asked} random bytes, at most {max} are given at once")]
    Random { asked: u64, max: u64 },
}

impl Stop {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Cpu { .. } | Self::Wall { .. } => FaultKind::Deadline,
            Self::BodyNotDeclared { .. } => FaultKind::BodyNotDeclared,
            Self::NoMessage { .. } => FaultKind::NoMessage,
            Self::Exit | Self::Random { .. } => FaultKind::Trap,
        }
    }
}

fn frames(error: &wasmtime::Error) -> Vec<String> {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else { return Vec::new() };
    let text = backtrace.to_string();
    let lines = text.lines().filter_map(|line| line.trim().split_once(" - ").map(|(_, name)| name.to_owned()));
    lines.take(FRAMES_MAX).collect()
}
