//! Bodies of the REST calls, as types. `POST /v1/messages` takes what [`crate::parse_send`] reads and
//! answers [`crate::Accepted`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::client_frame::Target;
use crate::names::Conversation;
use crate::raw::RawJson;
use crate::server_frame::PresenceUpdate;

/// `GET /v1/conversations`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversations {
    /// The newest first.
    pub conversations: Vec<ConversationSummary>,
}

/// One conversation in the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConversationSummary {
    /// `user:NAME` or `group:ID`.
    pub conversation: Conversation,
    /// A group's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Messages of others that the user has not read.
    pub unread: u64,
    /// Kept quiet at the user's wish.
    pub muted: bool,
    /// The newest message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_message: Option<HistoryMessage>,
}

/// The query of `GET /v1/conversations/{conversation}/messages`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryQuery {
    /// Only messages shown before this one, by its `message_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// Only messages shown after this one, by its `message_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// How many at most; see [`crate::limits::HISTORY_PAGE_MAX`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// `GET /v1/conversations/{conversation}/messages`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// In the order in which the conversation is shown.
    pub messages: Vec<HistoryMessage>,
    /// Whether there is more in the direction that was asked for.
    pub more: bool,
}

/// One message of the past.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryMessage {
    /// The message's id.
    pub message_id: String,
    /// Who sent it.
    pub from: String,
    /// To whom it was sent.
    #[serde(flatten)]
    pub target: Target,
    /// Text for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Any JSON value, as it was sent; `null` is one.
    #[serde(default, deserialize_with = "crate::raw::some", skip_serializing_if = "Option::is_none")]
    pub data: Option<RawJson>,
    /// Names and values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// When the gateway took it, milliseconds since 1970.
    pub sent_at: u64,
    /// Direct conversations are shown by it, then by `message_id`.
    pub lamport: u64,
    /// Groups are shown by it.
    pub order: u64,
    /// The position in the user's stream; a pulled message has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// The sender's own id of it, for the sender only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// How far it has come: of one's own with the others, of others' with oneself.
    pub status: MessageStatus,
}

/// How far a message has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageStatus {
    /// In the log.
    Sent,
    /// On a device of a recipient.
    Delivered,
    /// Read by a recipient.
    Read,
}

/// `POST /v1/groups`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateGroup {
    /// The client's own id of this group: the same call twice makes one group.
    pub client_id: String,
    /// What it is called.
    pub name: String,
    /// Its members beside the caller, who is its first admin.
    #[serde(default)]
    pub members: Vec<String>,
}

/// The answer of `POST /v1/groups`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupCreated {
    /// The new group's id.
    pub group: String,
}

/// `GET /v1/groups/{group}`, and the answer of `PATCH`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its id.
    pub group: String,
    /// What it is called.
    pub name: String,
    /// Its members now.
    pub members: Vec<GroupMember>,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupMember {
    /// Who.
    pub user: String,
    /// What they may do.
    pub role: GroupRole,
}

/// What a member may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupRole {
    /// Write, and go.
    Member,
    /// Also add, remove, rename, and give roles.
    Admin,
}

/// `PATCH /v1/groups/{group}`: what is there is changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeGroup {
    /// Its new name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// New roles, by user.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub roles: BTreeMap<String, GroupRole>,
}

/// `POST /v1/groups/{group}/members`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddMember {
    /// Whom.
    pub user: String,
}

/// `GET /v1/contacts`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contacts {
    /// Whom the user listed.
    pub contacts: Vec<String>,
}

/// `GET /v1/blocks`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocks {
    /// Whom the user blocks.
    pub blocks: Vec<String>,
}

/// `GET /v1/presence?users=a,b`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presences {
    /// One for each user that was asked for.
    pub presence: Vec<PresenceUpdate>,
}
