//! PostgreSQL, from Debian's package `postgresql` or what lies in the PATH.

use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::Signal;

use crate::Missing;
use crate::guard::Guard;

/// Ports are found free and taken a moment later: somebody may be quicker.
const STARTS: usize = 5;

/// Cuts connections, and does not wait for those who have them.
const FAST_SHUTDOWN: &str = "INT";

/// A server with a superuser `heddle` and no password, on 127.0.0.1.
#[derive(Debug)]
pub struct Postgres {
    directory: PathBuf,
    programs: PathBuf,
    port: u16,
    /// Whether each commit is synced: "on" or "off".
    sync: &'static str,
    guard: Option<Guard>,
}

impl Postgres {
    /// One for all tests of this process; it ends with the process.
    ///
    /// # Errors
    /// PostgreSQL is not installed, or does not start.
    pub fn shared() -> Result<&'static Self, Missing> {
        static SHARED: OnceLock<Result<Postgres, Missing>> = OnceLock::new();
        SHARED.get_or_init(Self::start).as_ref().map_err(Clone::clone)
    }

    /// One of its own, which a test may stop, kill and pause. It ends when it is dropped.
    ///
    /// # Errors
    /// PostgreSQL is not installed, or does not start.
    pub fn start() -> Result<Self, Missing> {
        Self::start_with("off")
    }

    /// One that syncs each commit to the disk, for measurements.
    ///
    /// # Errors
    /// PostgreSQL is not installed, or does not start.
    pub fn start_durable() -> Result<Self, Missing> {
        Self::start_with("on")
    }

    fn start_with(sync: &'static str) -> Result<Self, Missing> {
        let programs = programs()?;
        let failed = |what: &str, error: &dyn std::fmt::Display| Missing(format!("PostgreSQL: {what}: {error}"));
        let directory = tempfile::Builder::new().prefix("heddle-postgres-").tempdir();
        // From the start of the server on its guard removes it.
        let directory = directory.map_err(|error| failed("no directory", &error))?;
        if let Some((user, group)) = other_user() {
            chown(directory.path(), Some(user), Some(group)).map_err(|error| failed("chown", &error))?;
        }
        let made = as_user(&programs.join("initdb"))
            .arg("--pgdata")
            .arg(directory.path().join("data"))
            .args(["--auth=trust", "--username=heddle", "--encoding=UTF8", "--locale=C", "--no-sync"])
            .current_dir("/")
            .output()
            .map_err(|error| failed("initdb", &error))?;
        if !made.status.success() {
            return Err(failed("initdb", &String::from_utf8_lossy(&made.stderr)));
        }
        let mut server = Self { directory: directory.path().to_owned(), programs, port: 0, sync, guard: None };
        for _ in 1..STARTS {
            server.port = free_port()?;
            if server.try_launch().is_ok() {
                break;
            }
        }
        if server.guard.is_none() {
            server.port = free_port()?;
            server.try_launch()?;
        }
        let _ = directory.keep();
        Ok(server)
    }

    /// Where to connect to one of its databases.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://heddle@127.0.0.1:{}/{database}", self.port)
    }

    /// The URL of a new, empty database.
    ///
    /// # Panics
    /// If the server does not make one.
    #[must_use]
    pub fn database(&self) -> String {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        let name = format!("heddle_{}", NEXT.fetch_add(1, Ordering::SeqCst));
        let made = Command::new(self.programs.join("createdb"))
            .args(["--host=127.0.0.1", "--username=heddle", "--template=template0"])
            .arg(format!("--port={}", self.port))
            .arg(&name)
            .output()
            .expect("createdb runs");
        assert!(made.status.success(), "createdb: {}", String::from_utf8_lossy(&made.stderr));
        self.url(&name)
    }

    /// Stops it in order: connections are cut, what was committed is on disk.
    pub fn stop(&mut self) {
        if let Some(guard) = self.guard.take() {
            guard.stop();
        }
    }

    /// Kills it with all its children, as a machine that loses power would, but for what the system has cached.
    pub fn kill(&mut self) {
        if let Some(guard) = self.guard.take() {
            guard.signal(Signal::KILL, true);
            guard.stop();
        }
    }

    /// Starts it again, on the same port.
    ///
    /// # Panics
    /// If it does not start.
    pub fn launch(&mut self) {
        for _ in 1..STARTS {
            // Children of one that was killed take a moment to see it, and hold its memory meanwhile.
            if self.try_launch().is_ok() {
                return;
            }
        }
        self.try_launch().expect("PostgreSQL starts again");
    }

    /// Stops its clock: it takes connections, as the kernel does that, and says nothing.
    pub fn pause(&self) {
        if let Some(guard) = &self.guard {
            guard.signal(Signal::STOP, true);
        }
    }

    /// Lets it go on.
    pub fn resume(&self) {
        if let Some(guard) = &self.guard {
            guard.signal(Signal::CONT, true);
        }
    }

    fn try_launch(&mut self) -> Result<(), Missing> {
        let data = self.directory.join("data");
        let mut server = prefix();
        server.extend([
            self.programs.join("postgres").display().to_string(),
            "-D".to_owned(),
            data.display().to_string(),
        ]);
        let sockets = format!("unix_socket_directories={}", self.directory.display());
        let port = format!("port={}", self.port);
        let (sync, pages) = (format!("fsync={}", self.sync), format!("full_page_writes={}", self.sync));
        let settings = [&port, &sockets, "listen_addresses=127.0.0.1", &sync, &pages, "max_connections=300"];
        for setting in settings {
            server.extend(["-c".to_owned(), setting.to_owned()]);
        }
        let ready = format!(
            "{} --quiet --host=127.0.0.1 --port={} --username=heddle",
            self.programs.join("pg_isready").display(),
            self.port
        );
        self.guard = Some(Guard::start(&self.directory, &ready, FAST_SHUTDOWN, &server)?);
        Ok(())
    }
}

/// Where `initdb` and `postgres` are: the newest that Debian installed, or the PATH.
fn programs() -> Result<PathBuf, Missing> {
    let installed = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<(u32, PathBuf)> = installed
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, programs)| programs.join("initdb").is_file())
        .collect();
    versions.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path =
        std::env::split_paths(&path).find(|dir| dir.join("initdb").is_file() && dir.join("postgres").is_file());
    versions.pop().map(|(_, programs)| programs).or(in_path).ok_or_else(|| {
        Missing("PostgreSQL is not installed: run deploy/setup.sh test, or apt-get install postgresql".to_owned())
    })
}

/// The server refuses to run as root.
fn other_user() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let id = |which: &str| {
        let told = Command::new("id").args([which, "postgres"]).stderr(Stdio::null()).output().ok()?;
        String::from_utf8(told.stdout).ok()?.trim().parse().ok()
    };
    Some((id("-u")?, id("-g")?))
}

/// What runs a program as that user.
fn prefix() -> Vec<String> {
    let Some((user, group)) = other_user() else { return Vec::new() };
    ["setpriv", &format!("--reuid={user}"), &format!("--regid={group}"), "--clear-groups"].map(str::to_owned).to_vec()
}

fn as_user(program: &Path) -> Command {
    let prefix = prefix();
    let Some((first, rest)) = prefix.split_first() else { return Command::new(program) };
    let mut command = Command::new(first);
    command.args(rest).arg(program);
    command
}

fn free_port() -> Result<u16, Missing> {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    free.map(|address| address.port()).map_err(|error| Missing(format!("no free port: {error}")))
}
