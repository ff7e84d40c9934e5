//! A million messages in the log, a `kill -9` in the middle of the traffic, and how long until the next start is ready.

use std::time::Duration;

use anyhow::ensure;

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

pub(crate) fn measure(machine: &Machine) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut server = Server::start(machine, dir.path(), None)?;
    let began = machine.now();
    let sent = Load::new(&server)?.run(machine, PATIENCE_SECONDS, MESSAGES)?;
    let span = machine.now() - began;
    ensure!(sent >= MESSAGES, "only {sent} messages were sent in {PATIENCE_SECONDS} s");
    let mut took = Vec::with_capacity(KILLS);
    for _ in 0..KILLS {
        let mut load = Load::new(&server)?;
        server = std::thread::scope(|scope| {
            let traffic = scope.spawn(move || load.run(machine, PATIENCE_SECONDS, u64::MAX));
            machine.pause(TRAFFIC);
            server.kill()?;
            let broken = traffic.join().is_ok_and(|sent| sent.is_err());
            ensure!(broken, "the traffic did not notice that the server was killed");
            Server::start(machine, dir.path(), None)
        })?;
        took.push(server.took);
    }
    print(
        "Recovery",
        &["", "seconds", "goal", ""],
        &[row![
            format!("kill -9 with {MESSAGES} messages in the log, start to ready"),
            spread(&took, 2),
            format!("at most {GOAL_SECONDS}"),
            verdict(crate::table::median(&took) <= GOAL_SECONDS),
        ]],
        &format!(
            "{KILLS} kills, each {} s into full traffic; the log of {:.1} GiB was made by {sent} messages through the server, at {:.0} a second. All cores.",
            TRAFFIC.as_secs(),
            bytes(&dir.path().join("data"))? as f64 / f64::from(1 << 30),
            sent as f64 / span,
        ),
    );
    Ok(())
}

/// Of all files below.
fn bytes(dir: &std::path::Path) -> anyhow::Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let of = entry.metadata()?;
        sum += if of.is_dir() { bytes(&entry.path())? } else { of.len() };
    }
    Ok(sum)
}
