//! The hook `rate-limit` where nodes count together.

use std::sync::Arc;

use futures_util::future::join_all;
use heddle_model::Hook;
use heddle_pack::contract::Scope;
use metrics::counter;

use crate::member::{Member, Timed, Turn};
use crate::rate::{Answer, Decided, Question, Told, ask_scopes, denial, put_all, state_key, unavailable};
use crate::shared::{Seen, Settled, SharedStates, WITHIN};
use crate::state::StateKey;
use crate::{Generation, RateAnswer, RateAsk, Refusal, RefusalCode};

/// What to wait after others were always first. That was within a few milliseconds.
const LATE_MS: u64 = 50;

impl Generation {
    /// Do some of its rate limits count together with other nodes? Else [`Generation::rate_limit`] says all there is to say.
    #[must_use]
    pub fn counts_together(&self) -> bool {
        self.shared.is_some()
    }

    /// May this client do this now? As [`Generation::rate_limit`], with the state of plugins that share it as all nodes have it; within 5 ms,
    /// else this node's copy decides. Whom nobody refuses is counted at each plugin and scope; if somebody was first there and that one
    /// refuses now, what was counted at the others stays counted.
    pub async fn rate_limit_together(&self, ask: &RateAsk<'_>) -> RateAnswer {
        let question = self.question(ask);
        let Some(shared) = self.shared.as_ref().filter(|_| members(&question).any(|member| member.shares)) else {
            let decided = self.decide(&question, None);
            return self.answer(question.arm, decided);
        };
        let began = self.clock.monotonic();
        let seen = match shared.may_be_asked() {
            true => shared.read(wanted(&question)).await,
            false => None,
        };
        let mut decided = self.decide(&question, seen.as_ref());
        let Some(seen) = seen else {
            count("away");
            return self.answer(question.arm, decided);
        };
        let told = std::mem::take(&mut decided.told);
        if decided.refusals.is_empty() {
            let within = WITHIN.saturating_sub(self.clock.monotonic().saturating_sub(began));
            let changes = told.into_iter().map(|told| self.change(shared, &question, &seen, told, within));
            let settled = join_all(changes).await;
            self.settle(&question, &mut decided, settled);
        } else {
            told.iter().for_each(|told| member(&question, told.place).component.was_told(question.at, told));
            count("shared");
        }
        self.answer(question.arm, decided)
    }

    async fn change(
        &self,
        shared: &Arc<SharedStates>,
        question: &Question<'_>,
        seen: &Seen,
        told: Told,
        within: std::time::Duration,
    ) -> (usize, StateKey, Settled) {
        let (place, key) = (told.place, told.key.clone());
        let Some(seen) = seen.get(&key).cloned() else { return (place, key, Settled::Away) };
        let member = member(question, place);
        let settled = shared.settle(member, question.ask.user.as_str(), question.at, told, seen, within).await;
        (place, key, settled)
    }

    fn settle(&self, question: &Question<'_>, decided: &mut Decided, settled: Vec<(usize, StateKey, Settled)>) {
        let mut outcome = "shared";
        for (place, key, settled) in settled {
            let member = member(question, place);
            let before = decided.refusals.len();
            match settled {
                Settled::Allowed => {}
                Settled::Refused(refusal) => decided.refusals.push(denial(refusal)),
                Settled::Late => {
                    outcome = "conflict";
                    decided.refusals.push(late());
                }
                Settled::Away => {
                    if outcome == "shared" {
                        outcome = "away";
                    }
                    let timed = self.alone(member, question, (key.scope, key.key));
                    let verdict = decided.decisions[place].verdict.clone();
                    if timed.fallback().is_some() {
                        decided.decisions[place] = member.decision(&timed, &verdict);
                    }
                    match timed.turn {
                        Turn::Answered(answer, _) => decided.refusals.extend(answer.refusals.into_iter().map(denial)),
                        Turn::Closed => decided.refusals.push(unavailable()),
                        Turn::Open => {}
                    }
                }
            }
            if decided.refusals.len() > before && &*decided.decisions[place].verdict != "deny" {
                decided.decisions[place].verdict = "deny".into();
                member.health.refused();
            }
        }
        count(outcome);
    }

    /// Asks one plugin about one key with this node's copy, which is changed if it allows.
    fn alone(&self, member: &Arc<Member>, question: &Question<'_>, key: (Scope, Arc<str>)) -> Timed<Answer> {
        let (ask, keys) = (question.ask, [key]);
        let mut states = self.states.lock(&keys);
        let mut timed = member.ask(self, ask.user.as_str(), member.on_failure, |asked| {
            ask_scopes(asked, question.at, ask, &keys, &mut states, None)
        });
        if let Turn::Answered(answer, _) = &mut timed.turn
            && answer.refusals.is_empty()
        {
            put_all(&mut states, std::mem::take(&mut answer.writes), ask.now);
        }
        timed
    }
}

fn members<'a>(question: &'a Question<'_>) -> impl Iterator<Item = &'a Arc<Member>> {
    question.arm.chain(Hook::RateLimit).iter()
}

fn member<'a>(question: &'a Question<'_>, place: usize) -> &'a Arc<Member> {
    &question.arm.chain(Hook::RateLimit)[place]
}

/// The states to read. A connection lives on one node, so what is counted of it does too.
fn wanted<'a>(question: &'a Question<'_>) -> Vec<(StateKey, &'a Arc<Member>)> {
    let shared = members(question).filter(|member| member.shares);
    let keys = |member: &'a Arc<Member>| {
        let counted = |(scope, _): &&(Scope, Arc<str>)| *scope != Scope::Connection && member.scopes.contains(scope);
        let keys = question.keys.iter().filter(counted);
        keys.map(move |(scope, key)| (state_key(member, *scope, key), member))
    };
    shared.flat_map(keys).collect()
}

/// Others were first each time. Whoever was has been counted; this one is not let in uncounted.
fn late() -> Refusal {
    Refusal {
        code: RefusalCode::RateLimited,
        reason: "too much at once".into(),
        retry_after_ms: Some(LATE_MS),
        retryable: true,
    }
}

fn count(outcome: &'static str) {
    counter!("heddle_rate_shared_total", "outcome" => outcome).increment(1);
}
