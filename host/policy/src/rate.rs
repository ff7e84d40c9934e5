//! The hook `rate-limit`: all plugins and scopes must allow, and state moves only if they do.

use std::sync::Arc;
use std::time::Duration;

use heddle_model::{Clock, Decision, Hook};
use heddle_pack::contract::{
    self, KEEP_MS_MAX, Moment, REASON_BYTES_MAX, RateLimitOutcome, RateLimitRequest, STATE_BYTES_MAX, Scope, Verdict,
};

use crate::arm::{Arm, shared_name, subject};
use crate::component::{Component as _, Fault};
use crate::member::{Member, Turn};
use crate::shared::Seen;
use crate::state::{Locked, StateKey};
use crate::{Command, Generation, RateAnswer, RateAsk, Refusal, RefusalCode};

/// What a plugin wants to remember, until all have allowed.
pub(crate) struct Write {
    key: StateKey,
    bytes: Box<[u8]>,
    keep: u64,
}

/// One plugin's answer over its scopes.
pub(crate) struct Answer {
    pub(crate) refusals: Vec<contract::Refusal>,
    pub(crate) writes: Vec<Write>,
}

/// A call about a state that nodes share: what was asked with which bytes, and the answer. Not recorded yet: it may not be what decides.
pub(crate) struct Told {
    /// The plugin's place in its chain.
    pub(crate) place: usize,
    pub(crate) key: StateKey,
    pub(crate) request: RateLimitRequest,
    pub(crate) state: Vec<u8>,
    pub(crate) outcome: RateLimitOutcome,
    pub(crate) took: Duration,
}

/// What all plugins of an arm said.
pub(crate) struct Decided {
    /// One a plugin, in the order of the chain.
    pub(crate) decisions: Vec<Decision>,
    pub(crate) refusals: Vec<Refusal>,
    /// What is still to be stored where nodes share it, if nobody refused.
    pub(crate) told: Vec<Told>,
}

/// A decision that is to be made.
pub(crate) struct Question<'a> {
    pub(crate) ask: &'a RateAsk<'a>,
    pub(crate) at: Moment,
    pub(crate) keys: Vec<(Scope, Arc<str>)>,
    pub(crate) arm: &'a Arm,
}

impl Generation {
    /// May this client do this now? One call a scope and plugin; all must allow. What plugins share between nodes is not asked for:
    /// see [`Generation::rate_limit_together`].
    #[must_use]
    pub fn rate_limit(&self, ask: &RateAsk<'_>) -> RateAnswer {
        let question = self.question(ask);
        let decided = self.decide(&question, None);
        self.answer(question.arm, decided)
    }

