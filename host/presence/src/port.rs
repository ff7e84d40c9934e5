//! What presence asks of others: a policy, relations between users, and somewhere to send updates.

use async_trait::async_trait;
use heddle_model::{ConnectionId, Millis, NodeId, UserId};

/// A user's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    /// Not there.
    Offline,
    /// There, but not looking.
    Away,
    /// There.
    Online,
}

impl Status {
    /// As the wire names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Offline => "offline",
            Self::Away => "away",
            Self::Online => "online",
        }
    }
}

/// Why the policy is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// One more connection.
    Connected,
    /// A frame came after a pause.
    Active,
    /// Nothing came, and the time that the policy asked for has passed.
    Idle,
    /// One connection less.
    Disconnected,
    /// The client declared a status.
    Declared,
}

/// What the policy is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation<'a> {
    /// The moment.
    pub now: Millis,
    /// Whose status.
    pub user: &'a UserId,
    /// What happened.
    pub event: Event,
    /// Connections of the user, now.
    pub connections: u32,
    /// Milliseconds since the last activity on any of the user's devices.
    pub idle_ms: Millis,
    /// What the user's client declared, if it did.
    pub declared: Option<Status>,
    /// What the last answer was.
    pub previous: Status,
}

/// What the policy answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sighting {
    /// From now on.
    pub status: Status,
    /// Tell those who watch, if they may know.
    pub announce: bool,
    /// Milliseconds until to ask again, at least 1,000; 0: on the next event only.
    pub recheck_ms: Millis,
}

/// What one viewer may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Visibility {
    /// Neither status nor last seen.
    Nothing,
    /// The status.
    StatusOnly,
    /// Both.
    StatusAndLastSeen,
}

/// Bits of what a viewer is to a user.
pub mod relation {
    /// The user has listed the viewer as a contact.
    pub const CONTACT: u8 = 1;
    /// Both are members of some group.
    pub const SHARES_A_GROUP: u8 = 2;
    /// One has blocked the other.
    pub const BLOCKED: u8 = 4;
}

/// Decides statuses and who may see them. Quick and pure: called under a lock, never blocks.
pub trait PresencePolicy: Send + Sync + 'static {
    /// The user's status after what happened.
    fn observe(&self, observation: &Observation<'_>) -> Sighting;

    /// What each viewer may see of `subject`: as many answers as `relations` (bits of [`relation`], a byte a viewer).
    fn reveal(&self, now: Millis, subject: &UserId, relations: &[u8]) -> Vec<Visibility>;
}

/// Who is what to whom.
#[async_trait]
pub trait Relations: Send + Sync + 'static {
    /// What each of `viewers` is to `subject`, as bits of [`relation`]; none: nobody can tell now, and nothing is revealed.
    async fn relations(&self, subject: &UserId, viewers: &[UserId]) -> Option<Vec<u8>>;

    /// When a user that this node has not tracked since its start was last there, if that is known.
    async fn last_seen(&self, user: &UserId) -> Option<Millis>;
}

/// A socket somewhere: whose reports are leased, or where updates go.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Socket {
    /// The node that holds it.
    pub node: NodeId,
    /// Which one.
    pub connection: ConnectionId,
}

/// A change for those who watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// To whom: all may see the same.
    pub to: Vec<Socket>,
    /// What they may see.
    pub seen: Visible,
}

/// A user as one viewer may see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visible {
    /// Whom.
    pub user: UserId,
    /// `Offline` also if the viewer may not know.
    pub status: Status,
    /// The last activity, if the viewer may know.
    pub last_seen: Option<Millis>,
}

/// Takes updates away; must not block (drop what there is no room for: presence is a hint).
pub trait PresenceSink: Send + Sync + 'static {
    /// Sends an update to the sockets that it names.
    fn update(&self, update: Update);
}

/// By what connections are counted over all nodes: of names and addresses others need to know only whether they are the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Mark {
    /// Of the device.
    pub device: [u8; 8],
    /// Of the address that it comes from.
    pub address: [u8; 8],
}

/// What a gateway says of one connection. Each report renews the connection's lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Of which connection.
    pub socket: Socket,
    /// By what it is counted, if it is not known yet.
    pub mark: Mark,
    /// What.
    pub kind: ReportKind,
}

/// What happened on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportKind {
    /// It opened.
    Connected,
    /// A frame that counts as activity came: any but pings, pongs and acks. Gateways may leave out those within a few seconds of the last.
    Active,
    /// It is still open; nothing else.
    Alive,
    /// It closed.
    Disconnected,
    /// The client declared a status.
    Declared(Status),
}
