//! Devices and reads.

use async_trait::async_trait;
use heddle_model::{Conversation, DeviceId, Millis, Position, UserId};

use super::StoreError;

/// A device's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRow {
    /// Which.
    pub device: DeviceId,
    /// What it has acknowledged.
    pub position: Position,
    /// When it was last connected.
    pub seen_at: Millis,
}

/// Devices and their positions; how far a user has read.
#[async_trait]
pub trait Devices: Send + Sync + 'static {
    /// The user's devices, the most recently seen first.
    ///
    /// # Errors
    /// The store does not answer, or holds a broken row.
    async fn devices(&self, user: &UserId) -> Result<Vec<DeviceRow>, StoreError>;
    /// Adds or updates devices in one transaction (newest wins: the larger position, the later time; a position goes back only by [`reset_device`](Self::reset_device)); of each user at most `per_user_max` stay, the least recently seen are forgotten.
    ///
    /// # Errors
    /// The store does not answer, or holds a broken row.
    async fn save_devices(&self, rows: Vec<(UserId, DeviceRow)>, per_user_max: u32) -> Result<(), StoreError>;
    /// Sets a device's position, back too: it resumed from there.
    ///
    /// # Errors
    /// The store does not answer, or holds a broken row.
    async fn reset_device(&self, user: &UserId, row: DeviceRow, per_user_max: u32) -> Result<(), StoreError>;
    /// Raises the order up to which `user` has read a conversation; smaller ones change nothing.
    ///
    /// # Errors
    /// The store does not answer, or holds a broken row.
    async fn save_read(&self, user: &UserId, conversation: &Conversation, order: Position) -> Result<(), StoreError>;
    /// How far the user has read each conversation.
    ///
    /// # Errors
    /// The store does not answer, or holds a broken row.
    async fn reads(&self, user: &UserId) -> Result<Vec<(Conversation, Position)>, StoreError>;
}
