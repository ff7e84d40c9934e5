use heddle_pack::contract::{Delivery, Visibility};
use heddle_pack::{Call, Case, CaseMessage, Step};
use serde_json::{Value, json};

use crate::engine::Engine;
use crate::fault::Fault;
use crate::instance::Instance;
use crate::load::{LoadError, LoadOptions};
use crate::message::MessageView;
use crate::plugin::Plugin;

/// How often every case is run on one used instance, each time in another order.
const ROUNDS: u64 = 3;

/// What a plugin's cases showed.
#[derive(Clone, Debug, Default)]
pub struct CaseReport {
    /// Cases that were run.
    pub cases: usize,
    /// Answers that differ from what the case expects.
    pub failed: Vec<Mismatch>,
    /// Answers that differ between a fresh and a used instance: the policy is not pure.
    pub impure: Vec<Mismatch>,
}

impl CaseReport {
    /// Everything as expected, and pure?
    pub fn passed(&self) -> bool {
        self.failed.is_empty() && self.impure.is_empty()
    }

    /// For the plugin's author, one a wrong answer; none if all is well.
    pub fn problems(&self) -> Option<Vec<String>> {
        let failed = self.failed.iter().map(|wrong| {
            let Mismatch { case, step, wanted, found } = wrong;
            format!("case {case:?}, step {step}: expects {wanted}, got {found}")
        });
        let impure = self.impure.iter().map(|wrong| {
            let Mismatch { case, step, wanted, found } = wrong;
            format!("case {case:?}, step {step}: a fresh instance answers {wanted}, a used one {found}: keep nothing between calls")
        });
        let problems: Vec<String> = failed.chain(impure).collect();
        (!problems.is_empty()).then_some(problems)
    }
}

/// One answer that is not as it should be.
#[derive(Clone, Debug, PartialEq)]
pub struct Mismatch {
    /// The case's name.
    pub case: String,
    /// From 1.
    pub step: usize,
    /// What the case expects, or what a fresh instance answered.
    pub wanted: Value,
    /// What came.
    pub found: Value,
}

/// Runs cases on fresh instances, then shuffled on used ones. A case with a configuration of its own gets its own instances. `packed` is loaded as `options` say.
pub fn run_cases(plugin: &Plugin, cases: &[Case]) -> Result<CaseReport, Fault> {
    let mut report = CaseReport { cases: cases.len(), ..CaseReport::default() };
    let mut fresh = Vec::with_capacity(cases.len());
    for case in cases {
        let mut instance = plugin.configured(case)?;
        let answers = run(&mut Source::Fresh(plugin, case, &mut instance), case)?;
        for (index, (step, found)) in case.steps.iter().zip(&answers).enumerate() {
            if !fits(&step.expect, found) {
                report.failed.push(mismatch(case, index, &step.expect, found));
            }
        }
        fresh.push(answers);
    }
    for round in 0..ROUNDS {
        let mut used: Vec<(Option<Value>, Instance)> = Vec::new();
        for index in shuffled(cases.len(), round) {
            let case = &cases[index];
            let at = match used.iter().position(|(config, instance)| *config == case.config && !instance.spent) {
                Some(at) => at,
                None => {
                    used.push((case.config.clone(), plugin.configured(case)?));
                    used.len() - 1
                }
            };
            let answers = run(&mut Source::Used(plugin, case, &mut used[at].1), case)?;
            for (step, (wanted, found)) in fresh[index].iter().zip(&answers).enumerate() {
                if wanted != found
                    && !report.impure.iter().any(|known| known.case == case.name && known.step == step + 1)
                {
                    report.impure.push(mismatch(case, step, wanted, found));
                }
            }
        }
    }
    Ok(report)
}

impl Plugin {
    pub(crate) fn configured(&self, case: &Case) -> Result<Instance, Fault> {
        let config = case.config.as_ref().map_or_else(|| self.config.clone(), Value::to_string);
        self.blueprint.instance(&self.inner, &config).map_err(|failure| failure.into_fault())
    }
}

impl Engine {
    /// Loads a plugin and runs its own cases: the check before a deployment.
    pub fn check_cases(&self, packed: &heddle_pack::Packed, options: &LoadOptions) -> Result<CaseReport, LoadError> {
        let plugin = self.load(packed, options)?;
        run_cases(&plugin, &packed.cases).map_err(LoadError::Start)
    }
}

