//! A user's devices are set back, and take again what they had: from log and archive. (DELIVERY 15, 16)
//!
//! The store keeps where each goes on, and counts how often it was set back: what was acknowledged before, on whatever node, counts no more, even
//! where it is saved later. Which node a device comes to next does not matter.

use std::sync::Arc;
use std::time::Duration;

use heddle_model::{DeviceId, Millis, Position, UserId};
use heddle_store::{AuditEntry, StoreError, StreamPoint, StreamSince};

use crate::delivery::{Delivery, Shared};
use crate::{Kick, NodeMessage};

/// What an operator asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayWish {
    /// Whose stream.
    pub user: UserId,
    /// From where.
    pub since: StreamPoint,
    /// Only this device.
    pub device: Option<DeviceId>,
    /// Who asks, and why.
    pub audit: AuditEntry,
}

/// What comes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replayed {
    /// Delivery begins after this position.
    pub after: Position,
    /// Events above it, counted up to [`heddle_store::UNREAD_MAX`].
    pub events: u64,
    /// When the oldest event that is kept was appended.
    pub oldest: Option<Millis>,
    /// The devices that were set back.
    pub devices: Vec<DeviceId>,
    /// Connections that were told to come again. Others go back when they connect next.
    pub connections: usize,
}

/// Why nothing is replayed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// Nobody of that name.
    #[error("user {0} was never here")]
    UnknownUser(UserId),
    /// Nothing that could be set back.
    #[error("user {user} has no device {device}: it has {known}")]
    UnknownDevice {
        /// Whose.
        user: UserId,
        /// As asked for.
        device: DeviceId,
        /// Those that there are.
        known: String,
    },
    /// Nothing that could be set back.
    #[error("user {0} has no device: the first that comes gets everything that is kept")]
    NoDevice(UserId),
    /// It has not been yet.
    #[error("{at} lies {ahead} ms ahead of the clock of this node, {now}: name a moment that has been")]
    Ahead {
        /// As asked for.
        at: Millis,
        /// By so much.
        ahead: Millis,
        /// What the node takes for now.
        now: Millis,
    },
    /// No event has it yet.
    #[error("offset {offset} is above {head}, the newest that user {user} may have")]
    AboveHead {
        /// Whose.
        user: UserId,
        /// As asked for.
        offset: Position,
        /// The head of the user's partition.
        head: Position,
    },
    /// Not now.
    #[error("the archive is behind: {0}; try again in a moment")]
    TryLater(String),
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Delivery {
    /// Sets the user's devices back. Each goes on there at its next `hello`, whatever position it names, until it has acknowledged an event beyond;
    /// those that are connected are told to come again.
    ///
    /// # Errors
    /// No such user, device or point; the store does not answer.
    pub async fn replay(&self, wish: ReplayWish) -> Result<Replayed, ReplayError> {
        let shared = &self.shared;
        let user = &wish.user;
        let known = shared.store.devices.devices(user).await?;
        if known.is_empty() && shared.store.directory.user_since(user).await?.is_none() {
            return Err(ReplayError::UnknownUser(user.clone()));
        }
        if known.is_empty() {
            return Err(ReplayError::NoDevice(user.clone()));
        }
        if let Some(device) = wish.device.as_ref().filter(|device| !known.iter().any(|row| row.device == **device)) {
            let names: Vec<&str> = known.iter().map(|row| row.device.as_str()).collect();
            let (user, device, known) = (user.clone(), device.clone(), names.join(", "));
            return Err(ReplayError::UnknownDevice { user, device, known });
        }
        let since = shared.point(user, wish.since).await?;
        shared.store.catalog.add_audit(wish.audit.clone()).await?;
        let devices = shared.store.devices.replay_devices(user, wish.device.as_ref(), since.after).await?;
        let connections = shared.call_back(user, &devices).await;
        tracing::info!(who = wish.audit.who, %user, after = %since.after, events = since.events, "devices are set back");
        let StreamSince { after, events, oldest } = since;
        Ok(Replayed { after, events, oldest, devices, connections })
    }
}

impl Shared {
    /// Where the point lies, once the archive has what the user may have had.
    async fn point(&self, user: &UserId, since: StreamPoint) -> Result<StreamSince, ReplayError> {
        let now = self.clock.now();
        if let StreamPoint::Time(at) = since
            && at > now
        {
            return Err(ReplayError::Ahead { at, ahead: at - now, now });
        }
        let home = self.numbering.partitioning.home(user);
        let head = self.log.head_now(home).await.map_err(ReplayError::TryLater)?;
        let position = self.numbering.upto(head);
        if let StreamPoint::Position(offset) = since
            && offset > position
        {
            return Err(ReplayError::AboveHead { user: user.clone(), offset, head: position });
        }
        let mut archived = self.partition(home).archived.subscribe();
        let caught_up = archived.wait_for(|at| *at >= head);
        if tokio::time::timeout(Duration::from_millis(self.config.group_wait_ms), caught_up).await.is_err() {
            return Err(ReplayError::TryLater(format!("it has not come to {position} of {home}")));
        }
        Ok(self.store.archive.stream_since(user, since).await?)
    }

    /// Tells the connections of these devices to come again. Lossy: who does not hear it goes back at its next `hello`.
    async fn call_back(&self, user: &UserId, devices: &[DeviceId]) -> usize {
        let routes = self.routes(std::slice::from_ref(user)).await.pop().unwrap_or_default();
        let mut told = 0;
        for route in routes.into_iter().filter(|route| devices.contains(&route.device)) {
            let kick = NodeMessage::Kick { connection: route.connection, why: Kick::Replay };
            match self.bus.send(&route.node, Arc::new(kick)).await {
                Ok(()) => told += 1,
                Err(error) => tracing::debug!(%error, "a connection was not told that its device is set back"),
            }
        }
        told
    }
}
