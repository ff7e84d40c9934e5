//! How long a change of the policy set takes for whoever makes it, and what those who chat notice of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::author::{Desk, operate};
use crate::direct::{ROUNDS, TEXT};
use crate::machine::{Machine, Side};
use crate::row;
use crate::server::Server;
use crate::socket::Socket;
use crate::table::{median, print, quantile, ratios, spread, verdict};

const CHANGES: usize = 7;
const EDITS: usize = 5;
const FIRST_BUILD_GOAL: f64 = 30.0;
const DEPLOY_GOAL: f64 = 1.0;
const ROLLBACK_GOAL: f64 = 0.1;
const EDIT_GOAL: f64 = 3.0;
const RATIO_GOAL: f64 = 1.2;
/// Sends a second, and seconds with and without swaps in each round.
const RATE: f64 = 400.0;
const SECONDS: f64 = 4.0;
/// Behind everybody else.
const LAST: i32 = 19;
/// Between two swaps of an operator in a hurry.
const PACE: Duration = Duration::from_secs(1);

pub(crate) fn measure(machine: &Machine) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut desk = Desk::new(machine, dir.path())?;
    changes(machine, &mut desk)?;
    under_load(machine, &mut desk)
}

/// From the operator's or author's side.
fn changes(machine: &Machine, desk: &mut Desk) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let server = Server::start(machine, dir.path(), None)?;
    let (mut deploys, mut rollbacks, mut edits) = (vec![], vec![], vec![]);
    for _ in 0..CHANGES {
        let file = desk.file(machine)?;
        let began = machine.now();
        operate(machine, &server, &["deploy", path(&file)?])?;
        deploys.push(machine.now() - began);
        let began = machine.now();
        operate(machine, &server, &["rollback"])?;
        rollbacks.push(machine.now() - began);
    }
    let mut dev = desk.dev(machine, &server)?;
    // It deploys what is there first.
    dev.serving()?;
    for number in 1..=EDITS {
        let began = machine.now();
        desk.edit(number)?;
        dev.serving()?;
        edits.push(machine.now() - began);
    }
    let row = |name: &str, took: &[f64], digits: usize, goal: f64| {
        row![name, spread(took, digits), format!("under {goal}"), verdict(median(took) < goal)]
    };
    print(
        "Changes of the policy set",
        &["", "seconds", "goal", ""],
        &[
            row![
                "the first build of a Rust policy, its target directory empty",
                format!("{:.1}", desk.first_build),
                format!("under {FIRST_BUILD_GOAL}"),
                verdict(desk.first_build < FIRST_BUILD_GOAL)
            ],
            row("a Rust policy, from its file until it decides", &deploys, 3, DEPLOY_GOAL),
            row("a rollback", &rollbacks, 3, ROLLBACK_GOAL),
            row(
                "an edit of a Rust policy in `heddle plugin dev`, from the save until it decides",
                &edits,
                2,
                EDIT_GOAL,
            ),
        ],
        &format!(
            "From the start of the command (of the edit: from the save) to its end; the first build is `heddle plugin build`, once, with the packages \
             downloaded; {CHANGES} files, each with a digest that the server has not seen, \
             so that it is compiled; {EDITS} edits, each built by cargo. All cores."
        ),
    );
    Ok(())
}

