//! Recorded calls, put to a candidate: what would have been decided otherwise.

use std::collections::HashMap;
use std::sync::Arc;

use heddle_model::Digest;
use heddle_pack::contract::{Scope, Verdict};
use serde::Serialize;

use crate::Component;
use crate::call::{Answer, Call};
use crate::record::Recorded;
use crate::shadow::passed;

/// What a candidate said to recorded calls.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Replayed {
    /// Calls that it decided as they were decided.
    pub same: usize,
    /// The others, in the order of the calls.
    pub changed: Vec<Otherwise>,
    /// Calls that it would not have been asked.
    pub skipped: usize,
    /// SHA-256 over all its answers, in hex: the same calls and the same file give the same.
    pub answers: String,
}

/// A call that would be decided otherwise.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Otherwise {
    /// The call, and its answer then.
    #[serde(flatten)]
    pub recorded: Recorded,
    /// The candidate's.
    pub would: Answer,
}

/// How a candidate stands to the plugin that was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Succession {
    /// Another version of it, that reads its state.
    Same,
    /// Another version of it, that remembers otherwise: it starts afresh.
    OtherState,
    /// It would be asked after it.
    After,
}

/// Makes the calls in order, each on an instance that has seen no other.
#[must_use]
pub fn replay(candidate: &Arc<dyn Component>, calls: &[Recorded], succession: Succession) -> Replayed {
    let fresh = candidate.afresh().unwrap_or_else(|| Arc::clone(candidate));
    let mut remembered: HashMap<(Scope, String), Vec<u8>> = HashMap::new();
    let mut replayed = Replayed { same: 0, changed: Vec::new(), skipped: 0, answers: String::new() };
    let mut answers = Vec::new();
    for recorded in calls {
        let decided = match succession {
            Succession::After => passed(&recorded.call, recorded.answer.clone()),
            Succession::Same | Succession::OtherState => Some(recorded.answer.clone()),
        };
        let Some(decided) = decided else {
            replayed.skipped += 1;
            continue;
        };
        let mut call = recorded.call.clone();
        if succession != Succession::Same
            && let Call::RateLimit { request, state } = &mut call
        {
            *state = remembered.get(&(request.scope, request.key.clone())).cloned().unwrap_or_default();
        }
        let would = call.make(recorded.at, &*fresh);
        if let (Call::RateLimit { request, .. }, Answer::Outcome(outcome)) = (&call, &would)
            && outcome.verdict == Verdict::Allow
        {
            remembered.insert((request.scope, request.key.clone()), outcome.state.clone());
        }
        serde_json::to_writer(&mut answers, &would).unwrap_or_default();
        let same = match recorded.redacted {
            true => decided.decides_as_crossed_out(&would),
            false => decided.decides_as(&would),
        };
        match same {
            true => replayed.same += 1,
            false => replayed.changed.push(Otherwise { recorded: recorded.clone(), would }),
        }
    }
    replayed.answers = Digest::of(&answers).to_string();
    replayed
}
