//! One way to decide: a chain per hook. A generation has one, and a second while a canary sings.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use heddle_model::{Conversation, Hook, UserId};
use sha2::{Digest as _, Sha256};

use crate::member::Member;

/// Decisions of each arm, before refusals are compared.
const ASKED_MIN: u64 = 100;
/// Standard errors by which shares must differ before it is no chance.
const ERRORS_MIN: f64 = 4.0;

/// The chains, and how often they were asked and refused while there were two arms.
#[derive(Default)]
pub(crate) struct Arm {
    chains: [Vec<Arc<Member>>; 4],
    asked: [AtomicU64; 4],
    refused: [AtomicU64; 4],
}

/// A second arm, for some of the conversations.
pub(crate) struct Canary {
    pub(crate) arm: Arm,
    pub(crate) percent: u32,
    /// Another plugin, other conversations.
    pub(crate) salt: [u8; 32],
}

/// Of an arm at one hook, since its generation began to decide.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ArmTally {
    /// Decisions.
    pub asked: u64,
    /// Denials, rejections and discards among them.
    pub refused: u64,
}

/// The place of a hook in [`Hook::ALL`].
pub(crate) fn place(hook: Hook) -> usize {
    match hook {
        Hook::RateLimit => 0,
        Hook::Routing => 1,
        Hook::Fanout => 2,
        Hook::Presence => 3,
    }
}

impl Arm {
    pub(crate) fn new(chains: [Vec<Arc<Member>>; 4]) -> Self {
        Self { chains, ..Self::default() }
    }

    pub(crate) fn chain(&self, hook: Hook) -> &[Arc<Member>] {
        &self.chains[place(hook)]
    }

    /// With `member` in place of the one of its name, or last.
    pub(crate) fn with(&self, members: &[Arc<Member>]) -> Self {
        let mut chains = self.chains.clone();
        for member in members {
            let chain = &mut chains[place(member.hook)];
            match chain.iter_mut().find(|held| held.name == member.name) {
                Some(held) => *held = Arc::clone(member),
                None => chain.push(Arc::clone(member)),
            }
        }
        Self::new(chains)
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = &Arc<Member>> {
        self.chains.iter().flatten()
    }

    pub(crate) fn count(&self, hook: Hook, refused: bool) {
        self.asked[place(hook)].fetch_add(1, Ordering::Relaxed);
        if refused {
            self.refused[place(hook)].fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn tally(&self, hook: Hook) -> ArmTally {
        let at = place(hook);
        ArmTally { asked: self.asked[at].load(Ordering::Relaxed), refused: self.refused[at].load(Ordering::Relaxed) }
    }
}

impl Canary {
    /// Does it decide here? The same for one conversation on all nodes, from first to last.
    pub(crate) fn takes(&self, key: &str) -> bool {
        let mut hasher = Sha256::new_with_prefix(self.salt);
        hasher.update(key.as_bytes());
        let sum = hasher.finalize();
        let head = u64::from_be_bytes([sum[0], sum[1], sum[2], sum[3], sum[4], sum[5], sum[6], sum[7]]);
        head % 100 < u64::from(self.percent)
    }
}

/// Of whom a decision is: the conversation as both sides know it, or the user where there is none.
pub(crate) fn subject(user: &UserId, conversation: Option<&Conversation>) -> String {
    match conversation {
        None => user.to_string(),
        Some(conversation) => shared_name(user, conversation),
    }
}

/// The name that both sides of a direct conversation share; ids have no control characters, so a line feed parts them.
pub(crate) fn shared_name(user: &UserId, conversation: &Conversation) -> String {
    match conversation {
        Conversation::Group(_) => conversation.to_string(),
        Conversation::Direct(other) => {
            let (first, second) = if user <= other { (user, other) } else { (other, user) };
            format!("user:{first}\nuser:{second}")
        }
    }
}

/// Does the canary refuse another share than the others, by more than `band` points and more than chance?
pub(crate) fn leaves_band(canary: ArmTally, others: ArmTally, band_percent: u32) -> bool {
    if canary.asked < ASKED_MIN || others.asked < ASKED_MIN {
        return false;
    }
    let share = |tally: ArmTally| tally.refused as f64 / tally.asked as f64;
    let both = (canary.refused + others.refused) as f64 / (canary.asked + others.asked) as f64;
    let error = (both * (1.0 - both) * (1.0 / canary.asked as f64 + 1.0 / others.asked as f64)).sqrt();
    (share(canary) - share(others)).abs() > (f64::from(band_percent) / 100.0).max(ERRORS_MIN * error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(asked: u64, refused: u64) -> ArmTally {
        ArmTally { asked, refused }
    }

    #[test]
    fn a_canary_takes_its_share_and_keeps_to_it() {
        let canary = |percent, salt| Canary { arm: Arm::default(), percent, salt: [salt; 32] };
        let taken = |canary: &Canary| (0..10_000).filter(|n| canary.takes(&format!("group:{n}"))).collect::<Vec<_>>();
        let (one, other) = (taken(&canary(10, 1)), taken(&canary(10, 2)));
        assert!((900..1_100).contains(&one.len()), "{}", one.len());
        assert_eq!(one, taken(&canary(10, 1)));
        assert!(one.iter().filter(|n| other.contains(n)).count() < 200);
        // Whom a small canary takes, a larger one takes too.
        let more = taken(&canary(30, 1));
        assert!(one.iter().all(|n| more.contains(n)));
    }

    #[test]
    fn both_sides_of_a_direct_conversation_have_the_same_arm() {
        let (alice, bob) = (UserId::new("alice").unwrap(), UserId::new("bob").unwrap());
        let of = |user, other: &UserId| subject(user, Some(&Conversation::Direct(other.clone())));
        assert_eq!(of(&alice, &bob), of(&bob, &alice));
    }

    #[test]
    fn a_refusal_rate_leaves_its_band_only_beyond_chance() {
        assert!(!leaves_band(tally(99, 99), tally(1_000, 0), 5));
        assert!(leaves_band(tally(100, 100), tally(1_000, 0), 5));
        assert!(!leaves_band(tally(100, 10), tally(1_000, 50), 5));
        assert!(leaves_band(tally(10_000, 1_100), tally(10_000, 500), 5));
        assert!(!leaves_band(tally(10_000, 900), tally(10_000, 500), 5));
        assert!(leaves_band(tally(1_000, 0), tally(1_000, 500), 5));
    }
}
