//! The bounds of answers, as the contract states them.

use heddle_pack::contract::{
    Changes, KEEP_MS_MAX, ONLY_MAX, REASON_BYTES_MAX, RECHECK_MS_MIN, RateLimitOutcome, Refusal, RoutingDecision,
    STATE_BYTES_MAX, Sighting, TAG_NAME_BYTES_MAX, TAG_VALUE_BYTES_MAX, TAGS_MAX, TEXT_BYTES_MAX, USER_BYTES_MAX,
    Verdict,
};

use crate::fault::{Fault, FaultKind};

pub(crate) fn outcome(outcome: &RateLimitOutcome) -> Result<(), Fault> {
    at_most("bytes of state", outcome.state.len(), STATE_BYTES_MAX)?;
    if outcome.keep > KEEP_MS_MAX {
        return Err(Fault::bad_answer(format!("keep = {} ms, at most {KEEP_MS_MAX} are allowed", outcome.keep)));
    }
    match &outcome.verdict {
        Verdict::Allow => Ok(()),
        Verdict::Deny(why) => refusal(why),
    }
}

pub(crate) fn state(state: &[u8]) -> Result<(), Fault> {
    at_most("bytes of state", state.len(), STATE_BYTES_MAX)
}

pub(crate) fn decision(decision: &RoutingDecision, reads_body: bool) -> Result<(), Fault> {
    match decision {
        RoutingDecision::Accept | RoutingDecision::Discard => Ok(()),
        RoutingDecision::Reject(why) => refusal(why),
        RoutingDecision::AcceptWith(new) => changes(new, reads_body),
    }
}

fn changes(changes: &Changes, reads_body: bool) -> Result<(), Fault> {
    if let Some(text) = &changes.text {
        if !reads_body {
            let text = "a changed text needs the body: add `body = true` under [reads] in plugin.toml";
            return Err(Fault::new(FaultKind::BodyNotDeclared, text));
        }
        at_most("bytes of text", text.len(), TEXT_BYTES_MAX)?;
    }
    if let Some(only) = &changes.only {
        at_most("members in `only`", only.len(), ONLY_MAX)?;
        for user in only {
            at_most("bytes of a user in `only`", user.len(), USER_BYTES_MAX)?;
        }
    }
    at_most("tags", changes.tags.len(), TAGS_MAX)?;
    for (name, value) in &changes.tags {
        at_most("bytes of a tag's name", name.len(), TAG_NAME_BYTES_MAX)?;
        at_most("bytes of a tag's value", value.len(), TAG_VALUE_BYTES_MAX)?;
        if name.is_empty() {
            return Err(Fault::bad_answer("a tag without a name"));
        }
    }
    Ok(())
}

/// A column must be as long as the one that came, of codes that exist.
pub(crate) fn column(answer: &[u8], wanted: usize, codes: u8) -> Result<(), Fault> {
    if answer.len() != wanted {
        return Err(Fault::bad_answer(format!("{} codes for {wanted} members or viewers", answer.len())));
    }
    match answer.iter().find(|code| **code >= codes) {
        Some(code) => Err(Fault::bad_answer(format!("the code {code} does not exist, the last is {}", codes - 1))),
        None => Ok(()),
    }
}

pub(crate) fn sighting(sighting: &Sighting) -> Result<(), Fault> {
    if (1..RECHECK_MS_MIN).contains(&sighting.recheck) {
        let text = format!("recheck = {} ms, use 0 or at least {RECHECK_MS_MIN}", sighting.recheck);
        return Err(Fault::bad_answer(text));
    }
    Ok(())
}

fn refusal(refusal: &Refusal) -> Result<(), Fault> {
    at_most("bytes of reason", refusal.reason.len(), REASON_BYTES_MAX)
}

fn at_most(what: &str, found: usize, max: usize) -> Result<(), Fault> {
    if found > max { Err(Fault::bad_answer(format!("{found} {what}, at most {max} are allowed"))) } else { Ok(()) }
}
