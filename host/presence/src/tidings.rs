//! What nodes tell each other of their connections.
//!
//! A node numbers its news, so that others notice what they missed, and then ask for the whole. What it tells also renews the lease of all its
//! connections at once: a node of a hundred thousand quiet connections costs no more than one of three.

use heddle_model::{ConnectionId, Millis, NodeId, UserId};

use crate::{Mark, Status};

/// What one node tells others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tidings {
    /// Who tells.
    pub node: NodeId,
    /// Which life of that node: a later one has a larger number.
    pub life: u64,
    /// Of its newest news, these included. The first has 1.
    pub number: u64,
    /// What.
    pub told: Told,
}

/// What is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// Nothing new: it is there.
    Renewal,
    /// What happened since the news numbered one less.
    News(Vec<Word>),
    /// All that the node holds, [`Said::Here`] only, in pages.
    Whole {
        /// From 0.
        page: u32,
        /// Of so many.
        pages: u32,
        /// What is on it.
        words: Vec<Word>,
    },
    /// Answer me.
    Ask {
        /// With all that you hold; else with a renewal.
        whole: bool,
    },
}

/// What is said of one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// Of which.
    pub connection: ConnectionId,
    /// What.
    pub said: Said,
}

/// What can be said of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// It is open.
    Here {
        /// Whose it is.
        user: UserId,
        /// Milliseconds since the user's last activity. A span, for clocks of nodes differ.
        idle_ms: Millis,
        /// What the user declared, as its node knows it.
        declared: Option<Declared>,
        /// By what it is counted.
        mark: Mark,
    },
    /// Its client was active just now.
    Active,
    /// What its user declared.
    Declared(Declared),
    /// It closed.
    Gone,
}

/// A status that a client declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Declared {
    /// Grows with each that its user makes, at whatever node: the newest counts.
    pub at: Millis,
    /// Which.
    pub status: Status,
}
