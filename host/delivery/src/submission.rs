//! What a gateway hands in to be sent, and what its sender is told.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use heddle_model::{ClientId, Conversation, Decision, MessageId, Millis, Position, Tag, UserId};
use heddle_policy::Generation;

/// A send, checked for form and allowed by the rate limits.
#[derive(Clone)]
pub struct Submission {
    /// As authenticated.
    pub sender: UserId,
    /// The client's name for it.
    pub client_id: ClientId,
    /// As the client addressed it.
    pub to: Conversation,
    /// The text.
    pub text: Option<Box<str>>,
    /// The JSON, as it came.
    pub data: Option<Bytes>,
    /// The client's tags.
    pub tags: Vec<Tag>,
    /// Members whom the sender named.
    pub mentions: Vec<UserId>,
    /// The client's clock.
    pub lamport: Option<u64>,
    /// The client says that it was sent before.
    pub resend: bool,
    /// Who decides: taken once per message.
    pub generation: Arc<Generation>,
    /// What the rate limits said, for the stamp.
    pub decisions: Vec<Decision>,
}

/// How a send stands after its decision.
pub enum Submitted {
    /// Settled.
    Settled(SendOutcome),
    /// Queued for the log, in order; settles when it is durable.
    Appending(Pin<Box<dyn Future<Output = SendOutcome> + Send>>),
}

/// What the sender is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendOutcome {
    /// Durable.
    Accepted(Accepted),
    /// Not, or nobody knows.
    Rejected(Rejected),
}

/// A durable message, as its sender hears of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The client's name for it.
    pub client_id: ClientId,
    /// Its id.
    pub message_id: MessageId,
    /// The gateway's clock at its decision.
    pub sent_at: Millis,
    /// Its clock within the conversation.
    pub lamport: u64,
    /// The position of its first record.
    pub order: Position,
    /// Which policy set decided.
    pub generation: u64,
    /// The text, if a policy rewrote it.
    pub text: Option<Box<str>>,
}

/// A send that was not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// The client's name for it.
    pub client_id: ClientId,
    /// Why.
    pub code: RejectCode,
    /// In words.
    pub reason: Box<str>,
    /// Whether sending again may help.
    pub retryable: bool,
    /// When.
    pub retry_after_ms: Option<Millis>,
}

/// Why a send is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RejectCode {
    /// A policy says no.
    Refused,
    /// A policy failed, and is to refuse then.
    PolicyUnavailable,
    /// Unknown outcome: send again with the same client_id.
    Unavailable,
    /// Another body has this client_id.
    Conflict,
    /// Not a member of the group.
    NotMember,
    /// Nobody has seen the recipient.
    UnknownUser,
}
