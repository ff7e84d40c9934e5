//! Blocks between users, and users whose tokens an operator took back.

use async_trait::async_trait;
use heddle_model::{Millis, UserId};

use super::{AuditEntry, StoreError};

/// A row that denies nothing any more is kept for so long, for those who ask what changed.
pub const DENIAL_FORGOTTEN_MS: Millis = 24 * 60 * 60 * 1_000;

/// What came of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noted {
    /// It is done, and something changed.
    Changed,
    /// It was so already.
    Unchanged,
    /// There are as many as there may be.
    Full,
}

/// Why tokens of a user are refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// Whose.
    pub user: UserId,
    /// Those issued then or before; at the end of time: all.
    pub upto: Millis,
    /// When the operator said so.
    pub at: Millis,
    /// Who did.
    pub who: String,
    /// Why.
    pub why: String,
}

/// One of the things that can change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denial {
    /// `user` blocks `other`, or no longer.
    Block {
        /// Who blocks.
        user: UserId,
        /// Whom.
        other: UserId,
        /// Still.
        holds: bool,
    },
    /// Tokens of the user are refused, or no longer.
    Revocation {
        /// Whose.
        user: UserId,
        /// Those issued then or before; none: no longer.
        upto: Option<Millis>,
    },
}

/// What changed, of one snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Denials {
    /// In order, each with its version.
    pub changes: Vec<(u64, Denial)>,
    /// The version of the newest change.
    pub version: u64,
    /// What changed up to this version, and denies nothing any more, may be missing.
    pub forgotten: u64,
}

/// Blocks and revocations. Every change gets the next version.
#[async_trait]
pub trait DenialRows: Send + Sync + 'static {
    /// `user` blocks `other`, or no longer; of one user at most `max` hold. Asked for what is so already, it changes nothing.
    ///
    /// # Errors
    /// The store does not answer.
    async fn set_block(
        &self,
        user: &UserId,
        other: &UserId,
        holds: bool,
        at: Millis,
        max: u32,
    ) -> Result<Noted, StoreError>;
    /// Whom the user blocks, by name.
    ///
    /// # Errors
    /// The store does not answer, or holds a broken row.
    async fn blocks(&self, user: &UserId) -> Result<Vec<UserId>, StoreError>;
    /// For each of `others`: does `user` block it, and does it block `user`?
    ///
    /// # Errors
    /// The store does not answer.
    async fn blocks_between(&self, user: &UserId, others: &[UserId]) -> Result<Vec<(bool, bool)>, StoreError>;
    /// Takes a user's tokens back, with its audit row in the same transaction; of all users at most `max`. A later one replaces an earlier one.
    ///
    /// # Errors
    /// The store does not answer.
    async fn revoke(&self, revocation: Revocation, audit: AuditEntry, max: u32) -> Result<Noted, StoreError>;
    /// Takes a revocation back, with its audit row in the same transaction; false, and nothing is written, if there is none.
    ///
    /// # Errors
    /// The store does not answer.
    async fn restore(&self, user: &UserId, audit: AuditEntry) -> Result<bool, StoreError>;
    /// The user's revocation.
    ///
    /// # Errors
    /// The store does not answer, or holds a broken row.
    async fn revocation(&self, user: &UserId) -> Result<Option<Revocation>, StoreError>;
    /// At most `limit` changes above `version`, of which each row's newest counts. From 0 on: all that holds, and some that does not.
    ///
    /// # Errors
    /// The store does not answer, or holds a broken row.
    async fn denials_since(&self, version: u64, limit: u32) -> Result<Denials, StoreError>;
}
