//! Calls as they were made and answered, the newest few: what a candidate can be asked again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use heddle_model::{Hook, Millis};
use heddle_pack::contract::Moment;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::call::{Answer, Call};
use crate::redact::Redaction;

/// A call, who answered it, and what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    /// Where.
    pub hook: Hook,
    /// The name of the plugin that was asked.
    pub plugin: String,
    /// SHA-256 of its file, in hex.
    pub digest: String,
    /// When, and with which luck.
    pub at: Moment,
    /// With what.
    pub call: Call,
    /// Its answer.
    pub answer: Answer,
    /// How long it took.
    pub micros: f64,
    /// What people wrote is crossed out, in the call and in the answer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub redacted: bool,
}

/// Which calls are kept, and how many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordConfig {
    /// The hooks whose calls are kept.
    pub hooks: Vec<Hook>,
    /// Of so many calls of a plugin one is kept; 0: none.
    pub one_in: u64,
    /// The newest so many.
    pub calls_max: usize,
    /// And at most so many bytes of them.
    pub bytes_max: usize,
    /// What is kept of what people wrote, here and wherever else calls are shown.
    pub redaction: Redaction,
}

impl Default for RecordConfig {
    fn default() -> Self {
        Self {
            hooks: Hook::ALL.to_vec(),
            one_in: 16,
            calls_max: 20_000,
            bytes_max: 16 << 20,
            redaction: Redaction::default(),
        }
    }
}

/// Keeps them.
pub(crate) struct Recorder {
    config: ArcSwap<RecordConfig>,
    kept: Mutex<Kept>,
    taken: AtomicU64,
}

#[derive(Default)]
struct Kept {
    calls: VecDeque<(usize, Recorded)>,
    bytes: usize,
}

impl Recorder {
    pub(crate) fn new(config: RecordConfig) -> Self {
        Self { config: ArcSwap::from_pointee(config), kept: Mutex::default(), taken: AtomicU64::new(0) }
    }

    /// From now on as configured here; what is kept already stays until there is newer.
    pub(crate) fn configure(&self, config: RecordConfig) {
        self.config.store(Arc::new(config));
    }

    /// Of so many calls of this hook one is kept; 0: none.
    pub(crate) fn one_in(&self, hook: Hook) -> u64 {
        let config = self.config.load();
        if config.hooks.contains(&hook) { config.one_in } else { 0 }
    }

    /// Crosses out what is not to be kept of a call and its answers; whether anything had to be.
    pub(crate) fn redact<'a>(&self, call: &mut Call, answers: impl IntoIterator<Item = &'a mut Answer>) -> bool {
        self.config.load().redaction.apply(call, answers)
    }

    pub(crate) fn keep(&self, mut recorded: Recorded) {
        recorded.redacted = self.redact(&mut recorded.call, [&mut recorded.answer]);
        let size = recorded.call.bytes() + recorded.answer.bytes() + size_of::<Recorded>();
        self.taken.fetch_add(1, Ordering::Relaxed);
        let config = self.config.load();
        let mut kept = self.kept.lock();
        kept.bytes += size;
        kept.calls.push_back((size, recorded));
        while kept.calls.len() > config.calls_max || kept.bytes > config.bytes_max {
            let Some((size, _)) = kept.calls.pop_front() else { break };
            kept.bytes -= size;
        }
    }

    /// The kept calls since `since`, oldest first.
    pub(crate) fn since(&self, since: Millis, hook: Option<Hook>, plugin: Option<&str>) -> Vec<Recorded> {
        let kept = self.kept.lock();
        let wanted = |recorded: &&Recorded| {
            recorded.at.now >= since
                && hook.is_none_or(|hook| recorded.hook == hook)
                && plugin.is_none_or(|plugin| recorded.plugin == plugin)
        };
        kept.calls.iter().map(|(_, recorded)| recorded).filter(wanted).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use heddle_pack::contract::{Conversation, Envelope, RoutingDecision};

    use super::*;
    use crate::call::SeenMessage;

    fn recorded(now: u64, text: &str) -> Recorded {
        let to = Conversation::Direct("bob".into());
        let envelope = Envelope { sender: "alice".into(), to, size: 5, members: 2 };
        let message = SeenMessage {
            kind: "message".into(),
            text: Some(text.into()),
            data: None,
            tags: Vec::new(),
            lamport: 1,
            sender_since: 0,
        };
        Recorded {
            hook: Hook::Routing,
            plugin: "p".into(),
            digest: String::new(),
            at: Moment { now, seed: 1 },
            call: Call::Routing { envelope, message },
            answer: Answer::Decision(RoutingDecision::Accept),
            micros: 1.0,
            redacted: false,
        }
    }

    #[test]
    fn the_newest_are_kept_by_number_and_by_bytes() {
        let few = Recorder::new(RecordConfig { calls_max: 10, ..RecordConfig::default() });
        (0..100).for_each(|now| few.keep(recorded(now, "hello")));
        assert_eq!(
            few.since(0, None, None).iter().map(|kept| kept.at.now).collect::<Vec<_>>(),
            Vec::from_iter(90..100)
        );
        let small = Recorder::new(RecordConfig { bytes_max: 100_000, ..RecordConfig::default() });
        (0..1_000).for_each(|now| small.keep(recorded(now, &"x".repeat(10_000))));
        assert!((5..10).contains(&small.since(0, None, None).len()));
    }

    #[test]
    fn what_people_wrote_is_not_kept_unless_the_operator_wants_it() {
        for (bodies, text) in [(false, "xxxx xxx, xx 7!".replace('7', "x")), (true, "call bob, at 7!".to_owned())] {
            let recorder = Recorder::new(RecordConfig::default());
            let redaction = Redaction { bodies, ..Redaction::default() };
            recorder.configure(RecordConfig { redaction, ..RecordConfig::default() });
            recorder.keep(recorded(1, "call bob, at 7!"));
            let kept = recorder.since(0, None, None).remove(0);
            assert_eq!(kept.redacted, !bodies);
            let Call::Routing { message, .. } = kept.call else { panic!() };
            assert_eq!(message.text, Some(text));
        }
    }
}
