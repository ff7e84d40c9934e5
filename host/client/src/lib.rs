//! A small, correct client of Heddle: one connection that comes back by itself, a position that never runs ahead of
//! what was handed over, and sends that are repeated until they are settled.
//!
//! It deliberately has no user interface, keeps no history, mints no tokens and stores nothing on disk: the position is
//! told in each event, and whoever wants to survive a restart writes it down.
//!
//! Read [`Client`] and [`Event`] first. [`RawConnection`] is the same wire without any of the rules; [`bot`] is the
//! partner that `heddle dev` offers a lone newcomer.

mod address;
mod backoff;
pub mod bot;
mod client;
mod connection;
mod outbox;
mod session;

pub use address::{Address, Io, Sight, Trust, TrustError, Wire};
pub use backoff::Backoff;
pub use client::{Client, ClientConfig, ClientHandle, Event, Stopped};
pub use connection::{Closed, RawConnection, Received};
pub use outbox::{Draft, is_repeated};

/// Why the client could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address does not take connections.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// Where to.
        address: String,
        /// What the network said.
        source: std::io::Error,
    },
    /// The server answered the upgrade with an HTTP error.
    #[error("{address} refused the connection with HTTP {status}: {detail}")]
    Refused {
        /// Where to.
        address: String,
        /// The HTTP status.
        status: u16,
        /// What the server's problem details say.
        detail: String,
        /// When to try again, in milliseconds, if the server says so.
        retry_after_ms: Option<u64>,
    },
    /// The token cannot stand in a header.
    #[error("the token has characters that no HTTP header holds: fetch a new one")]
    Token,
    /// The WebSocket broke.
    #[error("the connection to {address} failed: {source}")]
    Socket {
        /// Where to.
        address: String,
        /// What broke.
        source: Box<tokio_tungstenite::tungstenite::Error>,
    },
    /// The answer did not come in time.
    #[error("{address} did not answer within {seconds} s")]
    Timeout {
        /// Where to.
        address: String,
        /// How long was waited.
        seconds: u64,
    },
    /// Too many sends are waiting for an answer.
    #[error("{waiting} messages wait for an answer already: wait until some are settled")]
    TooManyWaiting {
        /// How many.
        waiting: usize,
    },
    /// The client was stopped.
    #[error("the client has stopped")]
    Stopped,
}

impl ClientError {
    /// Whether another try may succeed without anybody changing anything.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Socket { .. } | Self::Timeout { .. } | Self::TooManyWaiting { .. } => true,
            Self::Refused { status, .. } => matches!(status, 403 | 429 | 500..),
            Self::Token | Self::Stopped => false,
        }
    }
}
