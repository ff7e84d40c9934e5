//! Sends that are not settled, in the order in which they were made.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use heddle_protocol::{ChatMessage, RawJson, RejectCode, Rejected, Target};

use crate::ClientError;

/// Sends that may wait for an answer at a time.
pub(crate) const WAITING_MAX: usize = 1_000;

/// A message as its author thinks of it; the client adds `lamport` and `resend`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// The sender's own id of it: never again for another message.
    pub client_id: String,
    /// To whom.
    pub target: Target,
    /// Text for people.
    pub text: Option<String>,
    /// Any JSON value.
    pub data: Option<RawJson>,
    /// Users whom it names.
    pub mentions: Vec<String>,
}

impl Draft {
    /// A text message.
    #[must_use]
    pub fn text(client_id: impl Into<String>, target: Target, text: impl Into<String>) -> Self {
        Self { client_id: client_id.into(), target, text: Some(text.into()), data: None, mentions: Vec::new() }
    }
}

/// Whether the client sends it again by itself: its outcome is unknown, or a policy is away for a moment, or there were
/// too many at once. Otherwise the rejection settles the send.
#[must_use]
pub fn is_repeated(rejected: &Rejected) -> bool {
    let passing =
        matches!(rejected.code, RejectCode::Unavailable | RejectCode::PolicyUnavailable | RejectCode::RateLimited);
    rejected.offset.is_none() && rejected.retryable && passing
}

/// How many sends of one client are not settled: counted where they are handed in, so that one too many is refused there
/// and never lost on the way.
#[derive(Debug, Clone, Default)]
pub(crate) struct Unsettled(Arc<AtomicUsize>);

impl Unsettled {
    /// Takes a place.
    pub(crate) fn enter(&self) -> Result<(), ClientError> {
        let more = |waiting| (waiting < WAITING_MAX).then_some(waiting + 1);
        let entered = self.0.try_update(Ordering::AcqRel, Ordering::Acquire, more);
        entered.map(drop).map_err(|waiting| ClientError::TooManyWaiting { waiting })
    }

    /// Gives it back.
    pub(crate) fn leave(&self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Keeps each send until `accepted` or a final `rejected` settles it.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    waiting: VecDeque<ChatMessage>,
    unsettled: Unsettled,
}

impl Outbox {
    pub(crate) fn new(unsettled: Unsettled) -> Self {
        Self { waiting: VecDeque::new(), unsettled }
    }

    /// Keeps a send, whose place is taken already.
    pub(crate) fn add(&mut self, draft: Draft, lamport: Option<u64>) -> &ChatMessage {
        self.waiting.push_back(ChatMessage {
            client_id: draft.client_id,
            target: draft.target,
            text: draft.text,
            data: draft.data,
            lamport,
            tags: std::collections::BTreeMap::new(),
            mentions: draft.mentions,
            resend: false,
        });
        &self.waiting[self.waiting.len() - 1]
    }

    /// Takes a send out: it was answered for good.
    pub(crate) fn settle(&mut self, client_id: &str) -> bool {
        let found = self.waiting.iter().position(|message| message.client_id == client_id);
        let settled = found.is_some_and(|at| self.waiting.remove(at).is_some());
        if settled {
            self.unsettled.leave();
        }
        settled
    }

    /// Everything unsettled, in order, marked as sent before.
    pub(crate) fn again(&mut self) -> impl Iterator<Item = &ChatMessage> {
        for message in &mut self.waiting {
            message.resend = true;
        }
        self.waiting.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }
}
