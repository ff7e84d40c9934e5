//! A child process that does not outlive its test.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::guard::stands_still;

/// The longest that a server may take to start.
pub(crate) const START_MAX: Duration = Duration::from_secs(20);

/// Tests of this process that could not run.
static SKIPPED: AtomicUsize = AtomicUsize::new(0);

/// Says whether a server that a test needs is missing: then the test has nothing to run on. Where `CI` is `true` that is a failure.
///
/// # Panics
/// In CI.
#[allow(clippy::print_stderr, reason = "a skip must be seen, whatever is captured")]
#[must_use]
pub fn missing(program: &str, package: &str) -> bool {
    if find(program).is_some() {
        return false;
    }
    let what = format!("{program} is not installed: deploy/setup.sh test installs the Debian package {package}");
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{what}");
    let skipped = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
    eprintln!("SKIPPED ({skipped} in this run): {what}");
    true
}

/// A program on the path.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// A port that nobody has now. Whoever is quicker may take it: the starter tries again.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
    listener.local_addr().expect("a listener has an address").port()
}

/// A process that is killed with the value, and by the kernel if the thread that started it dies without doing so.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
}

impl Process {
    pub(crate) fn start(program: &str, args: &[String], dir: &Path) -> Self {
        let program = find(program).unwrap_or_else(|| panic!("{program} is installed"));
        let mut command = match find("setpriv") {
            Some(setpriv) => {
                let mut command = Command::new(setpriv);
                command.args(["--pdeathsig", "KILL", "--"]).arg(&program);
                command
            }
            None => Command::new(&program),
        };
        let output = std::fs::File::create(dir.join("output")).expect("the temporary directory can be written");
        let errors = output.try_clone().expect("a file can be shared");
        command.args(args).current_dir(dir).stdin(Stdio::null()).stdout(output).stderr(errors);
        Self { child: command.spawn().expect("the server can be started") }
    }

    pub(crate) fn ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process has an id");
        kill_process(id, signal).expect("the server is ours and lives");
        if signal == Signal::STOP {
            stands_still(id);
        }
    }

    pub(crate) fn kill(&mut self) {
        // Fails only if it has ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
