//! Groups and their intervals.

use async_trait::async_trait;
use heddle_model::{GroupId, Millis, Position, Role, UserId};

use super::StoreError;

/// An interval of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMember {
    /// Who.
    pub user: UserId,
    /// The role now, or the last one.
    pub role: Role,
    /// From this order.
    pub joined: Position,
    /// Up to before this order; none: still a member.
    pub left: Option<Position>,
}

/// A group as of `order`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupRow {
    /// Which.
    pub group: GroupId,
    /// Its name.
    pub name: Box<str>,
    /// Who made it.
    pub created_by: UserId,
    /// When.
    pub created_at: Millis,
    /// No longer is.
    pub deleted: bool,
    /// The position of the newest change in it.
    pub order: Position,
    /// All intervals, past ones too.
    pub members: Vec<GroupMember>,
    /// The position of its newest message in the archive that was not discarded, pushed or pulled (0: none).
    pub head: Position,
}

/// Groups, as the archive has them.
#[async_trait]
pub trait Groups: Send + Sync + 'static {
    /// One group with all its intervals.
    ///
    /// # Errors
    /// The store does not answer, or holds a broken row.
    async fn group(&self, group: &GroupId) -> Result<Option<GroupRow>, StoreError>;
    /// The groups that the user is a member of now, each with the position of the newest pulled message that the user may see (0: none).
    ///
    /// # Errors
    /// The store does not answer, or holds a broken row.
    async fn groups_of(&self, user: &UserId) -> Result<Vec<(GroupId, Position)>, StoreError>;
    /// Do these two share a group now, for each of `others`?
    ///
    /// # Errors
    /// The store does not answer, or holds a broken row.
    async fn share_a_group(&self, user: &UserId, others: &[UserId]) -> Result<Vec<bool>, StoreError>;
}
