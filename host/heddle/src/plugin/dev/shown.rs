//! What happened, for people and for programs.

use std::io::Write as _;

use serde_json::{Value, json};

use crate::cli::Output;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Ready for the first save.
    Watching { files: usize, generation: u64 },
    /// A save decides. Times are in seconds; `seconds` from the save.
    Serving {
        generation: u64,
        before: u64,
        digest: String,
        cases: usize,
        seconds: f64,
        build: f64,
        prove: f64,
        swap: f64,
    },
    /// The build came out as before.
    Same { generation: u64, digest: String },
    /// It does not build, a case fails, or the server refuses it.
    Stays { generation: u64, text: String },
    /// It was told to stop.
    Ended { generation: u64, first: u64, restored: Option<u64> },
}

impl Event {
    fn json(&self) -> Value {
        match self {
            Self::Watching { files, generation } => {
                json!({"event": "watching", "files": files, "generation": generation})
            }
            Self::Serving { generation, before, digest, cases, seconds, build, prove, swap } => json!({
                "event": "serving", "generation": generation, "before": before, "digest": digest, "cases": cases,
                "seconds": seconds, "build_seconds": build, "cases_seconds": prove, "swap_seconds": swap,
            }),
            Self::Same { generation, digest } => json!({"event": "same", "generation": generation, "digest": digest}),
            Self::Stays { generation, text } => json!({"event": "stays", "generation": generation, "problem": text}),
            Self::Ended { generation, first, restored } => {
                json!({"event": "ended", "generation": generation, "first": first, "restored": restored})
            }
        }
    }

    fn text(&self) -> String {
        let short = |digest: &str| digest.get(..12).unwrap_or(digest).to_owned();
        match self {
            Self::Watching { files, generation } => {
                format!("watching {files} files; generation {generation} decides. Ctrl-C ends it.")
            }
            Self::Serving { generation, before, digest, .. } if generation == before => {
                format!("generation {generation} decides already: sha256 {}", short(digest))
            }
            Self::Serving { generation, digest, cases, seconds, build, prove, swap, .. } => format!(
                "generation {generation} decides, {seconds:.2} s after the save: sha256 {}, {cases} case(s) pass (build {build:.2} s, cases {prove:.2} s, swap {swap:.2} s)",
                short(digest)
            ),
            Self::Same { generation, digest } => {
                format!("generation {generation} goes on: the file is the same, sha256 {}", short(digest))
            }
            Self::Stays { generation, text } => format!("generation {generation} goes on: {text}"),
            Self::Ended { generation, restored: Some(restored), first } => {
                format!("generation {restored} decides, as {first} did before; {generation} is in the history")
            }
            Self::Ended { generation, first, .. } if generation == first => format!("generation {generation} goes on"),
            Self::Ended { generation, first, .. } => {
                format!("generation {generation} goes on; back to before: heddle plugin rollback {first}")
            }
        }
    }
}

/// Where it is shown.
#[derive(Debug)]
pub struct Screen {
    output: Output,
}

impl Screen {
    /// On stdout.
    pub fn new(output: Output) -> Self {
        Self { output }
    }

    /// Shows it at once. Nobody reads: then nobody minds.
    pub fn say(&mut self, event: &Event) {
        let text = match self.output {
            Output::Json => event.json().to_string(),
            Output::Text => event.text(),
        };
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{text}").and_then(|()| out.flush());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_ends_it_reads_what_stays_and_how_to_go_back() {
        let ended = Event::Ended { generation: 5, first: 2, restored: None };
        assert!(ended.text().contains("generation 5") && ended.text().contains("rollback 2"), "{}", ended.text());
        let restored = Event::Ended { generation: 5, first: 2, restored: Some(6) };
        assert!(restored.text().starts_with("generation 6 decides, as 2 did"), "{}", restored.text());
    }
}
