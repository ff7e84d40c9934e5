//! What the four first-party policies cost as components: the path of a message in one process, beside the same path with the same policies
//! compiled natively.

use std::sync::Arc;

use heddle_log::MemoryLog;
use heddle_model::SystemClock;
use heddle_wasm::{Engine, Limits};

use crate::machine::{Machine, Side};
use crate::row;
use crate::table::{median, print, spread, verdict};
use crate::twin::{FUNCTIONS, Make};
use crate::world::{MEMBERS, To, World};

const ROUNDS: usize = 9;
const GOAL_MICROS: f64 = 2.0;
const PARTITIONS: u32 = 16;

pub(crate) fn measure(machine: &Machine) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let world = |make, name: &str| {
        let dir = dir.path().join(name);
        std::fs::create_dir(&dir)?;
        World::start(make, MemoryLog::new(PARTITIONS, Arc::new(SystemClock::new())), &dir)
    };
    let mut components = world(Make::Components(Engine::new(Limits::default())?), "components")?;
    let mut native = world(Make::Native, "native")?;
    machine.pin(Side::Server);
    let mut rows = Vec::new();
    for (name, to, messages) in
        [("1:1".to_owned(), To::One, 10_000), (format!("to a group of {MEMBERS}"), To::Group, 1_000)]
    {
        let (mut ours, mut theirs, mut added, mut calls) = (vec![], vec![], vec![], [0; 6]);
        components.round(to, messages)?;
        native.round(to, messages)?;
        for _ in 0..ROUNDS {
            let (with, without) = (components.round(to, messages)?, native.round(to, messages)?);
            let micros = |cpu: f64| cpu * 1e6 / messages as f64;
            ours.push(micros(with.cpu));
            theirs.push(micros(without.cpu));
            added.push(micros(with.cpu - without.cpu));
            calls = with.calls;
        }
        let asked: Vec<String> = FUNCTIONS
            .iter()
            .zip(calls)
            .filter(|(_, calls)| *calls * 100 >= messages as u64)
            .map(|(function, calls)| format!("{:.1} {function}", calls as f64 / messages as f64))
            .collect();
        rows.push(row![
            name,
            asked.join(", "),
            spread(&ours, 1),
            spread(&theirs, 1),
            spread(&added, 2),
            format!("at most {GOAL_MICROS}"),
            verdict(median(&added) <= GOAL_MICROS),
        ]);
    }
    machine.unpin();
    print(
        "Policies as components",
        &["message", "guest calls", "components, µs", "native, µs", "added, µs", "goal", ""],
        &rows,
        &format!(
            "Processor time per message of the thread that does all but the database's work, from the rate limit to the sessions of all recipients, \
             their acknowledgements and the archive; a log in memory, no sockets. Native: the same sources, compiled into this program behind the \
             same port. {ROUNDS} rounds in turn; median (smallest to largest)."
        ),
    );
    Ok(())
}
