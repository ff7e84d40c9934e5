//! What the four first-party policies cost as components: the path of a message in one process, beside the same path with the same policies
//! compiled natively; and each call for itself.

use std::sync::Arc;

use heddle_log::MemoryLog;
use heddle_model::SystemClock;
use heddle_wasm::{Engine, Limits};

use crate::calls;
use crate::machine::{Machine, Side};
use crate::row;
use crate::table::{median, print, quantile, verdict};
use crate::twin::{FUNCTIONS, Make};
use crate::world::{MEMBERS, To, World};

/// Short and many, so that what else the machine does meets both sides alike.
const ROUNDS: usize = 41;
const GOAL_MICROS: f64 = 2.0;
const PARTITIONS: u32 = 16;

pub(crate) fn measure(machine: &Machine) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let engine = Engine::new(Limits::default())?;
    let world = |make, name: &str| {
        let dir = dir.path().join(name);
        std::fs::create_dir(&dir)?;
        World::start(make, MemoryLog::new(PARTITIONS, Arc::new(SystemClock::new())), &dir)
    };
    let mut components = world(Make::Components(engine.clone()), "components")?;
    let mut native = world(Make::Native, "native")?;
    machine.pin(Side::Server);
    let mut rows = Vec::new();
    for (name, to, messages) in
        [("1:1".to_owned(), To::One, 2_000), (format!("to a group of {MEMBERS}"), To::Group, 200)]
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
            format!("{:.1}", median(&ours)),
            format!("{:.1}", median(&theirs)),
            quartiles(&added),
            format!("at most {GOAL_MICROS}"),
            verdict(median(&added) <= GOAL_MICROS),
        ]);
    }
    let each = calls::measure(&engine)?;
    machine.unpin();
    print(
        "Policies as components",
        &["message", "guest calls", "components, µs", "native, µs", "added, µs", "goal", ""],
        &rows,
        &format!(
            "Processor time per message of the thread that does all but the database's work, from the rate limit to the sessions of all recipients, \
             their acknowledgements and the archive; a log in memory, no sockets. Native: the same sources, compiled into this program behind the \
             same port. {ROUNDS} rounds in turn; median (middle half of the rounds). Presence is asked at most once in 5 s and connection, so that \
             its share of a message is nothing here."
        ),
    );
    print(
        "One call of a policy",
        &["call", "component, µs", "native, µs", "added, µs"],
        &each,
        "Processor time, the same call again and again; median of rounds in turn (smallest to largest).",
    );
    Ok(())
}

/// The median, and between what the middle half lies.
fn quartiles(sample: &[f64]) -> String {
    format!("{:.2} ({:.2} to {:.2})", median(sample), quantile(sample, 0.25), quantile(sample, 0.75))
}
