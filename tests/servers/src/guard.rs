//! One run of a server, held by its guard.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::Missing;

/// The guard's script, which the end-to-end tests use too.
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/guard.sh");

/// Ends the server when it is dropped, and removes its directory.
#[derive(Debug)]
pub(crate) struct Guard {
    shell: Child,
    pid: Pid,
}

impl Guard {
    /// Starts a server and waits until it answers; `signal` ends it in order, by its name.
    pub(crate) fn start(directory: &Path, ready: &str, signal: &str, server: &[String]) -> Result<Self, Missing> {
        let mut shell = Command::new("sh")
            .arg(SCRIPT)
            .arg(directory)
            .arg(ready)
            .arg(signal)
            .args(server)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| Missing(format!("{SCRIPT} does not run: {error}")))?;
        let mut line = String::new();
        if let Some(output) = shell.stdout.take() {
            // Without a line it has failed.
            let _ = BufReader::new(output).read_line(&mut line);
        }
        let pid = line.trim().strip_prefix("ready ").and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw);
        match pid {
            Some(pid) => Ok(Self { shell, pid }),
            None => {
                let _ = shell.wait();
                let log = std::fs::read_to_string(directory.join("server.log")).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(5).collect();
                Err(Missing(format!("{} does not start: {}", server.join(" "), tail.join(" | "))))
            }
        }
    }

    /// Stops the server in order, and keeps its directory.
    pub(crate) fn stop(mut self) {
        if let Some(input) = &mut self.shell.stdin {
            let _ = input.write_all(b"keep\n");
        }
        self.end();
    }

    /// Sends a signal to the server, and to its children where it has some.
    pub(crate) fn signal(&self, signal: Signal, with_children: bool) {
        // Before, because those of a dead process are somebody else's; after, because it may have made one meanwhile.
        let mut all = if with_children { children(self.pid) } else { Vec::new() };
        // What is gone needs none.
        let _ = kill_process(self.pid, signal);
        if with_children {
            all.extend(children(self.pid));
        }
        for child in &all {
            let _ = kill_process(*child, signal);
        }
        if signal == Signal::STOP {
            std::iter::once(self.pid).chain(all).for_each(stands_still);
        }
    }

    fn end(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.end();
    }
}

/// Looks at a process that was told to stand still, and how long to wait between two.
const LOOKS_MAX: usize = 2_000;
const LOOK: Duration = Duration::from_millis(5);

/// Waits until the process does: one of its threads has to take the signal before the others hear of it, and on a busy machine that one's turn may
/// come when they have answered more.
///
/// # Panics
/// It goes on.
pub(crate) fn stands_still(pid: Pid) {
    for _ in 0..LOOKS_MAX {
        let Ok(threads) = std::fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())) else { return };
        let runs = |stat: String| !stat.rsplit(") ").next().unwrap_or_default().starts_with(['T', 't', 'Z', 'X']);
        let mut stats = threads.flatten().filter_map(|thread| std::fs::read_to_string(thread.path().join("stat")).ok());
        if !stats.any(runs) {
            return;
        }
        std::thread::park_timeout(LOOK);
    }
    panic!("process {} does not stand still", pid.as_raw_nonzero());
}

/// Processes whose parent is this one.
fn children(of: Pid) -> Vec<Pid> {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{}/task", of.as_raw_nonzero())) else { return Vec::new() };
    let lists = tasks.flatten().filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<i32>>())
        .filter_map(Pid::from_raw)
        .collect()
}
