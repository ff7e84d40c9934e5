//! Why a connection ends.

use crate::limits::CLOSE_REASON_BYTES_MAX;

/// Every code with which the server closes a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseCode {
    /// 4001: the node drains; the reason carries the delay after which to come back.
    ShuttingDown,
    /// 4003: something the connection needs is away for a while.
    TryLater,
    /// 4008: the client reads or acknowledges too slowly.
    Slow,
    /// 4012: nothing came between two pings, or no `hello` in time.
    NoAnswer,
    /// 4013: more frames than the connection may send.
    TooManyFrames,
    /// 4401: the token was good and is no longer.
    TokenExpired,
    /// 4403: too many connections of this user.
    TooManyConnections,
    /// 4500: the token was never good.
    TokenInvalid,
    /// 4501: not a frame: not a JSON object, binary, too large, too deep.
    Malformed,
    /// 4509: the same user and device connected elsewhere.
    Replaced,
    /// 4510: an operator revoked the user, device or token.
    Revoked,
}

impl CloseCode {
    /// All of them, by number.
    pub const ALL: [Self; 11] = [
        Self::ShuttingDown,
        Self::TryLater,
        Self::Slow,
        Self::NoAnswer,
        Self::TooManyFrames,
        Self::TokenExpired,
        Self::TooManyConnections,
        Self::TokenInvalid,
        Self::Malformed,
        Self::Replaced,
        Self::Revoked,
    ];

    /// The number on the wire.
    #[must_use]
    pub fn number(self) -> u16 {
        match self {
            Self::ShuttingDown => 4001,
            Self::TryLater => 4003,
            Self::Slow => 4008,
            Self::NoAnswer => 4012,
            Self::TooManyFrames => 4013,
            Self::TokenExpired => 4401,
            Self::TooManyConnections => 4403,
            Self::TokenInvalid => 4500,
            Self::Malformed => 4501,
            Self::Replaced => 4509,
            Self::Revoked => 4510,
        }
    }

    /// The code with that number, if it is one of ours.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.number() == number)
    }

    /// The reason that goes with it when there is nothing more exact to say.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::ShuttingDown => "shutting down",
            Self::TryLater => "try later",
            Self::Slow => "too slow",
            Self::NoAnswer => "no answer",
            Self::TooManyFrames => "too many frames",
            Self::TokenExpired => "token expired",
            Self::TooManyConnections => "too many connections",
            Self::TokenInvalid => "token not valid",
            Self::Malformed => "malformed frame",
            Self::Replaced => "replaced by the same device elsewhere",
            Self::Revoked => "revoked",
        }
    }

    /// Whether a client comes back by itself. With [`CloseCode::TokenExpired`] it needs a new token first.
    #[must_use]
    pub fn reconnect(self) -> bool {
        self.number() < 4500
    }

    /// A reason that says more, cut to what a close frame holds: `malformed frame: expected value at column 1`.
    #[must_use]
    pub fn reason_with(self, detail: &str) -> String {
        let mut reason = format!("{}: {detail}", self.reason());
        let mut end = reason.len().min(CLOSE_REASON_BYTES_MAX);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        reason.truncate(end);
        reason
    }

    /// A reason that tells when to come back: `shutting down; reconnect in 1234 ms`.
    #[must_use]
    pub fn reason_with_delay(self, delay_ms: u64) -> String {
        format!("{}; reconnect in {delay_ms} ms", self.reason())
    }

    /// The delay of a reason made by [`CloseCode::reason_with_delay`], in milliseconds.
    #[must_use]
    pub fn delay_ms(reason: &str) -> Option<u64> {
        let (_, rest) = reason.split_once("reconnect in ")?;
        rest.strip_suffix(" ms")?.parse().ok()
    }
}
