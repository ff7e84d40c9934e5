use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use heddle_model::{Clock, Digest, Hook, MessageId};
use heddle_pack::contract::Scope;

use crate::ArmTally;
use crate::arm::{Arm, Canary, place};
use crate::content::TrialMode;
use crate::health::Tally;
use crate::member::Member;
use crate::shadow::{Shadow, ShadowReport};
use crate::shared::SharedStates;
use crate::state::States;

/// One whole, immutable policy set. Calls are synchronous: microseconds, at most their deadlines.
pub struct Generation {
    pub(crate) number: u64,
    /// What decides, for all or for most.
    pub(crate) stable: Arm,
    pub(crate) canary: Option<Canary>,
    pub(crate) shadows: Vec<(Arc<Member>, Arc<Shadow>)>,
    /// Plugins that keep their place and are not asked.
    pub(crate) disabled: Vec<PolicyInfo>,
    /// Numbers of generations whose records the built-in plan fans out.
    pub(crate) revoked: BTreeSet<u64>,
    /// All that its content names.
    pub(crate) files: BTreeSet<Digest>,
    /// One a hook, in the order of [`Hook::ALL`].
    pub(crate) builtins: [Arc<Member>; 4],
    /// All that any rate limit of it counts, fallbacks included: a decision locks them beforehand.
    pub(crate) scopes: Vec<Scope>,
    pub(crate) states: Arc<States>,
    /// Only if a rate limit of it counts with other nodes.
    pub(crate) shared: Option<Arc<SharedStates>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) luck: Luck,
    pub(crate) micros: Vec<(Hook, usize, f64)>,
}

/// What a plugin has to say in a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It decides.
    Decides,
    /// It keeps its place, and is not asked.
    Disabled,
    /// It is tried.
    Trial(TrialMode),
}

/// One plugin of a generation, for people.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyInfo {
    /// Where it decides.
    pub hook: Hook,
    /// The manifest's name.
    pub name: Box<str>,
    /// The manifest's version.
    pub version: Box<str>,
    /// SHA-256 of the file.
    pub digest: Digest,
    /// With the operator's changes.
    pub config: serde_json::Map<String, serde_json::Value>,
    /// What decides when it fails.
    pub on_failure: heddle_pack::OnFailure,
    /// What it has to say.
    pub standing: Standing,
    /// Of a call, as measured at start: the median of some; 0 if it failed or was not measured.
    pub micros: f64,
    /// What it did since.
    pub tally: Tally,
}

/// How a plugin on trial does, at one hook.
#[derive(Debug, Clone)]
pub struct TrialReport {
    /// Where.
    pub hook: Hook,
    /// The manifest's name.
    pub name: Box<str>,
    /// The manifest's version.
    pub version: Box<str>,
    /// How.
    pub mode: TrialMode,
    /// Of a shadow: what it would have said.
    pub shadow: Option<ShadowReport>,
    /// Of a canary: its arm's decisions, and those of the others.
    pub arms: Option<(ArmTally, ArmTally)>,
    /// What the plugin itself did.
    pub tally: Tally,
}

impl Generation {
    /// Its number; numbers only grow.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Its plugins, by hook and place in the chain; those on trial come after them.
    #[must_use]
    pub fn describe(&self) -> Vec<PolicyInfo> {
        let mut infos = Vec::new();
        for hook in Hook::ALL {
            let chain = self.stable.chain(hook).iter().enumerate();
            infos.extend(chain.map(|(at, member)| PolicyInfo {
                micros: self.micros.iter().find(|(of, place, _)| (*of, *place) == (hook, at)).map_or(0.0, |at| at.2),
                ..info(member, Standing::Decides)
            }));
            infos.extend(self.disabled.iter().filter(|disabled| disabled.hook == hook).cloned());
            let tried = self.on_trial().filter(|(member, _)| member.hook == hook);
            infos.extend(tried.map(|(member, mode)| info(member, Standing::Trial(mode))));
        }
        infos
    }

    /// How the plugin on trial does.
    #[must_use]
    pub fn trial(&self) -> Vec<TrialReport> {
        let report = |(member, mode): (&Arc<Member>, TrialMode)| {
            let shadow = self.shadows.iter().find(|(shadow, _)| Arc::ptr_eq(shadow, member));
            let arms =
                self.canary.as_ref().map(|canary| (canary.arm.tally(member.hook), self.stable.tally(member.hook)));
            TrialReport {
                hook: member.hook,
                name: member.name.clone(),
                version: member.version.clone(),
                mode,
                shadow: shadow.map(|(_, shadow)| shadow.report()),
                arms,
                tally: member.health.tally(),
            }
        };
        self.on_trial().map(report).collect()
    }

    pub(crate) fn on_trial(&self) -> impl Iterator<Item = (&Arc<Member>, TrialMode)> {
        let shadows = self.shadows.iter().map(|(member, _)| (member, TrialMode::Shadow));
        let canaries = self.canary.iter().flat_map(|canary| {
            let own =
                canary.arm.members().filter(|member| !self.stable.members().any(|held| Arc::ptr_eq(held, member)));
            own.map(|member| (member, TrialMode::Canary { percent: canary.percent }))
        });
        shadows.chain(canaries)
    }

    /// All that it may ask, and as what. Some come twice: the first is what they are.
    pub(crate) fn members(&self) -> impl Iterator<Item = (&Arc<Member>, &'static str)> {
        let canary = || self.canary.iter().flat_map(|canary| canary.arm.members());
        let previous = self.stable.members().chain(canary()).flat_map(|member| &member.previous);
        let named = |name| move |member| (member, name);
        let chain = self.stable.members().map(named("chain")).chain(canary().map(named("canary")));
        chain.chain(previous.map(named("previous"))).chain(self.builtins.iter().map(named("builtin")))
    }

    /// Which arm decides of this conversation, or of this user where there is none.
    pub(crate) fn arm(&self, subject: impl FnOnce() -> String) -> &Arm {
        match &self.canary {
            Some(canary) if canary.takes(&subject()) => &canary.arm,
            _ => &self.stable,
        }
    }

    /// For the comparison of two arms; of one there is nothing to compare.
    pub(crate) fn count(&self, arm: &Arm, hook: Hook, refused: bool) {
        if self.canary.is_some() {
            arm.count(hook, refused);
        }
    }

    pub(crate) fn chain(&self, hook: Hook) -> &[Arc<Member>] {
        self.stable.chain(hook)
    }

    pub(crate) fn builtin(&self, hook: Hook) -> &Arc<Member> {
        &self.builtins[place(hook)]
    }

    pub(crate) fn luck(&self) -> u64 {
        self.luck.next()
    }
}

fn info(member: &Member, standing: Standing) -> PolicyInfo {
    PolicyInfo {
        hook: member.hook,
        name: member.name.clone(),
        version: member.version.clone(),
        digest: member.digest,
        config: member.config.clone(),
        on_failure: member.on_failure,
        standing,
        micros: 0.0,
        tally: member.health.tally(),
    }
}

/// A message's luck: the same at each of its decisions, and at each repetition.
pub(crate) fn seed(id: MessageId) -> u64 {
    id.0.iter().take(8).fold(0, |seed, byte| seed << 8 | u64::from(*byte))
}

/// Seeds for decisions that are about no message: a counter, stirred, from a start that differs from process to process.
pub(crate) struct Luck(AtomicU64);

impl Luck {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(RandomState::new().hash_one(())))
    }

    /// The finaliser of splitmix64 (Steele, Lea, Flood 2014).
    fn next(&self) -> u64 {
        let mut z = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