/// Where the steps of a case run: each in an instance of its own, or all in one.
pub(crate) enum Source<'a> {
    Fresh(&'a Plugin, &'a Case, &'a mut Instance),
    Used(&'a Plugin, &'a Case, &'a mut Instance),
}

impl Source<'_> {
    fn instance(&mut self) -> Result<&mut Instance, Fault> {
        match self {
            Self::Fresh(plugin, case, instance) => {
                if instance.calls > 0 {
                    **instance = plugin.configured(case)?;
                }
                Ok(instance)
            }
            Self::Used(plugin, case, instance) => {
                if instance.spent {
                    **instance = plugin.configured(case)?;
                }
                Ok(instance)
            }
        }
    }
}

pub(crate) fn run(source: &mut Source<'_>, case: &Case) -> Result<Vec<Value>, Fault> {
    let mut state = Vec::new();
    let mut answers = Vec::with_capacity(case.steps.len());
    for step in &case.steps {
        let answer = answer(source.instance()?, step, &mut state);
        answers.push(answer.unwrap_or_else(|fault| json!({"fault": fault.kind.as_str(), "text": fault.text})));
    }
    Ok(answers)
}

fn answer(instance: &mut Instance, step: &Step, state: &mut Vec<u8>) -> Result<Value, Fault> {
    let at = &step.at;
    Ok(match &step.call {
        Call::RateLimit { request, state: given } => {
            let outcome = instance.rate_limit(at, request, given.as_ref().unwrap_or(state))?;
            state.clone_from(&outcome.state);
            plain(&outcome)
        }
        Call::Routing { envelope, message } => {
            json!({"decision": plain(&instance.routing(at, envelope, &View::of(message))?)})
        }
        Call::Plan { audience, message } => {
            json!({"mode": plain(&instance.fanout_plan(at, audience, &View::of(message))?)})
        }
        Call::Sort { audience, facts, message } => {
            let codes = instance.fanout_sort(at, audience, facts, &View::of(message))?;
            json!({"delivery": names(&codes, &Delivery::NAMES)})
        }
        Call::Observe { observation } => plain(&instance.presence_observe(at, observation)?),
        Call::Reveal { subject, relations } => {
            let codes = instance.presence_reveal(at, subject, relations)?;
            json!({"visibility": names(&codes, &Visibility::NAMES)})
        }
    })
}

fn plain(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

fn names(codes: &[u8], names: &[&str]) -> Vec<Value> {
    codes.iter().map(|code| Value::from(names.get(usize::from(*code)).copied().unwrap_or("?"))).collect()
}

/// Does `found` have everything that `wanted` names? Objects may have more, and null stands for an absent key; everything else must be equal.
pub(crate) fn fits(wanted: &Value, found: &Value) -> bool {
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => wanted.iter().all(|(key, value)| {
            let key = if key == "retry-after" { "retry_after" } else { key };
            fits(value, found.get(key).unwrap_or(&Value::Null))
        }),
        _ => wanted == found,
    }
}

fn mismatch(case: &Case, index: usize, wanted: &Value, found: &Value) -> Mismatch {
    Mismatch { case: case.name.clone(), step: index + 1, wanted: wanted.clone(), found: found.clone() }
}

/// The numbers below `count` in an order that depends on `round` alone.
fn shuffled(count: usize, round: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by_key(|index| {
        (*index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15 ^ round.wrapping_mul(0xbf58_476d_1ce4_e5b9))
    });
    order
}

struct View<'a> {
    message: &'a CaseMessage,
    data: Option<Vec<u8>>,
}

impl<'a> View<'a> {
    fn of(message: &'a CaseMessage) -> Self {
        Self { message, data: message.data.as_ref().map(|data| data.to_string().into_bytes()) }
    }
}

impl MessageView for View<'_> {
    fn kind(&self) -> &str {
        self.message.kind.as_deref().unwrap_or("message")
    }

    fn text(&self) -> Option<&str> {
        self.message.text.as_deref()
    }

    fn data(&self) -> Option<&[u8]> {
        self.data.as_deref()
    }

    fn tags(&self, each: &mut dyn FnMut(&str, &str)) {
        self.message.tags.iter().for_each(|(name, value)| each(name, value));
    }

    fn lamport(&self) -> u64 {
        self.message.lamport
    }

    fn sender_since(&self) -> u64 {
        self.message.sender_since
    }
}
