//! The lines of a history: what whoever records one writes, a JSON object each.

use std::collections::BTreeSet;

use serde::Deserialize;

/// One line: what happened, in the order in which whoever recorded it met it.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Line {
    /// How the cluster is set up.
    Settings {
        /// Within so long a second record of one id does not stand.
        dedupe_ms: u64,
        /// In groups of more than so many members nobody's receipts are records.
        receipts_members_max: usize,
    },
    /// A group and the members that it was made with.
    Group {
        /// Its id.
        group: String,
        /// Who.
        members: BTreeSet<String>,
    },
    /// `hello_ok`: a new connection of a device.
    Connect {
        /// Whose.
        user: String,
        /// Which.
        device: String,
        /// As it asked.
        resume: Option<u64>,
        /// As it was told.
        offset: u64,
        /// Why events may be missing from there on.
        gap: Option<String>,
    },
    /// A device sends, for the first time or again.
    Send {
        /// By whom.
        user: String,
        /// To `user:NAME` or `group:ID`.
        conversation: String,
        /// The sender's name for it.
        client_id: String,
    },
    /// `accepted`, or `rejected` as an answer.
    Outcome {
        /// To whom.
        user: String,
        /// Of which send; the conversation is that of the send.
        client_id: String,
        /// `accepted`, or the code of a `rejected`.
        code: String,
        /// Of an accepted one.
        #[serde(default)]
        message_id: Option<String>,
        /// Of an accepted one.
        #[serde(default)]
        order: Option<u64>,
        /// Of an accepted one.
        #[serde(default)]
        generation: Option<u64>,
    },
    /// A frame that has an offset, as it came.
    Event {
        /// To whom.
        user: String,
        /// At which device.
        device: String,
        /// What.
        frame: Frame,
    },
    /// A page of history that a node told, newest last.
    Told {
        /// To whom.
        user: String,
        /// Of which conversation, from that side.
        conversation: String,
        /// At most so many.
        limit: usize,
        /// Their ids.
        message_ids: Vec<String>,
    },
    /// A record of the log, as `heddle log cat` shows it.
    Record(Box<Record>),
    /// Where the partitions of an epoch begin, by their codes.
    Epoch {
        /// Its number.
        epoch: u64,
        /// (code, first offset)
        starts: Vec<(u64, u64)>,
    },
    /// A record in the archive.
    Archived {
        /// Topic code + 4 x partition.
        partition: u64,
        /// With its epoch.
        position: u64,
        /// Of its bytes.
        sha256: String,
    },
    /// A receipt in the archive.
    ArchivedReceipt {
        /// Whose messages.
        sender: String,
        /// As the sender names it.
        conversation: String,
        /// Who has them.
        reader: String,
        /// Up to which order.
        delivered: u64,
        /// And read.
        read: u64,
    },
    /// The last line. Without it a history is cut short.
    End {
        /// All that was waited for came.
        settled: bool,
        /// The nodes say that nothing is left to derive or to archive.
        worked: bool,
    },
}

/// A frame with an offset.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Frame {
    /// A message, or the sender's own copy.
    NewMessage {
        /// Where in the user's stream.
        offset: u64,
        /// Which.
        message_id: String,
        /// By whom.
        from: String,
        /// To a user,
        to: Option<String>,
        /// or to a group.
        group: Option<String>,
        /// The position of its first record.
        order: u64,
        /// In own copies.
        client_id: Option<String>,
    },
    /// Somebody has what this user sent.
    Receipt {
        /// Where in the user's stream.
        offset: u64,
        /// From this user's side.
        conversation: String,
        /// Who.
        by: String,
        /// `delivered` or `read`.
        status: String,
        /// Up to which.
        order: u64,
        /// Of many, in a large group.
        count: Option<u32>,
    },
    /// A change of a group.
    Membership {
        /// Where in the user's stream.
        offset: u64,
    },
    /// What was accepted does not stand.
    Rejected {
        /// Where in the user's stream.
        offset: u64,
        /// Of the send.
        order: u64,
    },
    /// The server vouches for everything up to it.
    CaughtUp {
        /// Up to which.
        offset: u64,
    },
}

impl Frame {
    /// Its offset, whichever it is.
    #[must_use]
    pub fn offset(&self) -> u64 {
        match self {
            Self::NewMessage { offset, .. }
            | Self::Receipt { offset, .. }
            | Self::Membership { offset, .. }
            | Self::Rejected { offset, .. }
            | Self::CaughtUp { offset } => *offset,
        }
    }
}

/// A record as the log has it. Fields that its kind does not have are empty.
#[derive(Debug, Clone, Deserialize)]
pub struct Record {
    /// `messages` or `group_messages`.
    pub topic: String,
    /// Of the topic.
    pub partition: u64,
    /// In the partition.
    pub offset: u64,
    /// By the brokers' clock.
    pub appended_at: u64,
    /// When a sender's record was handed in.
    pub handed_in: Option<u64>,
    /// Of its bytes.
    pub sha256: String,
    /// `direct`, `group`, `own_copy`, `group_chunk`, `receipt`, `group_change`, `membership` or `rejection`.
    pub kind: String,
    /// Of a message, or what a receipt is about.
    pub message_id: Option<String>,
    /// Who sent it.
    pub from: Option<String>,
    /// The sender's name for it.
    pub client_id: Option<String>,
    /// As the client addressed it.
    pub addressed: Option<String>,
    /// A conversation of a message; the user of a receipt or a rejection.
    pub to: Option<String>,
    /// The only ones who get it.
    pub only: Option<BTreeSet<String>>,
    /// It reaches nobody.
    #[serde(default)]
    pub discarded: bool,
    /// `push` or `pull`.
    pub plan: Option<String>,
    /// Who decided.
    pub stamp: Option<Stamp>,
    /// Of a chunk, an own copy or a receipt.
    pub order: Option<u64>,
    /// Of a chunk: objects with a user; of a new group: names.
    #[serde(default)]
    pub members: Vec<Member>,
    /// Who joined.
    #[serde(default)]
    pub users: Vec<String>,
    /// Who left, or whom a notice is about.
    pub user: Option<String>,
    /// Who hears of a change.
    #[serde(default)]
    pub targets: Vec<String>,
    /// Of a change.
    pub group: Option<String>,
    /// What changed.
    pub change: Option<String>,
    /// Who changed it, received or read.
    pub by: Option<String>,
    /// `delivered` or `read`.
    pub status: Option<String>,
    /// From the sender's side.
    pub conversation: Option<String>,
    /// Of many.
    pub count: Option<u32>,
    /// What a worker made it of.
    pub source: Option<Source>,
}

/// A member in a chunk or in a new group.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Member {
    /// In a new group.
    Name(String),
    /// In a chunk.
    Of {
        /// Who.
        user: String,
    },
}

impl Member {
    /// Who.
    #[must_use]
    pub fn user(&self) -> &str {
        match self {
            Self::Name(user) | Self::Of { user } => user,
        }
    }
}

/// Who decided.
#[derive(Debug, Clone, Deserialize)]
pub struct Stamp {
    /// Which generation; none is 0.
    #[serde(default)]
    pub generation: u64,
}

/// What a record was derived from.
#[derive(Debug, Clone, Deserialize)]
pub struct Source {
    /// Its topic.
    pub topic: String,
    /// Its partition.
    pub partition: u64,
    /// Its position, with the epoch.
    pub position: u64,
    /// Which of those made of it.
    pub chunk: u64,
}
