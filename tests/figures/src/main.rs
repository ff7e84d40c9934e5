//! Measures what the README says about speed and memory: a release build of the server, driven over real sockets, beside a bare floor in the
//! same run; and policies as components beside the same source compiled natively.
//!
//! It is not a load generator for other machines, and nothing of it is in the product. One figure a module; read [`server::Server`] (the binary
//! as a child) and [`socket::Socket`] (one client) first. `tests/figures/run [NAME...]` runs all, or those named.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it prints figures, and what it is at")]

mod author;
mod calls;
mod cluster;
mod direct;
mod durable;
mod floor;
mod group;
mod idle;
mod load;
mod machine;
mod policies;
mod ready;
mod recovery;
mod server;
mod socket;
mod swaps;
mod table;
mod twin;
mod world;

use anyhow::{Context as _, bail};

use crate::machine::Machine;

/// One figure: its name on the command line, and what measures and prints it.
type Figure = (&'static str, fn(&Machine) -> anyhow::Result<()>);

const FIGURES: [Figure; 10] = [
    ("idle", idle::measure),
    ("direct", direct::measure),
    ("load", load::measure),
    ("group", group::measure),
    ("policies", policies::measure),
    ("durable", durable::measure),
    ("ready", ready::measure),
    ("recovery", recovery::measure),
    ("swaps", swaps::measure),
    ("cluster", cluster::measure),
];

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, receivers, dir] = words.as_slice()
        && mode == "relay"
    {
        return floor::relay(receivers.parse().context("how many receivers?")?, dir.as_ref());
    }
    let names = FIGURES.map(|(name, _)| name);
    if let Some(unknown) = words.iter().find(|word| !names.contains(&word.as_str())) {
        bail!("there is no figure {unknown:?}, only {}", names.join(", "));
    }
    let machine = Machine::here()?;
    println!("{}", machine.describe());
    for (name, measure) in FIGURES {
        if words.is_empty() || words.iter().any(|word| word == name) {
            eprintln!("figures: {name}");
            measure(&machine).with_context(|| format!("measuring {name}"))?;
        }
    }
    Ok(())
}
