//! Users, contacts, mutes.

use async_trait::async_trait;
use heddle_model::{Conversation, GroupId, Millis, UserId};

use super::StoreError;

/// A contact of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contact {
    /// Whom the user listed.
    pub user: UserId,
    /// Since when.
    pub since: Millis,
}

/// Users, contacts, mutes.
#[async_trait]
pub trait Directory: Send + Sync + 'static {
    /// When the user was first seen.
    ///
    /// # Errors
    /// The store does not answer, or holds a broken row.
    async fn user_since(&self, user: &UserId) -> Result<Option<Millis>, StoreError>;
    /// Notes that the user exists; the earliest time stays.
    ///
    /// # Errors
    /// The store does not answer, or holds a broken row.
    async fn see_user(&self, user: &UserId, at: Millis) -> Result<(), StoreError>;
    /// Whom the user listed, by name.
    ///
    /// # Errors
    /// The store does not answer, or holds a broken row.
    async fn contacts(&self, user: &UserId) -> Result<Vec<Contact>, StoreError>;
    /// Which of `viewers` the user has listed.
    ///
    /// # Errors
    /// The store does not answer, or holds a broken row.
    async fn listed(&self, user: &UserId, viewers: &[UserId]) -> Result<Vec<bool>, StoreError>;
    /// Lists or unlists somebody; answers whether anything changed.
    ///
    /// # Errors
    /// The store does not answer, or holds a broken row.
    async fn set_contact(&self, user: &UserId, other: &UserId, listed: bool, at: Millis) -> Result<bool, StoreError>;
    /// Mutes or unmutes a conversation.
    ///
    /// # Errors
    /// The store does not answer, or holds a broken row.
    async fn set_mute(&self, user: &UserId, conversation: &Conversation, muted: bool) -> Result<(), StoreError>;
    /// What the user muted.
    ///
    /// # Errors
    /// The store does not answer, or holds a broken row.
    async fn mutes(&self, user: &UserId) -> Result<Vec<Conversation>, StoreError>;
    /// Who muted this group, members or not.
    ///
    /// # Errors
    /// The store does not answer, or holds a broken row.
    async fn muted_members(&self, group: &GroupId) -> Result<Vec<UserId>, StoreError>;
}
