//! The types of `heddle:policy@0.1.0` as plain Rust: what goes into a policy and what comes out. The WIT files say what each field means; here stand only the
//! bounds that the host checks. As JSON they are written as test cases write them: variants as a string or `{"deny": {...}}`, bytes as base64.

use serde::{Deserialize, Serialize};

use data_encoding::BASE64;

/// Bytes of a refusal's reason.
pub const REASON_BYTES_MAX: usize = 256;
/// Bytes of state that a rate limit may keep per key.
pub const STATE_BYTES_MAX: usize = 256;
/// Longest time that state is kept after its last use: a day, in milliseconds.
pub const KEEP_MS_MAX: u64 = 86_400_000;
/// Tags that a routing policy may set on a message.
pub const TAGS_MAX: usize = 16;
/// Bytes of a tag's name.
pub const TAG_NAME_BYTES_MAX: usize = 64;
/// Bytes of a tag's value.
pub const TAG_VALUE_BYTES_MAX: usize = 256;
/// Members that a routing policy may narrow a message to.
pub const ONLY_MAX: usize = 10_000;
/// Bytes of a text that a routing policy may write.
pub const TEXT_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a user's name.
pub const USER_BYTES_MAX: usize = 256;
/// Shortest time after which a presence policy is asked again, in milliseconds.
pub const RECHECK_MS_MIN: u64 = 1_000;

/// Bits of a byte of `facts`: what the host knows of a member.
pub mod fact {
    /// Connected, perhaps out of date.
    pub const ONLINE: u8 = 1;
    /// Has muted the conversation.
    pub const MUTED: u8 = 2;
    /// Is mentioned in the message.
    pub const MENTIONED: u8 = 4;
    /// Administers the group.
    pub const ADMIN: u8 = 8;
    /// By bit.
    pub const NAMES: [&str; 4] = ["online", "muted", "mentioned", "admin"];
}

/// Bits of a byte of `relations`: what a viewer is to a user.
pub mod relation {
    /// The user has listed the viewer as a contact.
    pub const CONTACT: u8 = 1;
    /// Both are members of some group.
    pub const SHARES_A_GROUP: u8 = 2;
    /// One has blocked the other.
    pub const BLOCKED: u8 = 4;
    /// By bit.
    pub const NAMES: [&str; 3] = ["contact", "shares-a-group", "blocked"];
}

/// When, and with which luck, a decision is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moment {
    /// Milliseconds since the Unix epoch.
    pub now: u64,
    /// Random bits, the same for every plugin that takes part in the decision.
    #[serde(default)]
    pub seed: u64,
}

/// What a client asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum Command {
    Connect,
    ChatMessage,
    Receipt,
    Typing,
    Presence,
    History,
    Membership,
    Other,
}

/// What a rate limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// All that a user does.
    User,
    /// All that comes from an address.
    Ip,
    /// One connection.
    Connection,
    /// All that goes to a conversation.
    Conversation,
    /// A user within a conversation.
    Member,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::User, Self::Ip, Self::Connection, Self::Conversation, Self::Member];

    /// As the manifest spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Ip => "ip",
            Self::Connection => "connection",
            Self::Conversation => "conversation",
            Self::Member => "member",
        }
    }
}

/// Where a message goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Conversation {
    /// To one user.
    Direct(String),
    /// To a group, by id.
    Group(String),
}

/// Why not, and when to try again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    /// At most [`REASON_BYTES_MAX`] bytes; the sender's client may show it.
    pub reason: String,
    /// Milliseconds; none: trying again will not help.
    #[serde(default, alias = "retry-after")]
    pub retry_after: Option<u64>,
}

/// What a rate limit is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimitRequest {
    /// What is being counted.
    pub scope: Scope,
    /// Whose state this is.
    pub key: String,
    /// What the client asked for.
    pub command: Command,
    /// Bytes of the frame or of the request's body.
    pub size: u32,
    /// Connections open for this user, or from this address; this one included.
    pub connections: u32,
    /// Members that a message would reach; 0 for other commands.
    pub recipients: u32,
}

/// A rate limit's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Go on.
    Allow,
    /// Not now.
    Deny(Refusal),
}

