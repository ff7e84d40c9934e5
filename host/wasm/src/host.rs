use std::sync::Arc;

use heddle_pack::contract::Moment;
use wasmtime::ResourceLimiter;
use wasmtime::component::{HasData, Linker, ResourceTable};
use wasmtime_wasi::WasiCtx;

use crate::bindings::heddle::policy::{log, message, types};
use crate::deadline::{Activity, Deadline};
use crate::engine::Limits;
use crate::fault::Stop;
use crate::log::{LINE_BYTES_MAX, Level, LogLine, LogSink, LogSource, cut};
use crate::message::Held;

const ERRORS_BYTES_MAX: usize = 2_048;

/// What one store knows: of the call that runs, and of its instance's memory.
pub(crate) struct Host {
    pub(crate) at: Moment,
    pub(crate) message: Option<Held>,
    pub(crate) deadline: Deadline,
    pub(crate) activity: Activity,
    pub(crate) output: Output,
    pub(crate) random: u64,
    pub(crate) wasi: WasiCtx,
    pub(crate) table: ResourceTable,
    random_seed: u64,
    reads_body: bool,
    memory: Memory,
    table_elements_max: usize,
}

struct Memory {
    bytes_max: usize,
    bytes: usize,
    denied: Option<usize>,
}

impl Host {
    /// `memory_bytes_max`: as the manifest asks.
    pub(crate) fn new(
        sink: Arc<dyn LogSink>,
        random_seed: u64,
        reads_body: bool,
        memory_bytes_max: usize,
        limits: &Limits,
        activity: Activity,
    ) -> Self {
        let mut table = ResourceTable::new();
        // Nothing of ours puts anything into it: streams and pollables are numbers (see `wasi`).
        table.set_max_capacity(64);
        Self {
            at: Moment::default(),
            message: None,
            deadline: Deadline::default(),
            activity,
            output: Output {
                sink,
                pending: Vec::new(),
                errors: Vec::new(),
                lines: 0,
                lines_max: limits.log_lines_per_call_max,
            },
            random: random_seed,
            wasi: WasiCtx::builder().build(),
            table,
            random_seed,
            reads_body,
            memory: Memory { bytes_max: memory_bytes_max, bytes: 0, denied: None },
            table_elements_max: limits.table_elements_max,
        }
    }

    /// Before a call: nothing of the one before is left.
    pub(crate) fn begin(&mut self, at: Moment, message: Option<Held>) {
        self.at = at;
        self.message = message;
        self.random = self.random_seed;
        self.output.lines = 0;
        self.output.errors.clear();
        self.output.pending.clear();
        self.memory.denied = None;
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory.bytes
    }

    pub(crate) fn memory_max(&self) -> usize {
        self.memory.bytes_max
    }

    pub(crate) fn memory_denied(&self) -> Option<usize> {
        self.memory.denied
    }

    fn held(&self, getter: &'static str) -> wasmtime::Result<&Held> {
        self.message.as_ref().ok_or_else(|| Stop::NoMessage { getter }.into())
    }

    fn body(&self, getter: &'static str) -> wasmtime::Result<&Held> {
        let held = self.held(getter)?;
        if self.reads_body { Ok(held) } else { Err(Stop::BodyNotDeclared { getter }.into()) }
    }
}

/// What a guest writes.
pub(crate) struct Output {
    sink: Arc<dyn LogSink>,
    /// The unfinished line.
    pending: Vec<u8>,
    /// What came on the error output during this call.
    errors: Vec<u8>,
    lines: u32,
    lines_max: u32,
}

impl Output {
    pub(crate) fn line(&mut self, at: u64, level: Level, source: LogSource, text: &str) {
        self.lines = self.lines.saturating_add(1);
        if self.lines <= self.lines_max {
            self.sink.line(LogLine { at, level, source, text: cut(text, LINE_BYTES_MAX).to_owned() });
        }
    }

    pub(crate) fn write(&mut self, at: u64, source: LogSource, bytes: &[u8]) {
        let level = if source == LogSource::Stderr { Level::Warn } else { Level::Info };
        if source == LogSource::Stderr {
            let room = ERRORS_BYTES_MAX.saturating_sub(self.errors.len());
            self.errors.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LINE_BYTES_MAX.saturating_sub(self.pending.len());
            self.pending.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                let pending = std::mem::take(&mut self.pending);
                self.line(at, level, source, String::from_utf8_lossy(&pending).trim_end());
            }
        }
    }

    /// The error output of this call.
    pub(crate) fn errors(&self) -> String {
        String::from_utf8_lossy(&self.errors).trim().to_owned()
    }
}

impl ResourceLimiter for Host {
    fn memory_growing(&mut self, current: usize, desired: usize, _max: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.memory.bytes.saturating_add(desired.saturating_sub(current));
        if total > self.memory.bytes_max {
            self.memory.denied = Some(total);
            return Ok(false);
        }
        self.memory.bytes = total;
        Ok(true)
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _max: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= self.table_elements_max)
    }

    fn instances(&self) -> usize {
        32
    }

    fn tables(&self) -> usize {
        32
    }

    fn memories(&self) -> usize {
        8
    }
}

struct Policy;

impl HasData for Policy {
    type Data<'a> = &'a mut Host;
}

impl types::Host for &mut Host {}

impl log::Host for &mut Host {
    fn write(&mut self, level: log::Level, text: String) -> wasmtime::Result<()> {
        let level = match level {
            log::Level::Debug => Level::Debug,
            log::Level::Info => Level::Info,
            log::Level::Warn => Level::Warn,
            log::Level::Error => Level::Error,
        };
        let at = self.at.now;
        self.output.line(at, level, LogSource::Log, &text);
        Ok(())
    }
}

impl message::Host for &mut Host {
    fn kind(&mut self) -> wasmtime::Result<String> {
        Ok(self.held("kind")?.kind.to_string())
    }

    fn text(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(self.body("text")?.text.as_deref().map(str::to_owned))
    }

    fn data(&mut self) -> wasmtime::Result<Option<Vec<u8>>> {
        Ok(self.body("data")?.data.as_deref().map(<[u8]>::to_vec))
    }

    fn tag(&mut self, name: String) -> wasmtime::Result<Option<String>> {
        let tags = &self.held("tag")?.tags;
        Ok(tags.iter().rev().find(|(known, _)| *known == name).map(|(_, value)| value.clone()))
    }

    fn lamport(&mut self) -> wasmtime::Result<u64> {
        Ok(self.held("lamport")?.lamport)
    }

    fn sender_since(&mut self) -> wasmtime::Result<u64> {
        Ok(self.held("sender-since")?.sender_since)
    }
}

/// The contract's own imports.
pub(crate) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    types::add_to_linker::<Host, Policy>(linker, |host| host)?;
    log::add_to_linker::<Host, Policy>(linker, |host| host)?;
    message::add_to_linker::<Host, Policy>(linker, |host| host)?;
    Ok(())
}
