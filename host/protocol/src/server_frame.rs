//! What the server says.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::client_frame::{PresenceStatus, Reference, Target};
use crate::codes::{ErrorCode, RejectCode};
use crate::names::Conversation;
use crate::raw::RawJson;

/// Everything that the server can say. Turned into text by [`ServerFrame::to_text`], and made from text, by clients,
/// with [`ServerFrame::parse`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerFrame {
    /// The answer to `hello`.
    HelloOk(HelloOk),
    /// A send is durable.
    Accepted(Accepted),
    /// A send is not, or no longer, in the conversation.
    Rejected(Rejected),
    /// A message in the user's stream, the user's own included.
    NewMessage(NewMessage),
    /// Everything up to that position has been said.
    CaughtUp(CaughtUp),
    /// One's own messages were delivered or read.
    Receipt(Receipt),
    /// A group changed.
    Membership(Membership),
    /// A pulled group has news to fetch.
    GroupNotice(GroupNotice),
    /// Somebody types, or stopped.
    TypingIndicator(TypingIndicator),
    /// What somebody is.
    PresenceUpdate(PresenceUpdate),
    /// A command failed.
    Error(ErrorFrame),
    /// The answer to `ping`.
    Pong,
}

/// Why a server's frame could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ServerFrameError {
    /// Not a JSON object with a string `type`.
    #[error("the server's frame is not one of this protocol: {0}")]
    Malformed(#[source] serde_json::Error),
    /// A type that this version does not know: ignore the frame.
    #[error("the server's frame has the unknown type `{0}`")]
    UnknownType(String),
    /// A known type whose fields do not fit.
    #[error("the server's `{ty}` frame does not fit: {source}")]
    Fields {
        /// The frame's type.
        ty: String,
        /// What did not fit.
        source: serde_json::Error,
    },
}

impl ServerFrame {
    /// The frame as the text to send.
    #[must_use]
    pub fn to_text(&self) -> String {
        crate::encode::json_text(self)
    }

    /// Reads a frame; unknown fields are ignored.
    ///
    /// # Errors
    /// [`ServerFrameError::UnknownType`] means: ignore this frame. The others mean that the server is not Heddle.
    pub fn parse(text: &str) -> Result<Self, ServerFrameError> {
        #[derive(Deserialize)]
        struct Typed {
            #[serde(rename = "type")]
            ty: String,
        }
        fn body<'a, T: Deserialize<'a>>(ty: &str, text: &'a str) -> Result<T, ServerFrameError> {
            serde_json::from_str(text).map_err(|source| ServerFrameError::Fields { ty: ty.to_owned(), source })
        }
        let Typed { ty } = serde_json::from_str(text).map_err(ServerFrameError::Malformed)?;
        match ty.as_str() {
            "hello_ok" => body(&ty, text).map(Self::HelloOk),
            "accepted" => body(&ty, text).map(Self::Accepted),
            "rejected" => body(&ty, text).map(Self::Rejected),
            "new_message" => body(&ty, text).map(Self::NewMessage),
            "caught_up" => body(&ty, text).map(Self::CaughtUp),
            "receipt" => body(&ty, text).map(Self::Receipt),
            "membership" => body(&ty, text).map(Self::Membership),
            "group_notice" => body(&ty, text).map(Self::GroupNotice),
            "typing_indicator" => body(&ty, text).map(Self::TypingIndicator),
            "presence_update" => body(&ty, text).map(Self::PresenceUpdate),
            "error" => body(&ty, text).map(Self::Error),
            "pong" => Ok(Self::Pong),
            _ => Err(ServerFrameError::UnknownType(ty)),
        }
    }

    /// The position in the user's stream, of frames that have one.
    ///
    /// A `hello_ok` has none here: its `offset` sets the position, whatever it was.
    #[must_use]
    pub fn offset(&self) -> Option<u64> {
        match self {
            Self::NewMessage(frame) => Some(frame.offset),
            Self::CaughtUp(frame) => Some(frame.offset),
            Self::Receipt(frame) => Some(frame.offset),
            Self::Membership(frame) => Some(frame.offset),
            Self::Rejected(frame) => frame.offset,
            _ => None,
        }
    }

    /// The frame's `type`.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::HelloOk(_) => "hello_ok",
            Self::Accepted(_) => "accepted",
            Self::Rejected(_) => "rejected",
            Self::NewMessage(_) => "new_message",
            Self::CaughtUp(_) => "caught_up",
            Self::Receipt(_) => "receipt",
            Self::Membership(_) => "membership",
            Self::GroupNotice(_) => "group_notice",
            Self::TypingIndicator(_) => "typing_indicator",
            Self::PresenceUpdate(_) => "presence_update",
            Self::Error(_) => "error",
            Self::Pong => "pong",
        }
    }
}

/// `hello_ok {session, user, device, offset, heartbeat_ms, resumed, gap?}`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloOk {
    /// The session's id, for logs and questions.
    pub session: String,
    /// Whom the token names.
    pub user: String,
    /// The device, as it was said.
    pub device: String,
    /// The position that delivery starts after; it becomes the device's position.
    pub offset: u64,
    /// How often the server pings, in milliseconds.
    pub heartbeat_ms: u64,
    /// Whether delivery goes on from the device's own position.
    pub resumed: bool,
    /// Why it does not, where events may be missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<Gap>,
}

/// Events may be missing before what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Why.
    pub reason: GapReason,
}

