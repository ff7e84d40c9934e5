//! The parent's half: it starts the child, feeds it, waits with a deadline, and says in words how it ended.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;

use crate::compile::{CompileBounds, CompileError, Compiler};

/// Bytes that are kept of what the child says.
const SAID_BYTES_MAX: u64 = 8 << 10;
/// Threads of the child, which bounds what its allocator reserves.
const THREADS: &str = "2";
/// What `RUST_BACKTRACE` and the like would add helps no plugin's author, and the server's variables may hold secrets: the child gets none of them.
const VARIABLES: [(&str, &str); 1] = [("RAYON_NUM_THREADS", THREADS)];

/// Compiles in a child process: `PROGRAM ARGUMENTS.. SECONDS BYTES`, with the component on its input and the native code on its output. The program
/// must do what [`crate::compile_child`] does and nothing else, and end with [`ChildCompiler::REFUSED`] after printing why the component is refused.
#[derive(Clone, Debug)]
pub struct ChildCompiler {
    program: PathBuf,
    arguments: Vec<OsString>,
    bounds: CompileBounds,
}

impl ChildCompiler {
    /// The exit code of a child that refuses a component (`EX_DATAERR` of sysexits.h).
    pub const REFUSED: u8 = 65;

    /// The program that is running, whatever lies at its path by now, with these arguments before the bounds.
    #[must_use]
    pub fn this_program(arguments: &[&str], bounds: CompileBounds) -> Self {
        let linked = PathBuf::from("/proc/self/exe");
        let program = if linked.exists() { linked } else { std::env::current_exe().unwrap_or_default() };
        Self::new(program, arguments, bounds)
    }

    /// Another program.
    #[must_use]
    pub fn new(program: PathBuf, arguments: &[&str], bounds: CompileBounds) -> Self {
        Self { program, arguments: arguments.iter().map(OsString::from).collect(), bounds }
    }

    fn start(&self) -> io::Result<Child> {
        Command::new(&self.program)
            .arg0("heddle")
            .args(&self.arguments)
            .arg(self.bounds.cpu_seconds().to_string())
            .arg(self.bounds.memory_bytes.to_string())
            .env_clear()
            .envs(VARIABLES)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
    }

    /// Feeds it and reads it, all at once, until it ends or its time does: then it is killed, by its id.
    fn attend(&self, child: &mut Child, component: &[u8]) -> io::Result<Ended> {
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(mut input), Some(output), Some(errors)) = pipes else {
            return Err(io::Error::other("its pipes are not there"));
        };
        let (sender, done) = mpsc::sync_channel(1);
        let code_bytes_max = self.bounds.memory_bytes;
        thread::scope(|scope| {
            // A child that ends early closes the pipe; how it ended says more than that.
            let fed = thread::Builder::new().spawn_scoped(scope, move || input.write_all(component));
            let said = thread::Builder::new().spawn_scoped(scope, move || read(errors, SAID_BYTES_MAX));
            let wrote = thread::Builder::new()
                .spawn_scoped(scope, move || sender.send(read(output, code_bytes_max)).unwrap_or_default());
            let answer = match (&fed, &said, &wrote) {
                (Ok(_), Ok(_), Ok(_)) => done.recv_timeout(self.bounds.wall),
                _ => Err(RecvTimeoutError::Disconnected),
            };
            if answer.is_err() {
                child.kill()?;
            }
            let status = child.wait()?;
            let said = said?.join().unwrap_or_default();
            fed?;
            wrote?;
            match answer {
                Ok(code) => Ok(Ended::Itself { status, code, said }),
                Err(_) => Ok(Ended::TooLate),
            }
        })
    }

    fn sort(&self, status: ExitStatus, said: &[u8]) -> CompileError {
        let said = String::from_utf8_lossy(said).trim().to_owned();
        if status.code() == Some(i32::from(Self::REFUSED)) {
            return CompileError::Refused { problem: said };
        }
        let signal = |signal: rustix::process::Signal| status.signal() == Some(signal.as_raw());
        if signal(rustix::process::Signal::XCPU) {
            return CompileError::Cpu { seconds: self.bounds.cpu_seconds() };
        }
        // As the standard library says it, before it aborts.
        if signal(rustix::process::Signal::ABORT) && said.contains("memory allocation of") {
            return CompileError::Memory { mebibytes: self.bounds.memory_bytes >> 20 };
        }
        let how = match (status.code(), status.signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => status.to_string(),
        };
        CompileError::Died { how, said }
    }
}

enum Ended {
    Itself { status: ExitStatus, code: Vec<u8>, said: Vec<u8> },
    TooLate,
}

impl Compiler for ChildCompiler {
    fn compile(&self, component: &[u8]) -> Result<Vec<u8>, CompileError> {
        let mut child = self.start().map_err(CompileError::Start)?;
        match self.attend(&mut child, component).map_err(CompileError::Start)? {
            Ended::TooLate => Err(CompileError::Wall { seconds: self.bounds.wall.as_secs() }),
            Ended::Itself { status, code, said } if !status.success() || code.is_empty() => {
                drop(code);
                Err(self.sort(status, &said))
            }
            Ended::Itself { code, .. } => Ok(code),
        }
    }
}

/// What comes, at most so much; what follows is left in the pipe, and ends the writer when it is closed.
fn read(from: impl Read, bytes_max: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = from.take(bytes_max).read_to_end(&mut bytes);
    bytes
}
