//! A call of a component as a value, and its answer: enough to make it again, elsewhere or later.

use heddle_pack::contract::{
    Audience, Envelope, FanoutMode, Moment, Observation, RateLimitOutcome, RateLimitRequest, RoutingDecision, Sighting,
    base64_bytes,
};
use serde::{Deserialize, Serialize};

use crate::{Component, Fault, MessageView};

/// One call of a hook: all that a pure function could read. As JSON it is written as the cases of a plugin are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the fields are those of the contract")]
pub enum Call {
    RateLimit {
        request: RateLimitRequest,
        #[serde(with = "base64_bytes")]
        state: Vec<u8>,
    },
    Routing {
        envelope: Envelope,
        message: SeenMessage,
    },
    Plan {
        audience: Audience,
        message: SeenMessage,
    },
    Sort {
        audience: Audience,
        message: SeenMessage,
        #[serde(with = "base64_bytes")]
        facts: Vec<u8>,
    },
    Observe {
        observation: Observation,
    },
    Reveal {
        subject: String,
        #[serde(with = "base64_bytes")]
        relations: Vec<u8>,
    },
}

/// What the getters of `message` answered, all of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeenMessage {
    /// `message`, `edit`, `delete` or `reaction`.
    pub kind: String,
    /// The text.
    pub text: Option<String>,
    /// The client's JSON.
    pub data: Option<String>,
    /// Names and values.
    pub tags: Vec<(String, String)>,
    /// The message's clock within its conversation.
    pub lamport: u64,
    /// When the host first saw the sender, in milliseconds since the Unix epoch.
    pub sender_since: u64,
}

/// What a component answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the fields are those of the contract")]
pub enum Answer {
    Outcome(RateLimitOutcome),
    Decision(RoutingDecision),
    Mode(FanoutMode),
    /// A column of codes: of `sort` and of `reveal`.
    #[serde(with = "base64_bytes")]
    Codes(Vec<u8>),
    Sighting(Sighting),
    /// None; the kind of the fault.
    Fault(String),
}

impl Answer {
    /// Do both decide the same? What a rate limit remembers is its own affair.
    #[must_use]
    pub fn decides_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Outcome(one), Self::Outcome(other)) => one.verdict == other.verdict,
            _ => self == other,
        }
    }

    /// Of what it holds beside itself, about.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Outcome(outcome) => outcome.state.len() + 64,
            Self::Codes(codes) => codes.len(),
            Self::Decision(RoutingDecision::AcceptWith(changes)) => {
                changes.text.as_ref().map_or(0, String::len)
                    + changes.only.iter().flatten().map(|user| 24 + user.len()).sum::<usize>()
            }
            Self::Decision(_) | Self::Mode(_) | Self::Sighting(_) | Self::Fault(_) => 64,
        }
    }
}

impl SeenMessage {
    pub(crate) fn of(message: &MessageView<'_>) -> Self {
        Self {
            kind: message.kind.to_owned(),
            text: message.text.map(str::to_owned),
            data: message.data.map(|data| String::from_utf8_lossy(data).into_owned()),
            tags: message.tags.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
            lamport: message.lamport,
            sender_since: message.sender_since,
        }
    }

    fn bytes(&self) -> usize {
        let texts = self.text.iter().chain(&self.data).map(String::len);
        let tags = self.tags.iter().map(|(name, value)| 48 + name.len() + value.len());
        texts.chain(tags).sum()
    }

    /// Calls with it as a chain calls.
    fn seen<R>(&self, call: impl FnOnce(&MessageView<'_>) -> R) -> R {
        let tags: Vec<heddle_model::Tag> =
            self.tags.iter().map(|(name, value)| (name.as_str().into(), value.as_str().into())).collect();
        call(&MessageView {
            kind: &self.kind,
            text: self.text.as_deref(),
            data: self.data.as_deref().map(str::as_bytes),
            tags: &tags,
            lamport: self.lamport,
            sender_since: self.sender_since,
        })
    }
}

impl Call {
    /// Makes it. A fault is an answer.
    pub fn make(&self, at: Moment, component: &dyn Component) -> Answer {
        let answer = match self {
            Self::RateLimit { request, state } => component.rate_limit(at, request, state).map(Answer::Outcome),
            Self::Routing { envelope, message } => {
                message.seen(|message| component.route(at, envelope, message)).map(Answer::Decision)
            }
            Self::Plan { audience, message } => {
                message.seen(|message| component.plan(at, audience, message)).map(Answer::Mode)
            }
            Self::Sort { audience, message, facts } => {
                message.seen(|message| component.sort(at, audience, message, facts)).map(Answer::Codes)
            }
            Self::Observe { observation } => component.observe(at, observation).map(Answer::Sighting),
            Self::Reveal { subject, relations } => component.reveal(at, subject, relations).map(Answer::Codes),
        };
        answer.unwrap_or_else(|fault: Fault| Answer::Fault(fault.kind.to_owned()))
    }

    /// Of what it holds beside itself, about.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::RateLimit { request, state } => request.key.len() + state.len(),
            Self::Routing { message, .. } | Self::Plan { message, .. } => 100 + message.bytes(),
            Self::Sort { message, facts, .. } => 100 + message.bytes() + facts.len(),
            Self::Observe { observation } => observation.user.len(),
            Self::Reveal { subject, relations } => subject.len() + relations.len(),
        }
    }

    /// What people wrote, if the call is about that.
    pub(crate) fn message(&mut self) -> Option<&mut SeenMessage> {
        match self {
            Self::Routing { message, .. } | Self::Plan { message, .. } | Self::Sort { message, .. } => Some(message),
            Self::RateLimit { .. } | Self::Observe { .. } | Self::Reveal { .. } => None,
        }
    }
}
