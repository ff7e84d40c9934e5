//! The hook `rate-limit`: all plugins and scopes must allow, and state moves only if they do.

use std::sync::Arc;

use heddle_model::Hook;
use heddle_pack::contract::{
    self, KEEP_MS_MAX, Moment, REASON_BYTES_MAX, RateLimitOutcome, RateLimitRequest, STATE_BYTES_MAX, Scope, Verdict,
};

use crate::arm::{shared_name, subject};
use crate::component::{Component as _, Fault};
use crate::member::{Member, Turn};
use crate::state::{Locked, StateKey};
use crate::{Command, Generation, RateAnswer, RateAsk, Refusal, RefusalCode};

/// What a plugin wants to remember, until all have allowed.
struct Write {
    key: StateKey,
    bytes: Box<[u8]>,
    keep: u64,
}

/// One plugin's answer over its scopes.
struct Answer {
    refusals: Vec<contract::Refusal>,
    writes: Vec<Write>,
}

impl Generation {
    /// May this client do this now? One call a scope and plugin; all must allow.
    #[must_use]
    pub fn rate_limit(&self, ask: &RateAsk<'_>) -> RateAnswer {
        let at = Moment { now: ask.now, seed: self.luck() };
        let keys: Vec<(Scope, Arc<str>)> =
            self.scopes.iter().filter_map(|scope| Some((*scope, key(ask, *scope)?))).collect();
        let arm = self.arm(|| subject(ask.user, ask.conversation));
        let mut states = self.states.lock(&keys);
        let (mut decisions, mut refusals, mut writes) = (Vec::new(), Vec::new(), Vec::new());
        for member in arm.chain(Hook::RateLimit) {
            let timed = member.ask(self, ask.user.as_str(), member.on_failure, |member| {
                ask_scopes(member, at, ask, &keys, &mut states)
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
        self.count(arm, Hook::RateLimit, !refusals.is_empty());
        if refusals.is_empty() {
            for write in writes {
                states.put(write.key, write.bytes, write.keep, ask.now);
            }
        }
        RateAnswer { denied: refusals.into_iter().max_by_key(severity), decisions }
    }
}

/// The longest wait is told; what waiting does not help comes before all.
fn severity(refusal: &Refusal) -> (bool, u64) {
    (!refusal.retryable, refusal.retry_after_ms.unwrap_or(0))
}

fn ask_scopes(
    member: &Member,
    at: Moment,
    ask: &RateAsk<'_>,
    keys: &[(Scope, Arc<str>)],
    states: &mut Locked<'_>,
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
        let version = member.state_version;
        let state_key = StateKey { plugin: member.name.clone(), version, scope: *scope, key: key.clone() };
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

/// What the plugin remembered, brought to its version; a migration that fails starts afresh.
fn state(member: &Member, key: &StateKey, states: &mut Locked<'_>, now: u64) -> Vec<u8> {
    if let Some(state) = states.get(key, now) {
        return state.bytes.into();
    }
    let Some(version) = member.state_from else { return Vec::new() };
    let Some(state) = states.get(&StateKey { version, ..key.clone() }, now) else { return Vec::new() };
    let migrated = member.component.migrate(version, &state.bytes).ok().flatten();
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

fn denial(refusal: contract::Refusal) -> Refusal {
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
