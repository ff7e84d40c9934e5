use heddle_model::Millis;

/// Limits of presence. Every map is bounded by one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresenceConfig {
    /// A connection that nothing was reported of for so long counts as gone.
    pub lease_ms: Millis,
    /// Users with a status, watched ones included. Beyond it those that are offline go first; others are not tracked.
    pub users_max: usize,
    /// Users that one connection may watch.
    pub watched_per_connection_max: usize,
    /// Connections that may watch one user; later ones still get answers to what they ask.
    pub watchers_per_user_max: usize,
    /// Connections of one user; beyond it the one whose lease ends first is forgotten.
    pub connections_per_user_max: usize,
    /// While a user is online, activity within so long of the last is noted without asking the policy.
    pub pause_ms: Millis,
    /// Another node that was not heard for so long is gone, and all its connections with it. Each says three times within it that it is
    /// there, and at least every five seconds.
    pub node_lease_ms: Millis,
    /// Connections of other nodes that are kept; later ones count as not there.
    pub remote_connections_max: usize,
}

impl Default for PresenceConfig {
    fn default() -> Self {
        Self {
            lease_ms: 90_000,
            users_max: 200_000,
            watched_per_connection_max: 500,
            watchers_per_user_max: 10_000,
            connections_per_user_max: 32,
            pause_ms: 5_000,
            node_lease_ms: 15_000,
            remote_connections_max: 400_000,
        }
    }
}

/// Why presence did not do it. Both are for the client that asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PresenceError {
    /// Unsubscribe from some first.
    #[error("connection would watch {watched} users, at most {max} are allowed, unsubscribe from some")]
    TooManyWatched {
        /// With those that were asked for.
        watched: usize,
        /// The limit.
        max: usize,
    },
}
