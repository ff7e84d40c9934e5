//! The hook `fanout`: pull wins, and per member the more restrictive answer.

use heddle_model::{Conversation, Decision, Delivery, Fallback, GroupId, Hook, Plan, UserId};
use heddle_pack::OnFailure;
use heddle_pack::contract::{self, Audience, FanoutMode, Moment};

use crate::component::{Component as _, Fault};
use crate::generation::seed;
use crate::member::{Member, Turn};
use crate::{Generation, PlanAsk, SortAsk, SortRetry, Sorted};

/// Tries after which the built-in decides for a plugin that fails and says `closed`.
const STRIKES: u32 = 2;
const BACK_OFF_MS: u64 = 100;
const BACK_OFF_MS_MAX: u64 = 10_000;

impl Generation {
    /// Push or pull? Pull wins. The gateway cannot wait, so in place of a plugin that fails and says `closed` the built-in decides.
    #[must_use]
    pub fn plan(&self, ask: &PlanAsk<'_>) -> (Plan, Vec<Decision>) {
        let at = Moment { now: ask.now, seed: seed(ask.id) };
        let audience = audience(ask.group, ask.sender, ask.members, ask.online);
        let mut plan = Plan::Push;
        let arm = self.arm(|| group(ask.group));
        let chain = arm.chain(Hook::Fanout);
        let mut decisions = Vec::with_capacity(chain.len());
        for member in chain {
            let timed = member.ask(self, ask.group.as_str(), not_closed(member), |member| {
                member.component.plan(at, &audience, &ask.message)
            });
            let pull = matches!(timed.turn, Turn::Answered(FanoutMode::Pull, _));
            if pull {
                plan = Plan::Pull;
            }
            decisions.push(member.decision(&timed, if pull { "pull" } else { "push" }));
        }
        (plan, decisions)
    }

    /// Who of a page of members gets it, and how?
    ///
    /// # Errors
    /// A plugin failed and says `closed`, or the built-in failed too: ask again later.
    pub fn sort(&self, ask: &SortAsk<'_>) -> Result<Sorted, SortRetry> {
        let at = Moment { now: ask.now, seed: seed(ask.id) };
        let audience = audience(ask.group, ask.sender, ask.members, ask.online);
        let mut deliveries = vec![Delivery::Push; ask.facts.len()];
        let arm = self.arm(|| group(ask.group));
        let chain = arm.chain(Hook::Fanout);
        let mut decisions = Vec::with_capacity(chain.len());
        for member in chain {
            let on_failure = if ask.attempt >= STRIKES { not_closed(member) } else { member.on_failure };
            let timed = member.ask(self, ask.group.as_str(), on_failure, |member| {
                sorted(&member.component.sort(at, &audience, &ask.message, ask.facts)?, ask.facts.len())
            });
            let mut decision = member.decision(&timed, "sort");
            let Turn::Answered(answer, _) = timed.turn else {
                if ask.last {
                    decision.fallback = Some(Fallback::Open);
                    decisions.push(decision);
                    continue;
                }
                let after_ms = BACK_OFF_MS.saturating_mul(1 << ask.attempt.min(16)).min(BACK_OFF_MS_MAX);
                return Err(SortRetry { after_ms });
            };
            for (held, said) in deliveries.iter_mut().zip(answer) {
                *held = stricter(*held, said);
            }
            decisions.push(decision);
        }
        Ok(Sorted { deliveries, decisions })
    }
}

fn not_closed(member: &Member) -> OnFailure {
    match member.on_failure {
        OnFailure::Closed => OnFailure::Builtin,
        other => other,
    }
}

fn sorted(codes: &[u8], members: usize) -> Result<Vec<Delivery>, Fault> {
    if codes.len() != members {
        return Err(Fault::bounds(format!("sorted {} members, {members} were asked", codes.len())));
    }
    let delivery = |code: &u8| match contract::Delivery::from_code(*code) {
        Some(contract::Delivery::Push) => Ok(Delivery::Push),
        Some(contract::Delivery::Quiet) => Ok(Delivery::Quiet),
        Some(contract::Delivery::LeaveOut) => Ok(Delivery::LeaveOut),
        None => Err(Fault::bounds(format!("delivery {code} does not exist, use 0 to 2"))),
    };
    codes.iter().map(delivery).collect()
}

fn stricter(one: Delivery, other: Delivery) -> Delivery {
    match (one, other) {
        (Delivery::LeaveOut, _) | (_, Delivery::LeaveOut) => Delivery::LeaveOut,
        (Delivery::Quiet, _) | (_, Delivery::Quiet) => Delivery::Quiet,
        (Delivery::Push, Delivery::Push) => Delivery::Push,
    }
}

/// The group as an arm's subject.
fn group(group: &GroupId) -> String {
    Conversation::Group(group.clone()).to_string()
}

fn audience(group: &GroupId, sender: &UserId, members: u32, online: u32) -> Audience {
    Audience { group: group.as_str().to_owned(), sender: sender.as_str().to_owned(), members, online }
}