    pub(crate) fn question<'a>(&'a self, ask: &'a RateAsk<'a>) -> Question<'a> {
        let at = Moment { now: ask.now, seed: self.luck() };
        let keys = self.scopes.iter().filter_map(|scope| Some((*scope, key(ask, *scope)?))).collect();
        Question { ask, at, keys, arm: self.arm(|| subject(ask.user, ask.conversation)) }
    }

    /// Asks the chain. What this node remembers alone is stored at once if all allow; with `seen`, what nodes share is left to the caller.
    pub(crate) fn decide(&self, question: &Question<'_>, seen: Option<&Seen>) -> Decided {
        let Question { ask, at, keys, arm } = question;
        let mut states = self.states.lock(keys);
        let (mut writes, mut told) = (Vec::new(), Vec::new());
        let (mut decisions, mut refusals) = (Vec::new(), Vec::new());
        for (place, member) in arm.chain(Hook::RateLimit).iter().enumerate() {
            let timed = member.ask(self, ask.user.as_str(), member.on_failure, |asked| {
                // What decides in a plugin's place counts on its node.
                let seen = seen.filter(|_| std::ptr::eq(asked, &raw const **member));
                let mut shared = seen.map(|seen| Sharing { seen, place, clock: &*self.clock, told: Vec::new() });
                let answer = ask_scopes(asked, *at, ask, keys, &mut states, shared.as_mut());
                match (&answer, shared) {
                    (Ok(_), Some(shared)) => told.extend(shared.told),
                    (Err(_), Some(shared)) => shared.told.iter().for_each(|told| asked.component.was_told(*at, told)),
                    (_, None) => {}
                }
                answer
            });
            let denied = match &timed.turn {
                Turn::Answered(answer, _) => !answer.refusals.is_empty(),
                Turn::Closed => true,
                Turn::Open => false,
            };
            decisions.push(member.decision(&timed, if denied { "deny" } else { "allow" }));
            if denied {
                member.health.refused();
            }
            match timed.turn {
                Turn::Answered(answer, _) => {
                    writes.extend(answer.writes);
                    refusals.extend(answer.refusals.into_iter().map(denial));
                }
                Turn::Closed => refusals.push(unavailable()),
                Turn::Open => {}
            }
        }
        if refusals.is_empty() {
            put_all(&mut states, writes, ask.now);
        } else {
            for told in &told {
                // A good copy for the time when nobody shares.
                states.remember(&told.key, &told.state, told.outcome.keep, ask.now);
            }
        }
        Decided { decisions, refusals, told }
    }

    pub(crate) fn answer(&self, arm: &Arm, decided: Decided) -> RateAnswer {
        let Decided { decisions, refusals, .. } = decided;
        self.count(arm, Hook::RateLimit, !refusals.is_empty());
        RateAnswer { denied: refusals.into_iter().max_by_key(severity), decisions }
    }
}

pub(crate) fn put_all(states: &mut Locked<'_>, writes: Vec<Write>, now: u64) {
    for write in writes {
        states.put(write.key, write.bytes, write.keep, now);
    }
}

/// States that nodes share, and what was said about them.
pub(crate) struct Sharing<'a> {
    seen: &'a Seen,
    place: usize,
    clock: &'a dyn Clock,
    told: Vec<Told>,
}

/// The longest wait is told; what waiting does not help comes before all.
fn severity(refusal: &Refusal) -> (bool, u64) {
    (!refusal.retryable, refusal.retry_after_ms.unwrap_or(0))
}

pub(crate) fn ask_scopes(
    member: &Member,
    at: Moment,
    ask: &RateAsk<'_>,
    keys: &[(Scope, Arc<str>)],
    states: &mut Locked<'_>,
    mut shared: Option<&mut Sharing<'_>>,
) -> Result<Answer, Fault> {
    let mut answer = Answer { refusals: Vec::new(), writes: Vec::new() };
    for (scope, key) in keys.iter().filter(|(scope, _)| member.scopes.contains(scope)) {
        let request = RateLimitRequest {
            scope: *scope,
            key: key.to_string(),
            command: command(ask.command),
            size: ask.size,
            connections: if *scope == Scope::Ip { ask.connections_ip } else { ask.connections_user },
            recipients: ask.recipients,
        };
        let state_key = state_key(member, *scope, key);
        if let Some(shared) = shared.as_deref_mut()
            && let Some(seen) = shared.seen.get(&state_key)
        {
            let (place, state, began) = (shared.place, seen.given.clone(), shared.clock.monotonic());
            let outcome = ask_unwatched(member, at, &request, &state)?;
            if let Verdict::Deny(refusal) = &outcome.verdict {
                answer.refusals.push(refusal.clone());
            }
            let took = shared.clock.monotonic().saturating_sub(began);
            shared.told.push(Told { place, key: state_key, request, state, outcome, took });
            continue;
        }
        let state = state(member, &state_key, states, ask.now);
        let outcome = check(member.component.rate_limit(at, &request, &state)?)?;
        match outcome.verdict {
            Verdict::Deny(refusal) => answer.refusals.push(refusal),
            Verdict::Allow => {
                answer.writes.push(Write { key: state_key, bytes: outcome.state.into(), keep: outcome.keep })
            }
        }
    }
    Ok(answer)
}

