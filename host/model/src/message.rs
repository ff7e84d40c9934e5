//! A message, as accepted.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{BodyHash, ClientId, Conversation, MessageId, Millis, Stamp, UserId};

/// A name and a value that travel with a message.
pub type Tag = (Box<str>, Box<str>);

/// How a group's members get a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Plan {
    /// Into each member's stream.
    Push,
    /// Into the group's log only; members get a notice.
    Pull,
}

/// A message that was decided, with what was decided. Never changes once it is in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// From sender, conversation as addressed, and client id.
    pub id: MessageId,
    /// As authenticated.
    pub sender: UserId,
    /// The client's name for this send.
    pub client_id: ClientId,
    /// As the client addressed it.
    pub addressed: Conversation,
    /// Where it went: the same, unless a policy redirected it.
    pub to: Conversation,
    /// After any rewriting.
    pub text: Option<Box<str>>,
    /// The JSON that the client sent, byte for byte.
    pub data: Option<Bytes>,
    /// The client's, then the policies'.
    pub tags: Vec<Tag>,
    /// Members whom the sender named.
    pub mentions: Vec<UserId>,
    /// The gateway's clock at its decision.
    pub sent_at: Millis,
    /// The message's clock within its conversation. (DELIVERY rule 20.)
    pub lamport: u64,
    /// Of the body as sent.
    pub body: BodyHash,
    /// A policy replaced the text; `accepted` and resends tell the sender.
    pub rewritten: bool,
    /// If set, only these members get it.
    pub only: Option<Vec<UserId>>,
    /// A policy discarded it: no recipients, the sender believes that it was sent.
    pub discarded: bool,
    /// In a direct conversation: the recipient muted it. (In a group it stands with each member.)
    pub quiet: bool,
    /// In a group: the sender is no member, a policy may send there for everybody. (`redirect_to` of its manifest.)
    pub outsider: bool,
    /// In a group: push or pull.
    pub plan: Plan,
    /// Who decided.
    pub stamp: Stamp,
}

impl Message {
    /// The conversation as `viewer` names it: for the recipient of a direct message, its sender.
    #[must_use]
    pub fn conversation_for(&self, viewer: &UserId) -> Conversation {
        match &self.to {
            Conversation::Direct(recipient) if recipient == viewer => Conversation::Direct(self.sender.clone()),
            other => other.clone(),
        }
    }

    /// Is this user one of those whom a policy left it for?
    #[must_use]
    pub fn may_reach(&self, user: &UserId) -> bool {
        !self.discarded && self.only.as_ref().is_none_or(|only| only.contains(user))
    }
}
