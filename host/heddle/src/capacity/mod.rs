//! `heddle capacity`: servers, partitions, brokers, memory, storage and cost of a target, each with its formula.
//!
//! [`figures`] is what one server can do, [`target`] what is asked for, [`formulas`] the one place where the two meet. All of it is arithmetic:
//! nothing is measured here, and nothing running is asked.

mod amount;
mod figures;
mod formulas;
mod show;
mod target;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use figures::Figures;
use target::{Draft, Spare, Target};

use crate::cli::Output;
use crate::failure::Failure;

/// A target that is known by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Like {
    /// 500 million connections in four regions, 100 billion messages a day.
    Original,
}

/// `heddle capacity`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  heddle capacity --like original            the original design's target: its figures, and ours
  heddle capacity --connections 2M --messages-per-day 300M
  heddle capacity --connections 2M --messages-per-day 300M --region us=60 --region eu=40
  heddle capacity --target target.toml --set server.cores=16 --output json

A file says the same; flags win over it, and it over --like:
  [target]                     # connections, messages_per_day, peak or peak_factor, partitions,
  connections = 2_000_000      # message_bytes, retention_days, archive_days, replication, spare
  messages_per_day = \"300M\"
  [regions]
  us = 60
  eu = 40
  [server]                     # any key that is printed under Figures
  cores = 16

Each figure says where it is from. `measured` is from two cores of a shared machine, `assumed`
from nobody: put your own in with --set. A message counts as 1:1; one to a group of 100 as ten.")]
pub struct CapacityArgs {
    /// Begin with this target
    #[arg(long, value_enum)]
    pub like: Option<Like>,
    /// A file with the target, its regions and figures
    #[arg(long, value_name = "FILE")]
    pub target: Option<PathBuf>,
    /// Connections at once: 500M, 500_000_000
    #[arg(long, value_name = "N")]
    pub connections: Option<String>,
    /// Messages a day
    #[arg(long, value_name = "N")]
    pub messages_per_day: Option<String>,
    /// Messages a second at the peak
    #[arg(long, value_name = "N", conflicts_with = "peak_factor")]
    pub peak: Option<String>,
    /// Peak by average, where no peak is given [default: 3]
    #[arg(long, value_name = "F")]
    pub peak_factor: Option<String>,
    /// Bytes of a message [default: 1 KB]
    #[arg(long, value_name = "SIZE")]
    pub message_bytes: Option<String>,
    /// Days that the log keeps [default: 7]
    #[arg(long, value_name = "DAYS")]
    pub retention_days: Option<String>,
    /// Days that the archive keeps [default: 365]
    #[arg(long, value_name = "DAYS")]
    pub archive_days: Option<String>,
    /// Partitions at least [default: 16]
    #[arg(long, value_name = "N")]
    pub partitions: Option<String>,
    /// Copies of a record in the log [default: 3]
    #[arg(long, value_name = "N")]
    pub replication: Option<String>,
    /// What may be lost without anybody waiting [default: server]
    #[arg(long, value_enum)]
    pub spare: Option<Spare>,
    /// A region and its share in per cent; repeatable
    #[arg(long = "region", value_name = "NAME=SHARE")]
    pub regions: Vec<String>,
    /// A figure of ours; repeatable
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// For people or programs
    #[arg(long, value_enum, default_value = "text")]
    pub output: Output,
}

impl CapacityArgs {
    fn numbers(&self) -> [(&'static str, &Option<String>); 9] {
        [
            ("connections", &self.connections),
            ("messages_per_day", &self.messages_per_day),
            ("peak", &self.peak),
            ("peak_factor", &self.peak_factor),
            ("message_bytes", &self.message_bytes),
            ("retention_days", &self.retention_days),
            ("archive_days", &self.archive_days),
            ("partitions", &self.partitions),
            ("replication", &self.replication),
        ]
    }

    /// Preset, file, flags.
    fn read(&self) -> Result<(Target, Figures), Failure> {
        let mut draft = Draft::new();
        if self.like == Some(Like::Original) {
            draft.like_original();
        }
        if let Some(path) = &self.target {
            let text = std::fs::read_to_string(path)
                .map_err(|error| Failure::missing(format!("--target {} cannot be read: {error}", path.display())))?;
            draft.file(&path.display().to_string(), &text);
        }
        for (key, given) in self.numbers() {
            if let Some(text) = given {
                draft.number(&format!("--{}", key.replace('_', "-")), key, text);
            }
        }
        if let Some(spare) = self.spare {
            draft.spare(spare);
        }
        if !self.regions.is_empty() {
            draft.no_regions();
        }
        for text in &self.regions {
            match text.split_once('=') {
                Some((name, share)) => draft.region(&format!("--region {text}"), name.trim(), share),
                None => draft.problem(format!("--region {text}: write it as NAME=SHARE, like eu=20")),
            }
        }
        for text in &self.set {
            match text.split_once('=') {
                Some((key, value)) => draft.figure(&format!("--set {text}"), key.trim(), value.trim()),
                None => draft.problem(format!("--set {text}: write it as KEY=VALUE, like server.cores=16")),
            }
        }
        draft.finish().map_err(|problems| {
            let count = problems.len();
            let plural = if count == 1 { "" } else { "s" };
            Failure::usage(format!("the target has {count} problem{plural}\n  {}", problems.join("\n  ")))
        })
    }
}

/// The text for stdout.
///
/// # Errors
/// All that is wrong with flags and file.
pub fn command(args: &CapacityArgs) -> Result<String, Failure> {
    let (target, ours) = args.read()?;
    let plan = show::Plan::new(target, Figures::original(), ours);
    Ok(match args.output {
        Output::Text => plan.text(),
        Output::Json => plan.json(),
    })
}
