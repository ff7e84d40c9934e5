//! What must never be, in words.

use std::fmt;

/// Each kind that the checker knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Accepted, and it can come no more.
    Lost,
    /// Accepted, and it had not come when the run was given up: that may be a slow machine.
    Late,
    /// One message under two offsets of one user.
    Doubled,
    /// An event that is not above the position of its connection.
    SentAgain,
    /// Two messages of one sender to one conversation, the other way round.
    Reordered,
    /// Two members have the messages of a group in different orders.
    Disagreed,
    /// Somebody read what is not theirs.
    Leaked,
    /// An event that the log does not have.
    Unfounded,
    /// A message with two orders.
    Renumbered,
    /// One offset of a user is two events.
    Moved,
    /// A connection went over an event in silence: a gap that is not said.
    PassedOver,
    /// A gap that is said and is none.
    GapOfNothing,
    /// A device goes on at another position than it asked for, and no gap was said.
    ResumedElsewhere,
    /// What was told as refused came nevertheless.
    RejectedDelivered,
    /// A message that no generation decided.
    Undecided,
    /// A message that two generations decided.
    DecidedTwice,
    /// A record stands in the log and is not in the archive.
    NotArchived,
    /// A record is in the archive and does not stand in the log.
    ArchivedTooMuch,
    /// A record has other bytes in the archive than in the log.
    ArchivedOtherwise,
    /// The archive does not have the newest receipt of the log, or has one that the log does not have.
    ReceiptNotTheNewest,
    /// More is read than was delivered.
    ReadAboveDelivered,
    /// A receipt in a stream that says less than one before it, of a reader who never came back.
    ReceiptWentBack,
    /// Somebody is said to have what never came to them.
    ReceiptOfNothing,
    /// A history that a node tells is not what came.
    ToldOtherwise,
}

impl Kind {
    /// As it is printed before the words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Late => "late",
            Self::Doubled => "doubled",
            Self::SentAgain => "sent-again",
            Self::Reordered => "reordered",
            Self::Disagreed => "disagreed",
            Self::Leaked => "leaked",
            Self::Unfounded => "unfounded",
            Self::Renumbered => "renumbered",
            Self::Moved => "moved",
            Self::PassedOver => "passed-over",
            Self::GapOfNothing => "gap-of-nothing",
            Self::ResumedElsewhere => "resumed-elsewhere",
            Self::RejectedDelivered => "rejected-delivered",
            Self::Undecided => "undecided",
            Self::DecidedTwice => "decided-twice",
            Self::NotArchived => "not-archived",
            Self::ArchivedTooMuch => "archived-too-much",
            Self::ArchivedOtherwise => "archived-otherwise",
            Self::ReceiptNotTheNewest => "receipt-not-the-newest",
            Self::ReadAboveDelivered => "read-above-delivered",
            Self::ReceiptWentBack => "receipt-went-back",
            Self::ReceiptOfNothing => "receipt-of-nothing",
            Self::ToldOtherwise => "told-otherwise",
        }
    }
}

/// One thing that must never be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Anomaly {
    /// Which kind of thing.
    pub kind: Kind,
    /// Who and what, with the numbers that show it.
    pub words: String,
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.name(), self.words)
    }
}

/// What was found so far.
#[derive(Debug, Default)]
pub(crate) struct Found(Vec<Anomaly>);

impl Found {
    pub(crate) fn add(&mut self, kind: Kind, words: String) {
        self.0.push(Anomaly { kind, words });
    }

    pub(crate) fn take(self) -> Vec<Anomaly> {
        self.0
    }
}
