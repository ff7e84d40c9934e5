//! Memory of connections that wait: authenticated, greeted, caught up, with nothing to say. Afterwards each gets one message, and all are counted.

use std::time::Duration;

use anyhow::ensure;

use crate::machine::{Machine, Side, field};
use crate::row;
use crate::server::Server;
use crate::socket::Socket;
use crate::table::{print, verdict};

/// The slope is taken between these numbers of connections, so that what the server needs anyway is left out.
const FEW: usize = 1_000;
const MANY: usize = 10_000;
/// Files of either process beside its sockets.
const FILES_BESIDE: u64 = 1_000;
const GOAL_KIB: f64 = 8.0;
/// Messages that are sent before the first of them is read.
const AT_ONCE: usize = 100;

/// What server and kernel hold.
struct Memory {
    resident: u64,
    slab: u64,
}

pub(crate) fn measure(machine: &Machine) -> anyhow::Result<()> {
    let needed = MANY as u64 + FILES_BESIDE;
    ensure!(
        machine.files_max >= needed,
        "{MANY} connections need {needed} open files a process, {} are allowed",
        machine.files_max
    );
    let dir = tempfile::tempdir()?;
    let server = Server::start(machine, dir.path(), Some(Side::Server))?;
    let mut sockets = Vec::with_capacity(MANY);
    connect(machine, &server, &mut sockets, FEW)?;
    let few = settled(machine, &server)?;
    let cpu = server.cpu()?;
    connect(machine, &server, &mut sockets, MANY)?;
    let cpu = server.cpu()? - cpu;
    let many = settled(machine, &server)?;
    let arrived = deliver(&server, &mut sockets)?;
    let after = settled(machine, &server)?;

    let kib = |from: u64, to: u64| (to as f64 - from as f64) / 1024.0 / (MANY - FEW) as f64;
    let waiting = kib(few.resident, many.resident);
    print(
        "Idle connections",
        &["per connection", "KiB", "goal", ""],
        &[
            row![
                "resident memory of the server",
                format!("{waiting:.1}"),
                format!("at most {GOAL_KIB:.0}"),
                verdict(waiting <= GOAL_KIB)
            ],
            row![
                "the same, after each has got one message",
                format!("{:.1}", kib(few.resident, after.resident)),
                "",
                ""
            ],
            row!["kernel slab, both ends of the socket", format!("{:.1}", kib(few.slab, many.slab)), "", ""],
        ],
        &format!(
            "Slope between {FEW} and {MANY} connections of as many users, each greeted and caught up; {:.0} µs of server CPU each to connect. \
             The server had {:.0} MiB at {FEW}. Then each was sent one message: {arrived} of {MANY} arrived.",
            cpu * 1e6 / (MANY - FEW) as f64,
            few.resident as f64 / 1024.0 / 1024.0,
        ),
    );
    ensure!(arrived == MANY, "only {arrived} of {MANY} messages arrived");
    Ok(())
}

fn connect(machine: &Machine, server: &Server, sockets: &mut Vec<Socket>, upto: usize) -> anyhow::Result<()> {
    machine.pin(Side::Generator);
    for at in sockets.len()..upto {
        sockets.push(server.open(&format!("u{at}"), "d")?);
    }
    machine.unpin();
    Ok(())
}

/// Waits until the server's memory has stood still: what connecting needed is given back, as far as it ever is.
fn settled(machine: &Machine, server: &Server) -> anyhow::Result<Memory> {
    let mut before = server.resident()?;
    for _ in 0..10 {
        machine.pause(Duration::from_secs(1));
        let now = server.resident()?;
        if now.abs_diff(before) < 64 * 1024 {
            break;
        }
        before = now;
    }
    Ok(Memory { resident: server.resident()?, slab: field("/proc/meminfo", "Slab:")? })
}

/// A message to each; how many arrived.
fn deliver(server: &Server, sockets: &mut [Socket]) -> anyhow::Result<usize> {
    let mut sender = server.open("sender", "d")?;
    let mut arrived = 0;
    for (chunk, receivers) in sockets.chunks_mut(AT_ONCE).enumerate() {
        let number = |at: usize| chunk * AT_ONCE + at;
        let text = |at: usize| format!("message {}", number(at));
        for at in 0..receivers.len() {
            sender.chat(&format!(r#""to":"u{}""#, number(at)), &format!("m{}", number(at)), &text(at))?;
        }
        for (at, receiver) in receivers.iter_mut().enumerate() {
            receiver.message(&text(at))?;
            receiver.acknowledge()?;
            arrived += 1;
        }
        sender.drain()?;
    }
    Ok(arrived)
}
