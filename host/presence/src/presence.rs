use std::sync::Arc;

use heddle_model::{Clock, UserId};

use crate::{PresenceConfig, PresenceError, PresencePolicy, PresenceSink, Relations, Report, Socket, Visible};

/// The handle: cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Presence {
    shared: Arc<Shared>,
}

struct Shared {
    config: PresenceConfig,
}

/// How much it holds, for gauges.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PresenceFigures {
    /// Users tracked.
    pub users: usize,
    /// Connections that watch somebody.
    pub watchers: usize,
    /// Users that wait for a timer.
    pub timers: usize,
}

impl Presence {
    /// Starts the one task that drives timers and updates; it ends when the last handle is dropped.
    pub fn start(
        config: PresenceConfig,
        _policy: Arc<dyn PresencePolicy>,
        _relations: Arc<dyn Relations>,
        _sink: Arc<dyn PresenceSink>,
        _clock: Arc<dyn Clock>,
    ) -> Self {
        Self { shared: Arc::new(Shared { config }) }
    }

    /// Notes what a gateway says of one of the user's connections, and asks the policy if it means anything. Never blocks on IO.
    pub fn report(&self, _user: &UserId, _report: &Report) {}

    /// Watches more users, and answers how each is now, as `viewer` may see it.
    ///
    /// # Errors
    /// Too many for one connection; then none of them is watched.
    pub async fn subscribe(
        &self,
        _viewer: &UserId,
        _socket: &Socket,
        users: &[UserId],
    ) -> Result<Vec<Visible>, PresenceError> {
        let max = self.shared.config.watched_per_connection_max;
        Err(PresenceError::TooManyWatched { watched: users.len(), max })
    }

    /// Watches these no longer.
    pub fn unsubscribe(&self, _socket: &Socket, _users: &[UserId]) {}

    /// Forgets what a connection watches. (Its own user's status: report `Disconnected`.)
    pub fn drop_connection(&self, _socket: &Socket) {}

    /// How each of `users` is now, as `viewer` may see it; one answer per user, in order.
    pub async fn get(&self, _viewer: &UserId, _users: &[UserId]) -> Vec<Visible> {
        Vec::new()
    }

    /// How much it holds.
    #[must_use]
    pub fn figures(&self) -> PresenceFigures {
        PresenceFigures::default()
    }
}