pub(crate) fn state_key(member: &Member, scope: Scope, key: &Arc<str>) -> StateKey {
    StateKey { plugin: member.name.clone(), version: member.state_version, scope, key: Arc::clone(key) }
}

/// Asks about a shared state. A fault decides, so it is recorded; an answer may have to be asked for again.
pub(crate) fn ask_unwatched(
    member: &Member,
    at: Moment,
    request: &RateLimitRequest,
    state: &[u8],
) -> Result<RateLimitOutcome, Fault> {
    let answered = member.bare.rate_limit(at, request, state);
    let checked = answered.clone().and_then(check);
    if checked.is_err() {
        member.component.was_answered(at, request, state, answered, Duration::ZERO);
    }
    checked
}

/// What the plugin remembered, brought to its version; a migration that fails starts afresh.
fn state(member: &Member, key: &StateKey, states: &mut Locked<'_>, now: u64) -> Vec<u8> {
    if let Some(state) = states.get(key, now) {
        return state.bytes.into();
    }
    let Some(version) = member.state_from else { return Vec::new() };
    let Some(state) = states.get(&StateKey { version, ..key.clone() }, now) else { return Vec::new() };
    migrated(member, version, &state.bytes)
}

pub(crate) fn migrated(member: &Member, version: u32, bytes: &[u8]) -> Vec<u8> {
    let migrated = member.component.migrate(version, bytes).ok().flatten();
    migrated.filter(|bytes| bytes.len() <= STATE_BYTES_MAX).unwrap_or_default()
}

fn check(outcome: RateLimitOutcome) -> Result<RateLimitOutcome, Fault> {
    if outcome.state.len() > STATE_BYTES_MAX {
        return Err(Fault::bounds(format!(
            "state has {} bytes, at most {STATE_BYTES_MAX} are kept",
            outcome.state.len()
        )));
    }
    if outcome.keep > KEEP_MS_MAX {
        return Err(Fault::bounds(format!("keep is {} ms, at most a day is kept", outcome.keep)));
    }
    if let Verdict::Deny(refusal) = &outcome.verdict {
        check_refusal(refusal)?;
    }
    Ok(outcome)
}

/// A reason that a client can be shown.
pub(crate) fn check_refusal(refusal: &contract::Refusal) -> Result<(), Fault> {
    let bytes = refusal.reason.len();
    if bytes > REASON_BYTES_MAX {
        return Err(Fault::bounds(format!("reason has {bytes} bytes, at most {REASON_BYTES_MAX} are told")));
    }
    Ok(())
}

pub(crate) fn denial(refusal: contract::Refusal) -> Refusal {
    Refusal {
        code: RefusalCode::RateLimited,
        reason: refusal.reason.into(),
        retry_after_ms: refusal.retry_after,
        retryable: refusal.retry_after.is_some(),
    }
}

/// The closed answer.
pub(crate) fn unavailable() -> Refusal {
    Refusal {
        code: RefusalCode::PolicyUnavailable,
        reason: "the policy that decides this failed, try again".into(),
        retry_after_ms: Some(1_000),
        retryable: true,
    }
}

/// Whose state a scope counts.
fn key(ask: &RateAsk<'_>, scope: Scope) -> Option<Arc<str>> {
    Some(match scope {
        Scope::User => ask.user.as_str().into(),
        Scope::Ip => ask.ip.to_canonical().to_string().into(),
        Scope::Connection => ask.connection?.to_string().into(),
        Scope::Conversation => shared_name(ask.user, ask.conversation?).into(),
        Scope::Member => format!("{}\n{}", shared_name(ask.user, ask.conversation?), ask.user).into(),
    })
}

fn command(command: Command) -> contract::Command {
    match command {
        Command::Connect => contract::Command::Connect,
        Command::ChatMessage => contract::Command::ChatMessage,
        Command::Receipt => contract::Command::Receipt,
        Command::Typing => contract::Command::Typing,
        Command::Presence => contract::Command::Presence,
        Command::History => contract::Command::History,
        Command::Membership => contract::Command::Membership,
        Command::Other => contract::Command::Other,
    }
}
