//! `heddle plugin trial`: how the plugin on trial does, for people.

use std::fmt::Write as _;

use serde_json::Value;

use super::change::text;

/// Differences that are shown; the JSON has more.
const SHOWN_MAX: usize = 5;

/// A block a hook.
pub(super) fn text_of(answer: &Value) -> String {
    let mut out = String::new();
    for trial in answer["trial"].as_array().into_iter().flatten() {
        let plugin = format!("{} {}", text(&trial["name"]), text(&trial["version"]));
        let _ = writeln!(out, "{} {plugin}: {}", text(&trial["hook"]), text(&trial["standing"]));
        if let Some(shadow) = trial["shadow"].as_object() {
            let micros = shadow["micros"].as_f64().unwrap_or_default();
            let _ = writeln!(
                out,
                "  {} same, {} changed ({} of them faults), {} not looked at, {micros:.1} µs a call",
                shadow["same"], shadow["changed"], shadow["faults"], shadow["dropped"]
            );
            let differences = shadow["differences"].as_array().map(Vec::as_slice).unwrap_or_default();
            for difference in differences.iter().rev().take(SHOWN_MAX) {
                let _ = writeln!(
                    out,
                    "  decided {}, would be {}\n    {}",
                    difference["decided"], difference["would"], difference["call"]
                );
            }
        }
        if let Some(canary) = trial["canary"].as_object() {
            let arm = |arm: &Value| format!("{} of {}", arm["refused"], arm["asked"]);
            let (own, others) = (arm(&canary["own"]), arm(&canary["others"]));
            let _ = writeln!(
                out,
                "  refuses {own}, the others {others}; {} calls, {} faults",
                canary["calls"], canary["faults"]
            );
        }
    }
    match out.is_empty() {
        true => "nothing is on trial: heddle plugin deploy FILE --shadow, or --canary 10%".to_owned(),
        false => out,
    }
}