/// A rate limit's answer, and what it wants to remember.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimitOutcome {
    /// The answer.
    pub verdict: Verdict,
    /// At most [`STATE_BYTES_MAX`] bytes.
    #[serde(with = "base64_bytes")]
    pub state: Vec<u8>,
    /// Milliseconds, at most [`KEEP_MS_MAX`].
    pub keep: u64,
}

/// What every routing policy reads of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    /// The authenticated user.
    pub sender: String,
    /// Where it goes.
    pub to: Conversation,
    /// Bytes of text and data together.
    pub size: u32,
    /// Members of the conversation, the sender included; 2 in a direct one.
    pub members: u32,
}

/// Changes to an accepted message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// Another conversation instead.
    pub to: Option<Conversation>,
    /// Only these members get it; at most [`ONLY_MAX`].
    pub only: Option<Vec<String>>,
    /// Replaces the text; at most [`TEXT_BYTES_MAX`] bytes.
    pub text: Option<String>,
    /// Added or replaced; at most [`TAGS_MAX`].
    pub tags: Vec<(String, String)>,
}

/// A routing policy's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RoutingDecision {
    /// As it is.
    Accept,
    /// With changes.
    AcceptWith(Changes),
    /// The sender is told.
    Reject(Refusal),
    /// Recorded without recipients; the sender believes that it was sent.
    Discard,
}

/// Of whom a fan-out policy decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Audience {
    /// The group's id.
    pub group: String,
    /// The authenticated user.
    pub sender: String,
    /// Members of the group, the sender included.
    pub members: u32,
    /// Members that are connected, perhaps out of date.
    pub online: u32,
}

/// How a group message travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FanoutMode {
    /// Into each member's stream.
    Push,
    /// Into the group's log only.
    Pull,
}

/// How one member gets a group message; the code is a byte of the column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Delivery {
    /// As usual.
    Push = 0,
    /// Marked: do not notify.
    Quiet = 1,
    /// In neither stream nor history.
    LeaveOut = 2,
}

impl Delivery {
    /// By code.
    pub const NAMES: [&str; 3] = ["push", "quiet", "leave-out"];

    /// From a byte of the column.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Push),
            1 => Some(Self::Quiet),
            2 => Some(Self::LeaveOut),
            _ => None,
        }
    }
}

/// A user's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum Status {
    Online,
    Away,
    Offline,
}

/// Why a presence policy is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PresenceEvent {
    /// One more connection.
    Connected,
    /// A frame came after a pause.
    Active,
    /// Nothing came, and the time that the policy asked for in `recheck` has passed.
    Idle,
    /// One connection less.
    Disconnected,
    /// The client declared a status.
    Declared,
}

/// What a presence policy is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observation {
    /// Whose status.
    pub user: String,
    /// What happened.
    pub event: PresenceEvent,
    /// Connections of the user, now.
    pub connections: u32,
    /// Milliseconds since the last frame from any of the user's devices.
    pub idle: u64,
    /// What the user's client declared.
    #[serde(default)]
    pub declared: Option<Status>,
    /// What the last answer was.
    pub previous: Status,
}

/// A presence policy's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighting {
    /// From now on.
    pub status: Status,
    /// Tell those who watch, if they may know.
    pub announce: bool,
    /// Milliseconds until to ask again, at least [`RECHECK_MS_MIN`]; 0: on the next event.
    pub recheck: u64,
}

/// What one viewer may see; the code is a byte of the column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Visibility {
    /// Neither status nor last seen.
    Nothing = 0,
    /// The status.
    StatusOnly = 1,
    /// Both.
    StatusAndLastSeen = 2,
}

impl Visibility {
    /// By code.
    pub const NAMES: [&str; 3] = ["nothing", "status-only", "status-and-last-seen"];

    /// From a byte of the column.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Nothing),
            1 => Some(Self::StatusOnly),
            2 => Some(Self::StatusAndLastSeen),
            _ => None,
        }
    }
}

/// For `#[serde(with = "...")]`: bytes as base64 (RFC 4648, with padding).
pub mod base64_bytes {
    use serde::{Deserialize, Deserializer, Serializer, de};

    use super::BASE64;

    /// As a string.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(bytes))
    }

    /// From a string.
    ///
    /// # Errors
    /// No string, or no base64.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        BASE64.decode(text.as_bytes()).map_err(de::Error::custom)
    }
}
