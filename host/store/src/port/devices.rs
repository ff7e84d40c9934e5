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
    /// Where it goes on at its next `hello`, whatever it says, until it has acknowledged something beyond: an operator set it back.
    pub replay: Option<Position>,
    /// How often that was done. What was acknowledged under an earlier turn counts no more.
    pub turn: u64,
}

impl DeviceRow {
    /// One that has acknowledged so far, in its turn; a replay only the store begins.
    #[must_use]
    pub fn new(device: DeviceId, position: Position, seen_at: Millis, turn: u64) -> Self {
        Self { device, position, seen_at, replay: None, turn }
    }
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
    /// A position of another turn than the row's changes nothing; one beyond the row's replay ends it.
    ///
    /// # Errors
    /// The store does not answer, or holds a broken row.
    async fn save_devices(&self, rows: Vec<(UserId, DeviceRow)>, per_user_max: u32) -> Result<(), StoreError>;
    /// Sets a device's position, back too: it resumed from there. One of another turn than the row's changes nothing.
    ///
    /// # Errors
    /// The store does not answer, or holds a broken row.
    async fn reset_device(&self, user: &UserId, row: DeviceRow, per_user_max: u32) -> Result<(), StoreError>;
    /// Sets the user's devices back, or this one: the next turn of each begins, with a replay from `to`. Answers which.
    ///
    /// # Errors
    /// The store does not answer, or holds a broken row.
    async fn replay_devices(
        &self,
        user: &UserId,
        device: Option<&DeviceId>,
        to: Position,
    ) -> Result<Vec<DeviceId>, StoreError>;
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
