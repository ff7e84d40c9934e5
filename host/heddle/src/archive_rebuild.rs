//! `heddle archive rebuild`: makes the archive's rows of the retained log anew, while no server runs. (DELIVERY 12)

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Mutex;

use heddle_delivery::{Progress, Rebuilt, Tally, rebuild};

use crate::cli::{ArchiveRebuildArgs, Output};
use crate::config::Sources;
use crate::failure::Failure;
use crate::server::{repair, settings};

/// Opens log and store as a server does, repairs, and says what stdout should show.
///
/// # Errors
/// A server runs; there is no log; log and store do not belong together; one of them does not answer.
pub async fn command(args: &ArchiveRebuildArgs) -> Result<String, Failure> {
    let mut sources = Sources {
        file: args.config.clone(),
        variables: Sources::environment(),
        assignments: args.set.clone(),
        ..Sources::default()
    };
    if args.config.is_none() {
        sources.flags.push(("node.data_dir", args.data.to_string_lossy().into_owned(), "flag --data"));
    }
    let config = sources.load()?;
    let opened = repair::open(&config).await?;
    let shown = Mutex::new(String::new());
    let tell = |progress: Progress| {
        let line = said(&progress);
        // A partition in small pieces says the same many times.
        let mut shown = shown.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if *shown != line {
            let _ = writeln!(std::io::stderr(), "# {line}");
            *shown = line;
        }
    };
    let done = rebuild(&settings::delivery(&config), opened.deps(), args.dry_run, &tell).await;
    opened.close().await;
    let rebuilt = done.map_err(|error| Failure::new(format!("the archive is not rebuilt to its end: {error}")))?;
    match args.output {
        Output::Json => serde_json::to_string(&rebuilt).map_err(|error| Failure::new(error.to_string())),
        Output::Text => Ok(people(&rebuilt)),
    }
}

/// In steps of a tenth.
fn said(progress: &Progress) -> String {
    match progress {
        Progress::Groups(partition) => format!("{partition}: groups"),
        Progress::Records { partition, done, all } => {
            let tenths = if *all == 0 { 10 } else { done * 10 / all };
            format!("{partition}: {} % of {all} records", tenths * 10)
        }
        Progress::Newest => "receipts, and the newest of each conversation".to_owned(),
    }
}

fn people(rebuilt: &Rebuilt) -> String {
    let mut out = String::new();
    let _ =
        writeln!(out, "read {} records of {} partitions, epoch {}", rebuilt.read, rebuilt.partitions, rebuilt.epoch);
    for (name, tally) in [("records", rebuilt.records), ("stream", rebuilt.stream), ("pulled", rebuilt.pulled)] {
        let Tally { rows, missing, different, foreign } = tally;
        let _ = writeln!(
            out,
            "{name:<14}{rows} rows; {missing} were missing, {different} different, {foreign} not in the log"
        );
    }
    for (name, wrong) in [
        ("groups", rebuilt.groups),
        ("heads", rebuilt.heads),
        ("receipts", rebuilt.receipts),
        ("conversations", rebuilt.conversations),
    ] {
        let _ = writeln!(out, "{name:<14}{wrong} were not as the log has them");
    }
    if rebuilt.given_up > 0 {
        let _ = writeln!(out, "{} records are given up: see the table dead_letters", rebuilt.given_up);
    }
    out.push_str(match (rebuilt.was_whole(), rebuilt.dry_run) {
        (true, _) => "the archive is what the log says",
        (false, true) => "nothing was changed; without --dry-run it is made what the log says",
        (false, false) => "the archive was made what the log says",
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_wrong_is_told_table_by_table() {
        let whole = Rebuilt { read: 7, partitions: 32, ..Rebuilt::default() };
        assert!(people(&whole).ends_with("the archive is what the log says"), "{}", people(&whole));
        let records = Tally { rows: 7, missing: 2, different: 1, foreign: 3 };
        let wrong = people(&Rebuilt { dry_run: true, records, ..whole });
        assert!(wrong.contains("7 rows; 2 were missing, 1 different, 3 not in the log"), "{wrong}");
        assert!(wrong.contains("nothing was changed"), "{wrong}");
    }
}