/// From the side of those who chat.
fn under_load(machine: &Machine, desk: &mut Desk) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let files = [desk.file(machine)?, desk.file(machine)?];
    let server = Server::start(machine, dir.path(), Some(Side::Server))?;
    // Both are compiled before anything is measured.
    for file in &files {
        operate(machine, &server, &["deploy", path(file)?])?;
    }
    machine.pin(Side::Generator);
    let mut alice = server.open("alice", "d")?;
    let mut sent = 0;
    arrivals(machine, &mut alice, &mut sent)?;
    let mut quiet = vec![];
    // Pauses between two swaps, how many there were, and the p99 of each round.
    let mut paces = [(PACE, 0, vec![]), (Duration::ZERO, 0, vec![])];
    for _ in 0..ROUNDS {
        quiet.push(quantile(&arrivals(machine, &mut alice, &mut sent)?, 0.99));
        for (pace, swaps, p99) in &mut paces {
            let done = AtomicBool::new(false);
            let took = thread::scope(|scope| {
                let operator = scope.spawn(|| -> anyhow::Result<usize> {
                    // It and its commands give way to the generator, with which an operator would not share a core.
                    let _ = rustix::process::setpriority_process(None, LAST);
                    let (mut made, began) = (0, machine.now());
                    while !done.load(Ordering::Relaxed) {
                        operate(machine, &server, &["deploy", path(&files[made % 2])?])?;
                        made += 1;
                        let due = began + pace.as_secs_f64() * made as f64;
                        machine.pause(Duration::from_secs_f64((due - machine.now()).max(0.0)));
                    }
                    Ok(made)
                });
                let took = arrivals(machine, &mut alice, &mut sent);
                done.store(true, Ordering::Relaxed);
                *swaps += operator.join().map_err(|_| anyhow::anyhow!("the operator fell"))??;
                took
            })?;
            p99.push(quantile(&took, 0.99));
        }
    }
    machine.unpin();
    let millis = |seconds: &[f64]| spread(&seconds.iter().map(|seconds| seconds * 1e3).collect::<Vec<_>>(), 2);
    let row = |name: &str, p99: &[f64], goal: bool| {
        let ratios = ratios(p99, &quiet);
        let (goal, met) = match goal {
            true => (format!("at most {RATIO_GOAL}"), verdict(median(&ratios) <= RATIO_GOAL)),
            false => (String::new(), ""),
        };
        row![name, millis(&quiet), millis(p99), spread(&ratios, 2), goal, met]
    };
    let [(_, slow, slowly), (_, fast, at_once)] = paces;
    print(
        "Sends while policies are swapped",
        &[
            "p99, from the moment at which it was due until it was accepted",
            "without swaps, ms",
            "with, ms",
            "ratio",
            "goal",
            "",
        ],
        &[row("a swap each second", &slowly, true), row("one swap after the other", &at_once, false)],
        &format!(
            "{RATE} sends a second at a constant rate (open loop), durable; {ROUNDS} rounds of {SECONDS} s each, without swaps, with one each second \
             ({slow} in all), and with one after the other ({fast}), by the command. The server had one core; the generator the other, and the commands what it left of that."
        ),
    );
    Ok(())
}

/// Sends at a constant rate, whatever the answers do; seconds from the moment at which each was due until it was accepted.
fn arrivals(machine: &Machine, socket: &mut Socket, sent: &mut usize) -> anyhow::Result<Vec<f64>> {
    let (first, count) = (*sent, (RATE * SECONDS) as usize);
    *sent += count;
    let mut writer = socket.writer()?;
    let began = machine.now();
    let due = move |number: usize| began + (number - first) as f64 / RATE;
    thread::scope(|scope| {
        let sending = scope.spawn(move || -> anyhow::Result<()> {
            for number in first..first + count {
                machine.pause(Duration::from_secs_f64((due(number) - machine.now()).max(0.0)));
                writer.chat(r#""to":"bob""#, &number.to_string(), TEXT)?;
            }
            Ok(())
        });
        let mut took = Vec::with_capacity(count);
        while took.len() < count {
            let frame = socket.frame()?.context("an answer did not come in time")?;
            ensure!(frame.kind != "rejected" && frame.kind != "error", "the server refused: {frame:?}");
            if frame.kind == "accepted" {
                let number: usize = frame.client_id.context("an answer to nothing")?.parse()?;
                took.push(machine.now() - due(number));
            }
        }
        sending.join().map_err(|_| anyhow::anyhow!("the sender fell"))??;
        Ok(took)
    })
}

fn path(file: &std::path::Path) -> anyhow::Result<&str> {
    file.to_str().context("a path in UTF-8")
}
