//! The machine: what it is called, its clocks, its cores, and what a process uses.

use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use heddle_model::{Clock as _, SystemClock};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// Where it all runs.
pub(crate) struct Machine {
    /// The server under test.
    pub(crate) binary: PathBuf,
    /// The only clock of the figures.
    pub(crate) clock: SystemClock,
    /// Open files that one process may have.
    pub(crate) files_max: u64,
    cores: CpuSet,
}

/// On which core a process belongs, so that server and generator do not take each other's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// The first core.
    Generator,
    /// The second one.
    Server,
}

impl Machine {
    /// Looks around, and takes as many open files as are allowed.
    pub(crate) fn here() -> anyhow::Result<Self> {
        let binary: PathBuf = std::env::var_os("HEDDLE_BIN").context("name the server in HEDDLE_BIN")?.into();
        ensure!(binary.is_file(), "there is no server at {}: build it, or set HEDDLE_BIN", binary.display());
        let most = getrlimit(Resource::Nofile).maximum;
        setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).context("raising the limit of files")?;
        let cores = sched_getaffinity(None).context("reading the cores")?;
        Ok(Self { binary, clock: SystemClock::new(), files_max: most.unwrap_or(1 << 20), cores })
    }

    /// For the head of the tables.
    pub(crate) fn describe(&self) -> String {
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let memory = field("/proc/meminfo", "MemTotal:").unwrap_or(0) >> 30;
        format!(
            "Machine: {} cores ({}), {memory} GiB, Linux {}, data on {}; release build, at most {} open files a process.",
            self.cores.count(),
            model.trim_start_matches([' ', '\t', ':']).trim(),
            kernel.trim(),
            file_system(),
            self.files_max,
        )
    }

    /// Puts this thread, and what it starts from now on, on the core of `side`; with one core only, nothing changes.
    pub(crate) fn pin(&self, side: Side) {
        let wanted = usize::from(side == Side::Server);
        let nth = (0..CpuSet::MAX_CPU).filter(|core| self.cores.is_set(*core)).nth(wanted);
        let Some(core) = nth.filter(|_| self.cores.count() > 1) else { return };
        let mut one = CpuSet::new();
        one.set(core);
        // Without the right to it the figures are only noisier.
        let _ = sched_setaffinity(None, &one);
    }

    /// Takes [`pin`](Self::pin) back.
    pub(crate) fn unpin(&self) {
        let _ = sched_setaffinity(None, &self.cores);
    }

    /// Seconds on a clock that never goes backwards.
    pub(crate) fn now(&self) -> f64 {
        self.clock.monotonic().as_secs_f64()
    }

    /// Lets time pass between two messages: the system is to be unloaded.
    pub(crate) fn pause(&self, span: Duration) {
        let end = self.clock.monotonic() + span;
        while let Some(left) = end.checked_sub(self.clock.monotonic()).filter(|left| !left.is_zero()) {
            std::thread::park_timeout(left);
        }
    }
}

/// A number of bytes from a file of lines like `VmRSS:  12 kB`.
pub(crate) fn field(file: &str, name: &str) -> anyhow::Result<u64> {
    let text = std::fs::read_to_string(file).with_context(|| format!("reading {file}"))?;
    let line =
        text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("{file} has no {name}"))?;
    let number = line.split_whitespace().next().with_context(|| format!("{name} of {file} is empty"))?;
    Ok(number.parse::<u64>().with_context(|| format!("{name} of {file}"))? * 1024)
}

/// Seconds of processor time that a process has used, its ended threads included.
pub(crate) fn cpu_of(pid: u32) -> anyhow::Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("the process is gone")?;
    let after = text.rsplit_once(')').context("stat has no name")?.1;
    let ticks: u64 = after.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap_or(0)).sum();
    // `USER_HZ` is 100 on every Linux that Rust runs on.
    Ok(ticks as f64 / 100.0)
}

/// Seconds of processor time of this thread.
pub(crate) fn cpu_of_thread() -> f64 {
    seconds(ClockId::ThreadCPUTime)
}

/// Seconds of processor time of this process.
pub(crate) fn cpu_of_process() -> f64 {
    seconds(ClockId::ProcessCPUTime)
}

fn seconds(clock: ClockId) -> f64 {
    let time = clock_gettime(clock);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The file system of the directory in which scratch directories are made.
fn file_system() -> String {
    let dir = std::env::temp_dir();
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    let holds = |line: &str| {
        let mut words = line.split(' ').skip(1);
        let (point, kind) = (words.next()?, words.next()?);
        dir.starts_with(point).then(|| (point.len(), kind.to_owned()))
    };
    mounts.lines().filter_map(holds).max().map_or_else(|| "an unknown file system".to_owned(), |(_, kind)| kind)
}

/// Small writes go out at once.
pub(crate) fn connect(to: std::net::SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(to).with_context(|| format!("connecting to {to}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
