//! From the start of the process until it says that it is ready.

use anyhow::Context as _;

use crate::machine::Machine;
use crate::row;
use crate::server::Server;
use crate::table::{print, spread, verdict};

const STARTS: usize = 7;
const GOAL_SECONDS: f64 = 1.0;

pub(crate) fn measure(machine: &Machine) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let first = Server::start(machine, dir.path(), None)?.took;
    let starts =
        (0..STARTS).map(|_| Ok(Server::start(machine, dir.path(), None)?.took)).collect::<anyhow::Result<Vec<f64>>>();
    let starts = starts.context("starting again")?;
    print(
        "Start to ready",
        &["", "seconds", "goal", ""],
        &[
            row![
                "native code in the cache",
                spread(&starts, 2),
                format!("under {GOAL_SECONDS}"),
                verdict(crate::table::median(&starts) < GOAL_SECONDS)
            ],
            row!["the first start, which compiles the policies", format!("{first:.2}"), "", ""],
        ],
        &format!("{STARTS} starts on a small data directory, each after a kill -9. All cores."),
    );
    Ok(())
}
