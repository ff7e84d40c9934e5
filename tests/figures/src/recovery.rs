//! A million messages in the log, a `kill -9` in the middle of the traffic, and how long until the next start is ready.

use std::path::Path;
use std::time::Duration;

use anyhow::{bail, ensure};

use crate::load::Load;
use crate::machine::Machine;
use crate::row;
use crate::server::Server;
use crate::table::{print, spread, verdict};

const MESSAGES: u64 = 1_000_000;
const PATIENCE_SECONDS: f64 = 300.0;
/// Of traffic before each kill.
const TRAFFIC: Duration = Duration::from_secs(2);
const KILLS: usize = 3;
const GOAL_SECONDS: f64 = 2.0;
/// A server that uses less than this share of a core for so long has nothing to do.
const IDLE_SHARE: f64 = 0.1;
const QUIET: Duration = Duration::from_secs(2);

pub(crate) fn measure(machine: &Machine) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut server = Server::start(machine, dir.path(), None)?;
    let began = machine.now();
    let sent = Load::new(&server)?.run(machine, PATIENCE_SECONDS, MESSAGES)?;
    let span = machine.now() - began;
    ensure!(sent >= MESSAGES, "only {sent} messages were sent in {PATIENCE_SECONDS} s");
    // The archive could not keep up with that; the first kills meet it far behind.
    let (mut behind, mut caught_up) = (Vec::new(), Vec::new());
    for _ in 0..KILLS {
        server = killed_in_traffic(machine, server, dir.path())?;
        behind.push(server.took);
    }
    for _ in 0..KILLS {
        quiet(machine, &server)?;
        server = killed_in_traffic(machine, server, dir.path())?;
        caught_up.push(server.took);
    }
    let row = |name: &str, took: &[f64]| {
        let met = verdict(crate::table::median(took) <= GOAL_SECONDS);
        row![name, spread(took, 2), format!("at most {GOAL_SECONDS}"), met]
    };
    print(
        &format!("Recovery: kill -9 with {MESSAGES} messages in the log"),
        &["start to ready", "seconds", "goal", ""],
        &[
            row("the archive had caught up before the traffic", &caught_up),
            row("the archive was as far behind as full traffic leaves it", &behind),
        ],
        &format!(
            "{KILLS} kills each, {} s into full traffic; the data of {:.1} GiB were made by {sent} messages through the server, at {:.0} a second. \
             All cores.",
            TRAFFIC.as_secs(),
            bytes(&dir.path().join("data"))? as f64 / f64::from(1 << 30),
            sent as f64 / span,
        ),
    );
    Ok(())
}

/// Kills the server while it is busy, and starts it again.
fn killed_in_traffic(machine: &Machine, server: Server, dir: &Path) -> anyhow::Result<Server> {
    let mut load = Load::new(&server)?;
    std::thread::scope(|scope| {
        let traffic = scope.spawn(move || load.run(machine, PATIENCE_SECONDS, u64::MAX));
        machine.pause(TRAFFIC);
        server.kill()?;
        let broken = traffic.join().is_ok_and(|sent| sent.is_err());
        ensure!(broken, "the traffic did not notice that the server was killed");
        Server::start(machine, dir, None)
    })
}

/// Waits until the server has nothing to do any more: everything is in the archive.
fn quiet(machine: &Machine, server: &Server) -> anyhow::Result<()> {
    let end = machine.now() + PATIENCE_SECONDS;
    while machine.now() < end {
        let cpu = server.cpu()?;
        machine.pause(QUIET);
        if server.cpu()? - cpu < IDLE_SHARE * QUIET.as_secs_f64() {
            return Ok(());
        }
    }
    bail!("the server was still busy after {PATIENCE_SECONDS} s")
}

/// Of all files below.
fn bytes(dir: &Path) -> anyhow::Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let of = entry.metadata()?;
        sum += if of.is_dir() { bytes(&entry.path())? } else { of.len() };
    }
    Ok(sum)
}
