//! `heddle-checker FILE`: a line for each thing in a recorded history that must never be.
//!
//! Read `heddle_checker::Line` for what it takes and `heddle_checker::Kind` for what it looks for. Exit 0: nothing; 1: something; 65: no history.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it says what it found")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::process::ExitCode;

use anyhow::Context as _;
use heddle_checker::{Anomaly, History, Kind, check};

/// Of one kind so many are printed.
const SHOWN_MAX: usize = 10;

fn main() -> ExitCode {
    match run() {
        Ok(anomalies) if anomalies.is_empty() => ExitCode::SUCCESS,
        Ok(anomalies) => {
            print(&anomalies);
            ExitCode::from(1)
        }
        Err(error) => {
            eprintln!("heddle-checker: {error:#}");
            ExitCode::from(65)
        }
    }
}

fn run() -> anyhow::Result<Vec<Anomaly>> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(path), None) = (arguments.next(), arguments.next()) else {
        anyhow::bail!("name one file with a history");
    };
    let shown = path.to_string_lossy().into_owned();
    let file = File::open(&path).with_context(|| format!("cannot open {shown}"))?;
    let history = History::read(BufReader::new(file)).with_context(|| format!("cannot read {shown}"))?;
    Ok(check(&history))
}

fn print(anomalies: &[Anomaly]) {
    let mut by_kind: BTreeMap<Kind, Vec<&Anomaly>> = BTreeMap::new();
    for anomaly in anomalies {
        by_kind.entry(anomaly.kind).or_default().push(anomaly);
    }
    for (kind, them) in by_kind {
        for anomaly in them.iter().take(SHOWN_MAX) {
            println!("anomaly: {anomaly}");
        }
        if them.len() > SHOWN_MAX {
            println!("anomaly: {}: {} in all", kind.name(), them.len());
        }
    }
}
