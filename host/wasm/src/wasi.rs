//! An empty, deterministic WASI 0.2: what the standard libraries of guest languages import. The clock stands at the moment of the call, random numbers come from
//! a constant, there are no files, arguments, environment or sockets, and what is written goes to the plugin's log.
//!
//! No call here waits: every pollable is ready. Streams and pollables are fixed numbers, so nothing is kept per handle.

use wasmtime::component::{HasData, Linker, Resource};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemCtxView};
use wasmtime_wasi::p2::bindings::sync::filesystem::types as filesystem_types;
use wasmtime_wasi::p2::bindings::sync::io::{error, poll, streams};
use wasmtime_wasi::p2::bindings::{cli, clocks, filesystem::preopens, random};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable, StreamError, StreamResult};

use crate::fault::Stop;
use crate::host::Host;
use crate::log::LogSource;

const STDIN: u32 = 0;
const STDOUT: u32 = 1;
const STDERR: u32 = 2;
const WRITE_BYTES_MAX: u64 = 4_096;
const RANDOM_BYTES_MAX: u64 = 64 * 1_024;

/// Interfaces that a component may import, without their versions.
pub(crate) const LINKED: [&str; 22] = [
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    "heddle:policy/log",
    "heddle:policy/message",
];

struct Empty;

impl HasData for Empty {
    type Data<'a> = &'a mut Host;
}

pub(crate) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    error::add_to_linker::<Host, Empty>(linker, |host| host)?;
    poll::add_to_linker::<Host, Empty>(linker, |host| host)?;
    streams::add_to_linker::<Host, Empty>(linker, |host| host)?;
    cli::environment::add_to_linker::<Host, Empty>(linker, |host| host)?;
    cli::exit::add_to_linker::<Host, Empty>(linker, |host| host)?;
    cli::stdin::add_to_linker::<Host, Empty>(linker, |host| host)?;
    cli::stdout::add_to_linker::<Host, Empty>(linker, |host| host)?;
    cli::stderr::add_to_linker::<Host, Empty>(linker, |host| host)?;
    cli::terminal_input::add_to_linker::<Host, Empty>(linker, |host| host)?;
    cli::terminal_output::add_to_linker::<Host, Empty>(linker, |host| host)?;
    cli::terminal_stdin::add_to_linker::<Host, Empty>(linker, |host| host)?;
    cli::terminal_stdout::add_to_linker::<Host, Empty>(linker, |host| host)?;
    cli::terminal_stderr::add_to_linker::<Host, Empty>(linker, |host| host)?;
    clocks::wall_clock::add_to_linker::<Host, Empty>(linker, |host| host)?;
    clocks::monotonic_clock::add_to_linker::<Host, Empty>(linker, |host| host)?;
    random::random::add_to_linker::<Host, Empty>(linker, |host| host)?;
    random::insecure::add_to_linker::<Host, Empty>(linker, |host| host)?;
    random::insecure_seed::add_to_linker::<Host, Empty>(linker, |host| host)?;
    // Without a preopened folder no descriptor exists, so none of the methods can be called.
    preopens::add_to_linker::<Host, WasiFilesystem>(linker, files)?;
    filesystem_types::add_to_linker::<Host, WasiFilesystem>(linker, files)?;
    Ok(())
}

fn files(host: &mut Host) -> WasiFilesystemCtxView<'_> {
    WasiFilesystemCtxView { ctx: host.wasi.filesystem(), table: &mut host.table }
}

impl error::Host for &mut Host {}

impl error::HostError for &mut Host {
    fn to_debug_string(&mut self, _error: Resource<error::Error>) -> wasmtime::Result<String> {
        Ok(String::new())
    }

    fn drop(&mut self, _error: Resource<error::Error>) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl poll::Host for &mut Host {
    fn poll(&mut self, list: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        Ok((0..).take(list.len()).collect())
    }
}

impl poll::HostPollable for &mut Host {
    fn ready(&mut self, _pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        Ok(true)
    }

    fn block(&mut self, _pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        Ok(())
    }

