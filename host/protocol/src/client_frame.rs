//! What a client says.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::names::Conversation;
use crate::raw::RawJson;

/// One frame of a client, with the reference under which the client wants to hear of an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Command {
    /// Repeated in the `error` that answers this command.
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<Reference>,
    /// What is asked.
    #[serde(flatten)]
    pub frame: ClientFrame,
}

/// A client's own mark on a command: a string of at most 64 characters, or an integer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Reference {
    /// `"ref": "a7"`
    Text(String),
    /// `"ref": 7`
    Number(u64),
}

impl From<&str> for Reference {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// Everything that a client can say. Made from text by [`crate::parse`], and turned into text by
/// [`ClientFrame::to_text`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ClientFrame {
    /// Always the first frame.
    Hello(Hello),
    /// A message to a user or a group.
    ChatMessage(ChatMessage),
    /// All events up to here have arrived.
    Ack(Ack),
    /// That message and all before it in its conversation have been read.
    ReadReceipt(ReadReceipt),
    /// The user types.
    TypingStart(Target),
    /// The user stopped typing.
    TypingStop(Target),
    /// What the user declares to be.
    PresenceSet(PresenceSet),
    /// Asks once; answered by one `presence_update` per user.
    PresenceGet(Users),
    /// Asks for updates of these users from now on.
    PresenceSubscribe(Users),
    /// No more updates of these users.
    PresenceUnsubscribe(Users),
    /// Answered by `pong`.
    Ping,
}

impl ClientFrame {
    /// The frame's `type`.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Hello(_) => "hello",
            Self::ChatMessage(_) => "chat_message",
            Self::Ack(_) => "ack",
            Self::ReadReceipt(_) => "read_receipt",
            Self::TypingStart(_) => "typing_start",
            Self::TypingStop(_) => "typing_stop",
            Self::PresenceSet(_) => "presence_set",
            Self::PresenceGet(_) => "presence_get",
            Self::PresenceSubscribe(_) => "presence_subscribe",
            Self::PresenceUnsubscribe(_) => "presence_unsubscribe",
            Self::Ping => "ping",
        }
    }

    /// The frame as the text to send, without a reference.
    #[must_use]
    pub fn to_text(&self) -> String {
        crate::encode::json_text(self)
    }
}

impl Command {
    /// The command as the text to send.
    #[must_use]
    pub fn to_text(&self) -> String {
        crate::encode::json_text(self)
    }
}

/// `hello {token?, device, resume?}`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hello {
    /// A JWT, where `auth.first_frame` allows it here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Chosen by the client, 1 to 64 characters, the same for ever on one device.
    pub device: String,
    /// The position that the device holds: everything up to it has arrived.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resume: Option<u64>,
}

/// To whom: exactly one of `to` and `group`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Target {
    /// `"to": USER`
    #[serde(rename = "to")]
    User(String),
    /// `"group": GROUP`
    #[serde(rename = "group")]
    Group(String),
}

impl Target {
    /// The conversation as whoever addresses this target sees it.
    #[must_use]
    pub fn conversation(&self) -> Conversation {
        match self {
            Self::User(user) => Conversation::User(user.clone()),
            Self::Group(group) => Conversation::Group(group.clone()),
        }
    }
}

impl From<Conversation> for Target {
    fn from(conversation: Conversation) -> Self {
        match conversation {
            Conversation::User(user) => Self::User(user),
            Conversation::Group(group) => Self::Group(group),
        }
    }
}

/// `chat_message {client_id, to | group, text?, data?, lamport?, tags?, mentions?, resend?}`, and the body of
/// `POST /v1/messages`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChatMessage {
    /// The client's own id of this message: the same for the same message, for ever.
    pub client_id: String,
    /// To whom.
    #[serde(flatten)]
    pub target: Target,
    /// Text for people. At least one of `text` and `data` is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Any JSON value, passed through untouched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<RawJson>,
    /// 1 + the largest that the client has seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lamport: Option<u64>,
    /// Names and values that policies and receivers read.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Users whom the message names; in a group they are told even if they muted it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mentions: Vec<String>,
    /// Sent before, with an outcome that the client does not know.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub resend: bool,
}

impl ChatMessage {
    /// Bytes that count against [`crate::limits::BODY_BYTES_MAX`]: the text as UTF-8 and the data as JSON.
    #[must_use]
    pub fn body_bytes(&self) -> usize {
        self.text.as_ref().map_or(0, String::len) + self.data.as_ref().map_or(0, |data| data.get().len())
    }
}

/// `ack {offset}`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Ack {
    /// The position up to which everything has arrived.
    pub offset: u64,
}

/// `read_receipt {message_id}`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReadReceipt {
    /// The newest message that was read.
    pub message_id: String,
}

/// `presence_set {status}`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PresenceSet {
    /// What the user declares.
    pub status: PresenceStatus,
}

/// What a user is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PresenceStatus {
    /// There.
    Online,
    /// Connected, but not looking.
    Away,
    /// Not there, or does not wish to be seen.
    Offline,
}

impl PresenceStatus {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Away => "away",
            Self::Offline => "offline",
        }
    }
}

/// `presence_get`, `presence_subscribe` and `presence_unsubscribe` `{users}`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Users {
    /// At most [`crate::limits::USERS_MAX`].
    pub users: Vec<String>,
}
