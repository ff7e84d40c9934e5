//! As `policies`, on the log that syncs: how much of the native throughput the components leave.

use std::sync::Arc;

use heddle_log::{EmbeddedLog, LogConfig};
use heddle_model::SystemClock;
use heddle_wasm::{Engine, Limits};

use crate::machine::Machine;
use crate::row;
use crate::table::{median, print, ratios, spread, verdict};
use crate::twin::Make;
use crate::world::{To, World};

const ROUNDS: usize = 25;
const MESSAGES: usize = 2_000;
const GOAL: f64 = 0.95;

pub(crate) fn measure(_machine: &Machine) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let world = |make, name: &str| {
        let dir = dir.path().join(name);
        std::fs::create_dir(&dir)?;
        let log = EmbeddedLog::open(LogConfig::new(dir.join("log")), Arc::new(SystemClock::new()))?;
        World::start(make, log, &dir)
    };
    let mut components = world(Make::Components(Engine::new(Limits::default())?), "components")?;
    let mut native = world(Make::Native, "native")?;
    components.round(To::One, MESSAGES)?;
    native.round(To::One, MESSAGES)?;
    let (mut ours, mut theirs) = (vec![], vec![]);
    for _ in 0..ROUNDS {
        ours.push(MESSAGES as f64 / components.round(To::One, MESSAGES)?.span);
        theirs.push(MESSAGES as f64 / native.round(To::One, MESSAGES)?.span);
    }
    let ratios = ratios(&ours, &theirs);
    print(
        "Throughput with components, durable",
        &["1:1 messages a second", "components", "native", "ratio", "goal", ""],
        &[row![
            "one sender, 32 under way",
            spread(&ours, 0),
            spread(&theirs, 0),
            spread(&ratios, 3),
            format!("at least {GOAL}"),
            verdict(median(&ratios) >= GOAL),
        ]],
        &format!(
            "As above, with the log on disk, each group commit synced; {ROUNDS} rounds of {MESSAGES} in turn. All cores."
        ),
    );
    Ok(())
}