    fn drop(&mut self, _pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl streams::Host for &mut Host {
    fn convert_stream_error(&mut self, error: StreamError) -> wasmtime::Result<streams::StreamError> {
        match error {
            StreamError::Trap(error) => Err(error),
            StreamError::Closed | StreamError::LastOperationFailed(_) => Ok(streams::StreamError::Closed),
        }
    }
}

impl streams::HostInputStream for &mut Host {
    fn read(&mut self, _stream: Resource<DynInputStream>, _len: u64) -> StreamResult<Vec<u8>> {
        Err(StreamError::Closed)
    }

    fn blocking_read(&mut self, _stream: Resource<DynInputStream>, _len: u64) -> StreamResult<Vec<u8>> {
        Err(StreamError::Closed)
    }

    fn skip(&mut self, _stream: Resource<DynInputStream>, _len: u64) -> StreamResult<u64> {
        Err(StreamError::Closed)
    }

    fn blocking_skip(&mut self, _stream: Resource<DynInputStream>, _len: u64) -> StreamResult<u64> {
        Err(StreamError::Closed)
    }

    fn subscribe(&mut self, _stream: Resource<DynInputStream>) -> wasmtime::Result<Resource<DynPollable>> {
        Ok(Resource::new_own(0))
    }

    fn drop(&mut self, _stream: Resource<DynInputStream>) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl streams::HostOutputStream for &mut Host {
    fn check_write(&mut self, _stream: Resource<DynOutputStream>) -> StreamResult<u64> {
        Ok(WRITE_BYTES_MAX)
    }

    fn write(&mut self, stream: Resource<DynOutputStream>, bytes: Vec<u8>) -> StreamResult<()> {
        let source = if stream.rep() == STDERR { LogSource::Stderr } else { LogSource::Stdout };
        let at = self.at.now;
        self.output.write(at, source, &bytes);
        Ok(())
    }

    fn blocking_write_and_flush(&mut self, stream: Resource<DynOutputStream>, bytes: Vec<u8>) -> StreamResult<()> {
        self.write(stream, bytes)
    }

    fn flush(&mut self, _stream: Resource<DynOutputStream>) -> StreamResult<()> {
        Ok(())
    }

    fn blocking_flush(&mut self, _stream: Resource<DynOutputStream>) -> StreamResult<()> {
        Ok(())
    }

    fn subscribe(&mut self, _stream: Resource<DynOutputStream>) -> wasmtime::Result<Resource<DynPollable>> {
        Ok(Resource::new_own(0))
    }

    fn write_zeroes(&mut self, stream: Resource<DynOutputStream>, len: u64) -> StreamResult<()> {
        self.write(stream, vec![0; usize::try_from(len.min(WRITE_BYTES_MAX)).unwrap_or(0)])
    }

    fn blocking_write_zeroes_and_flush(&mut self, stream: Resource<DynOutputStream>, len: u64) -> StreamResult<()> {
        self.write_zeroes(stream, len)
    }

    fn splice(
        &mut self,
        _to: Resource<DynOutputStream>,
        _from: Resource<DynInputStream>,
        _len: u64,
    ) -> StreamResult<u64> {
        Err(StreamError::Closed)
    }

    fn blocking_splice(
        &mut self,
        _to: Resource<DynOutputStream>,
        _from: Resource<DynInputStream>,
        _len: u64,
    ) -> StreamResult<u64> {
        Err(StreamError::Closed)
    }

    fn drop(&mut self, _stream: Resource<DynOutputStream>) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl cli::environment::Host for &mut Host {
    fn get_environment(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(Vec::new())
    }

    fn get_arguments(&mut self) -> wasmtime::Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn initial_cwd(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(None)
    }
}

impl cli::exit::Host for &mut Host {
    fn exit(&mut self, _status: Result<(), ()>) -> wasmtime::Result<()> {
        Err(Stop::Exit.into())
    }

    fn exit_with_code(&mut self, _code: u8) -> wasmtime::Result<()> {
        Err(Stop::Exit.into())
    }
}

impl cli::stdin::Host for &mut Host {
    fn get_stdin(&mut self) -> wasmtime::Result<Resource<DynInputStream>> {
        Ok(Resource::new_own(STDIN))
    }
}

impl cli::stdout::Host for &mut Host {
    fn get_stdout(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        Ok(Resource::new_own(STDOUT))
    }
}

impl cli::stderr::Host for &mut Host {
    fn get_stderr(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        Ok(Resource::new_own(STDERR))
    }
}

impl cli::terminal_input::Host for &mut Host {}

impl cli::terminal_input::HostTerminalInput for &mut Host {
    fn drop(&mut self, _terminal: Resource<cli::terminal_input::TerminalInput>) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl cli::terminal_output::Host for &mut Host {}

impl cli::terminal_output::HostTerminalOutput for &mut Host {
    fn drop(&mut self, _terminal: Resource<cli::terminal_output::TerminalOutput>) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl cli::terminal_stdin::Host for &mut Host {
    fn get_terminal_stdin(&mut self) -> wasmtime::Result<Option<Resource<cli::terminal_stdin::TerminalInput>>> {
        Ok(None)
    }
}

impl cli::terminal_stdout::Host for &mut Host {
    fn get_terminal_stdout(&mut self) -> wasmtime::Result<Option<Resource<cli::terminal_stdout::TerminalOutput>>> {
        Ok(None)
    }
}

impl cli::terminal_stderr::Host for &mut Host {
    fn get_terminal_stderr(&mut self) -> wasmtime::Result<Option<Resource<cli::terminal_stderr::TerminalOutput>>> {
        Ok(None)
    }
}

impl clocks::wall_clock::Host for &mut Host {
    fn now(&mut self) -> wasmtime::Result<clocks::wall_clock::Datetime> {
        let ms = self.at.now;
        let nanoseconds = u32::try_from(ms % 1_000).unwrap_or(0) * 1_000_000;
        Ok(clocks::wall_clock::Datetime { seconds: ms / 1_000, nanoseconds })
    }

    fn resolution(&mut self) -> wasmtime::Result<clocks::wall_clock::Datetime> {
        Ok(clocks::wall_clock::Datetime { seconds: 0, nanoseconds: 1_000_000 })
    }
}

impl clocks::monotonic_clock::Host for &mut Host {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(self.at.now.saturating_mul(1_000_000))
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(1_000_000)
    }

    fn subscribe_instant(&mut self, _when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        Ok(Resource::new_own(0))
    }

    fn subscribe_duration(&mut self, _when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        Ok(Resource::new_own(0))
    }
}

impl Host {
    /// The next number of the call's sequence: SplitMix64 (Steele, Lea, Flood 2014).
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        if len > RANDOM_BYTES_MAX {
            return Err(Stop::Random { asked: len, max: RANDOM_BYTES_MAX }.into());
        }
        let len = usize::try_from(len).unwrap_or(0);
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&self.next_random().to_le_bytes());
        }
        bytes.truncate(len);
        Ok(bytes)
    }
}

impl random::random::Host for &mut Host {
    fn get_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.random_bytes(len)
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(self.next_random())
    }
}

impl random::insecure::Host for &mut Host {
    fn get_insecure_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.random_bytes(len)
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(self.next_random())
    }
}

impl random::insecure_seed::Host for &mut Host {
    fn insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        Ok((self.next_random(), self.next_random()))
    }
}
