//! One message to a group, durable, on an idle server: from the send until the last of the members has it.

use std::time::Duration;

use crate::direct::{Latency, TEXT};
use crate::floor::{Floor, LINE_BYTES};
use crate::machine::{Machine, Side};
use crate::server::Server;
use crate::socket::{ACK_EVERY, Socket};

const MEMBERS: usize = 100;
/// A p99 of so few messages is what their two slowest happened to meet: its median needs many rounds.
const ROUNDS: usize = 15;
const MESSAGES: usize = 200;
const WARM_UP: usize = 50;
const PAUSE: Duration = Duration::from_millis(20);
const GOAL_P99: f64 = 3.0;
const GOAL_WORST: f64 = 0.5;

pub(crate) fn measure(machine: &Machine) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let server = Server::start(machine, dir.path(), Some(Side::Server))?;
    let mut floor = Floor::start(machine, MEMBERS, dir.path())?;
    let users: Vec<String> = (0..MEMBERS).map(|at| format!("u{at}")).collect();
    let mut members = users.iter().map(|user| server.open(user, "d")).collect::<anyhow::Result<Vec<Socket>>>()?;
    for (at, member) in (0..).zip(&mut members) {
        member.count_from(at);
    }
    let group = format!(r#""group":"{}""#, server.group(&users)?);
    machine.pin(Side::Generator);
    let mut sent = 0;
    let mut round = |messages| -> anyhow::Result<Vec<f64>> {
        let mut took = Vec::with_capacity(messages);
        for _ in 0..messages {
            machine.pause(PAUSE);
            for member in &mut members {
                member.drain()?;
            }
            sent += 1;
            let text = format!("{sent}: {TEXT}");
            let began = machine.now();
            members[0].chat(&group, &format!("m{sent}"), &text)?;
            for member in &mut members {
                member.message(&text)?;
            }
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
        &format!("A group of {MEMBERS}, durable, unloaded"),
        None,
        GOAL_P99,
        GOAL_WORST,
        &format!(
            "From the send until the last member has it, the sender's own copy included; one message at a time (closed loop), {} ms between two; \
             each member acknowledges every {ACK_EVERY}th event, not all of them the same one; {ROUNDS} rounds of {MESSAGES}, in turn with the floor: \
             one append of {LINE_BYTES} B, one sync, then a write to each of {MEMBERS} sockets.",
            PAUSE.as_millis(),
        ),
    );
    Ok(())
}
