//! One message to one recipient who is there, durable, on an idle server: from the send until the recipient has it.

use std::time::Duration;

use crate::floor::{Floor, LINE_BYTES};
use crate::machine::{Machine, Side};
use crate::row;
use crate::server::Server;
use crate::table::{print, quantile, ratios, spread, verdict};

pub(crate) const ROUNDS: usize = 5;
const MESSAGES: usize = 500;
const WARM_UP: usize = 200;
/// Between two messages.
const PAUSE: Duration = Duration::from_millis(3);
const GOAL_P50: f64 = 1.5;
const GOAL_P99: f64 = 3.0;
/// In seconds, of every message.
const GOAL_WORST: f64 = 0.1;
/// Makes a record of about the length of the floor's line.
pub(crate) const TEXT: &str = "A message as people write them: neither long nor short.";

pub(crate) fn measure(machine: &Machine) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let server = Server::start(machine, dir.path(), Some(Side::Server))?;
    let mut floor = Floor::start(machine, 1, dir.path())?;
    let (mut alice, mut bob) = (server.open("alice", "d")?, server.open("bob", "d")?);
    machine.pin(Side::Generator);
    let mut sent = 0;
    let mut round = |messages| -> anyhow::Result<Vec<f64>> {
        let mut took = Vec::with_capacity(messages);
        for _ in 0..messages {
            machine.pause(PAUSE);
            alice.drain()?;
            bob.drain()?;
            sent += 1;
            let text = format!("{sent}: {TEXT}");
            let began = machine.now();
            alice.chat(r#""to":"bob""#, &format!("m{sent}"), &text)?;
            bob.message(&text)?;
            took.push(machine.now() - began);
        }
        Ok(took)
    };
    round(WARM_UP)?;
    floor.round(machine, WARM_UP, PAUSE)?;
    let mut latency = Latency::default();
    for _ in 0..ROUNDS {
        latency.add(&round(MESSAGES)?, &floor.round(machine, MESSAGES, PAUSE)?);
    }
    machine.unpin();
    latency.print(
        "1:1, durable, unloaded",
        Some(GOAL_P50),
        GOAL_P99,
        GOAL_WORST,
        &format!(
            "From the send until the recipient has it; one message at a time (closed loop), {} ms between two; {ROUNDS} rounds of {MESSAGES}, in turn \
             with the floor: a TCP relay that appends {LINE_BYTES} B to a preallocated file and syncs it. Median of the rounds (smallest to largest).",
            PAUSE.as_millis()
        ),
    );
    Ok(())
}

/// Quantiles of each round, in seconds.
#[derive(Default)]
pub(crate) struct Latency {
    ours: Quantiles,
    theirs: Quantiles,
    /// Of all rounds.
    worst: f64,
}

#[derive(Default)]
struct Quantiles {
    p50: Vec<f64>,
    p99: Vec<f64>,
}

impl Latency {
    pub(crate) fn add(&mut self, ours: &[f64], floor: &[f64]) {
        self.worst = self.worst.max(quantile(ours, 1.0));
        for (of, sample) in [(&mut self.ours, ours), (&mut self.theirs, floor)] {
            of.p50.push(quantile(sample, 0.5));
            of.p99.push(quantile(sample, 0.99));
        }
    }

    /// `goal_worst` in seconds.
    pub(crate) fn print(&self, heading: &str, goal_p50: Option<f64>, goal_p99: f64, goal_worst: f64, note: &str) {
        let row = |name: &str, ours: &[f64], floor: &[f64], goal: Option<f64>| {
            let ratios = ratios(ours, floor);
            let met = goal.map_or("", |goal| verdict(crate::table::median(&ratios) <= goal));
            let goal = goal.map_or(String::new(), |goal| format!("at most {goal}"));
            row![name, millis(ours), millis(floor), spread(&ratios, 2), goal, met]
        };
        print(
            heading,
            &["", "Heddle, ms", "floor, ms", "ratio", "goal", ""],
            &[
                row("p50", &self.ours.p50, &self.theirs.p50, goal_p50),
                row("p99", &self.ours.p99, &self.theirs.p99, Some(goal_p99)),
            ],
            &format!(
                "{note} The slowest took {:.1} ms; goal: never {:.0} ms ({}).",
                self.worst * 1e3,
                goal_worst * 1e3,
                verdict(self.worst < goal_worst),
            ),
        );
    }
}

fn millis(seconds: &[f64]) -> String {
    let millis: Vec<f64> = seconds.iter().map(|seconds| seconds * 1e3).collect();
    spread(&millis, 3)
}