/// Why a resume is not whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapReason {
    /// The position was never given out; delivery goes on from the stored one.
    AboveHead,
    /// An event that the user had is kept nowhere any more.
    Lost,
}

/// `accepted {client_id, message_id, sent_at, lamport, order, generation, text?}`, and the answer of
/// `POST /v1/messages`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// Which send.
    pub client_id: String,
    /// The message's id from now on.
    pub message_id: String,
    /// When the gateway took it, milliseconds since 1970.
    pub sent_at: u64,
    /// The logical clock that it was given.
    pub lamport: u64,
    /// Its place in the log; groups are shown by it, receipts name it.
    pub order: u64,
    /// The policy set that decided it.
    pub generation: u64,
    /// The text as a policy rewrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// `rejected {client_id, code, reason, retryable, retry_after_ms?, offset?, order?}`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// Which send.
    pub client_id: String,
    /// Why, for programs.
    pub code: RejectCode,
    /// Why, for people.
    pub reason: String,
    /// Whether the same send may succeed later.
    pub retryable: bool,
    /// How long to wait before, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// The position, if it came through the stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Which `accepted` it takes back, if it came through the stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<u64>,
}

impl Rejected {
    /// A refusal that answers a send at once; retryable as its code is.
    #[must_use]
    pub fn new(client_id: impl Into<String>, code: RejectCode, reason: impl Into<String>) -> Self {
        Self {
            client_id: client_id.into(),
            code,
            reason: reason.into(),
            retryable: code.retryable(),
            retry_after_ms: None,
            offset: None,
            order: None,
        }
    }
}

/// `new_message {offset, message_id, from, to | group, text?, data?, tags?, sent_at, lamport, order, client_id?,
/// missed?, quiet?}`
///
/// For one message to many recipients see [`crate::NewMessageBody`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewMessage {
    /// The position in the receiving user's stream.
    pub offset: u64,
    /// The message's id.
    pub message_id: String,
    /// Who sent it.
    pub from: String,
    /// To whom it was sent: a user, perhaps oneself, or a group.
    #[serde(flatten)]
    pub target: Target,
    /// Text for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Any JSON value, as it was sent; `null` is one.
    #[serde(default, deserialize_with = "crate::raw::some", skip_serializing_if = "Option::is_none")]
    pub data: Option<RawJson>,
    /// Names and values, of the sender and of policies.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// When the gateway took it, milliseconds since 1970.
    pub sent_at: u64,
    /// Direct conversations are shown by it, then by `message_id`.
    pub lamport: u64,
    /// Groups are shown by it.
    pub order: u64,
    /// The sender's own id of it, on the sender's devices only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// Sent while the device was away.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub missed: bool,
    /// To be kept, not announced.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub quiet: bool,
}

/// `caught_up {offset}`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaughtUp {
    /// The server vouches for everything up to it; the device stores it as its position.
    pub offset: u64,
}

/// `receipt {offset, conversation, message_id, by, status, order, at}`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The position in the stream.
    pub offset: u64,
    /// Which conversation, from the viewer's side.
    pub conversation: Conversation,
    /// The newest message that it is about; it holds for all of the viewer's own before it too.
    pub message_id: String,
    /// Whose receipt.
    pub by: String,
    /// What happened.
    pub status: ReceiptStatus,
    /// That message's order: own messages at or below it are marked.
    pub order: u64,
    /// When, milliseconds since 1970.
    pub at: u64,
    /// In a large group: how many members have come so far with that message; `by` is the last of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
}

/// How far a message has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReceiptStatus {
    /// A device of the recipient has acknowledged it.
    Delivered,
    /// The recipient has read it.
    Read,
}

/// `membership {offset, group, user, change, by, at}`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The position in the stream.
    pub offset: u64,
    /// Which group.
    pub group: String,
    /// Whom it concerns.
    pub user: String,
    /// What changed.
    pub change: MembershipChange,
    /// Who did it.
    pub by: String,
    /// When, milliseconds since 1970.
    pub at: u64,
}

/// What happened to a group or one of its members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MembershipChange {
    /// The user is a member from now on.
    Joined,
    /// The user went.
    Left,
    /// The user was made to go, or the group is gone.
    Removed,
    /// The user's role is another; `GET /v1/groups/{group}` tells which.
    Role,
    /// The group has another name; `GET /v1/groups/{group}` tells which.
    Renamed,
}

/// `group_notice {group, head}`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupNotice {
    /// Which group.
    pub group: String,
    /// The order of its newest message; fetch what lies between the last seen and it.
    pub head: u64,
}

/// `typing_indicator {from, group?, typing}`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypingIndicator {
    /// Who.
    pub from: String,
    /// In which group; absent in the direct conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Begins, or ends.
    pub typing: bool,
}

/// `presence_update {user, status, last_seen?}`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresenceUpdate {
    /// Who.
    pub user: String,
    /// What they are.
    pub status: PresenceStatus,
    /// When they were last there, milliseconds since 1970, for those who may know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<u64>,
}

/// `error {type?, ref?, code, reason, retryable, retry_after_ms?, hint?}`: the `type` of the command that failed
/// shares its key with the frame's own type, so it is written as `command`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorFrame {
    /// The type of the command that failed, if it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// The command's reference, if it had one.
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Reference>,
    /// Why, for programs.
    pub code: ErrorCode,
    /// Why, for people.
    pub reason: String,
    /// Whether the same command may succeed later.
    pub retryable: bool,
    /// How long to wait before, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}
