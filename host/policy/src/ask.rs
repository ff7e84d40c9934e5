//! What delivery and gateway ask of a generation, and what they are answered.

use std::net::IpAddr;

use heddle_model::{ConnectionId, Conversation, Decision, Delivery, GroupId, MessageId, Millis, Tag, UserId};

/// What a client asked for, over WebSocket or REST.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Command {
    /// A new connection (its `hello`).
    Connect,
    /// A message.
    ChatMessage,
    /// A read receipt.
    Receipt,
    /// Typing started or stopped.
    Typing,
    /// Any presence command.
    Presence,
    /// A page of history, a list of conversations.
    History,
    /// A change of a group.
    Membership,
    /// Anything else.
    Other,
}

/// May this client do this now?
#[derive(Debug, Clone, Copy)]
pub struct RateAsk<'a> {
    /// The gateway's clock.
    pub now: Millis,
    /// As authenticated.
    pub user: &'a UserId,
    /// The client's address.
    pub ip: IpAddr,
    /// The socket; none for REST: the scope `connection` is then left out.
    pub connection: Option<ConnectionId>,
    /// As the user names it, if the command has one; without, the scopes `conversation` and `member` are left out.
    pub conversation: Option<&'a Conversation>,
    /// What it asks for.
    pub command: Command,
    /// Bytes of the frame or of the request's body.
    pub size: u32,
    /// Connections open for this user, this one included.
    pub connections_user: u32,
    /// Connections open from this address, this one included.
    pub connections_ip: u32,
    /// Members that a message would reach, the sender left out; 0 for other commands.
    pub recipients: u32,
}

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Which code the client gets.
    pub code: RefusalCode,
    /// In words that the client may show; at most 256 bytes.
    pub reason: Box<str>,
    /// When to try again; none with `retryable`: whenever.
    pub retry_after_ms: Option<Millis>,
    /// Whether trying again may help.
    pub retryable: bool,
}

/// The code of a refusal, as the wire names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefusalCode {
    /// A rate limit denied it.
    RateLimited,
    /// A routing policy rejected it.
    Refused,
    /// The policy failed, and its manifest says `closed`.
    PolicyUnavailable,
}

impl RefusalCode {
    /// As the wire names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RateLimited => "rate_limited",
            Self::Refused => "refused",
            Self::PolicyUnavailable => "policy_unavailable",
        }
    }
}

/// What the rate limits say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateAnswer {
    /// None: go on.
    pub denied: Option<Refusal>,
    /// Who decided, one a plugin and scope.
    pub decisions: Vec<Decision>,
}

/// What the getters of a message answer. The body is copied only for plugins that asked for it.
#[derive(Debug, Clone, Copy)]
pub struct MessageView<'a> {
    /// `message`, `edit`, `delete` or `reaction`.
    pub kind: &'a str,
    /// The text.
    pub text: Option<&'a str>,
    /// The JSON that the client sent.
    pub data: Option<&'a [u8]>,
    /// Tags, the client's first.
    pub tags: &'a [Tag],
    /// The message's clock within its conversation.
    pub lamport: u64,
    /// When the host first saw the sender.
    pub sender_since: Millis,
}

/// What becomes of this message?
#[derive(Debug, Clone, Copy)]
pub struct RouteAsk<'a> {
    /// The gateway's clock.
    pub now: Millis,
    /// Seeds the decision's luck.
    pub id: MessageId,
    /// As authenticated.
    pub sender: &'a UserId,
    /// As the client addressed it.
    pub to: &'a Conversation,
    /// Bytes of text and data together.
    pub size: u32,
    /// Members of the conversation, the sender included; 2 in a direct one.
    pub members: u32,
    /// The message.
    pub message: MessageView<'a>,
}

/// What the host allows a sender. The policy can only choose within it.
pub trait RoutingRights {
    /// May the sender of this message send to `to`? (It is a member of that group.)
    fn may_send_to(&self, to: &Conversation) -> bool;

    /// Is `user` in `conversation`? (Of a direct one: sender and recipient.)
    fn is_member(&self, conversation: &Conversation, user: &UserId) -> bool;

    /// May a policy whose manifest names `to` in `redirect_to` send this there, though the sender is no member?
    fn may_be_redirected_to(&self, _to: &Conversation) -> bool {
        false
    }

    /// How many members a conversation has, for the plugins that come after a redirection; none: as before it.
    fn members(&self, _conversation: &Conversation) -> Option<u32> {
        None
    }
}

/// What becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routed {
    /// The end of the chain.
    pub outcome: Outcome,
    /// Who decided, in order.
    pub decisions: Vec<Decision>,
}

/// The end of a chain of routing policies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It goes out.
    Accept(Accepted),
    /// The sender is told.
    Reject(Refusal),
    /// Recorded without recipients; the sender believes that it was sent.
    Discard,
}

/// An accepted message, with all changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// Where it goes.
    pub to: Conversation,
    /// If set, only these members get it.
    pub only: Option<Vec<UserId>>,
    /// If set, replaces the text.
    pub rewritten: Option<Box<str>>,
    /// All tags: the client's, then the policies'.
    pub tags: Vec<Tag>,
}

/// Push or pull?
#[derive(Debug, Clone, Copy)]
pub struct PlanAsk<'a> {
    /// The gateway's clock.
    pub now: Millis,
    /// Seeds the decision's luck.
    pub id: MessageId,
    /// Which group.
    pub group: &'a GroupId,
    /// As authenticated.
    pub sender: &'a UserId,
    /// Members, the sender included.
    pub members: u32,
    /// Members that are connected, perhaps out of date.
    pub online: u32,
    /// The message, after routing.
    pub message: MessageView<'a>,
}

/// Who of a page of members gets it, and how?
#[derive(Debug, Clone, Copy)]
pub struct SortAsk<'a> {
    /// The message's `sent_at`, so that a repetition asks the same.
    pub now: Millis,
    /// Seeds the decision's luck.
    pub id: MessageId,
    /// Which group.
    pub group: &'a GroupId,
    /// Who sent it.
    pub sender: &'a UserId,
    /// Members, the sender included.
    pub members: u32,
    /// Members that are connected, perhaps out of date.
    pub online: u32,
    /// The message.
    pub message: MessageView<'a>,
    /// A byte a member: bits of [`fact`](crate::fact).
    pub facts: &'a [u8],
    /// How often this page was tried before: from 2 on the built-in decides in place of a plugin that fails and says `closed`.
    pub attempt: u32,
    /// Where the built-in fails too, the members get it, and the decision says `open`: one record must not hold up its partition for ever.
    pub last: bool,
}

/// A page of members, sorted: as many as there were facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sorted {
    /// In the order of the facts.
    pub deliveries: Vec<Delivery>,
    /// Who decided.
    pub decisions: Vec<Decision>,
}

/// The policy failed and its manifest says `closed`: ask again, with `attempt` raised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SortRetry {
    /// Not before this time has passed.
    pub after_ms: Millis,
}
