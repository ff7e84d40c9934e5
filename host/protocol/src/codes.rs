//! The codes of `error` and `rejected`.

use serde::{Deserialize, Serialize};

/// Why a message was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectCode {
    /// The rate-limit policy said no; come back after `retry_after_ms`.
    RateLimited,
    /// The routing policy said no.
    Refused,
    /// A policy failed, and its declared failure mode is to refuse.
    PolicyUnavailable,
    /// The outcome is unknown: send it again with the same `client_id` and `resend: true`.
    Unavailable,
    /// This `client_id` already stands for another body.
    Conflict,
    /// The sender is not a member of the group.
    NotMember,
    /// Text and data exceed their limit.
    TooLarge,
    /// A field is missing or wrong.
    Invalid,
    /// The recipient was never seen, and `users.unknown` is `"reject"`.
    UnknownUser,
    /// A code that this version does not know (clients only).
    #[serde(other)]
    Unrecognised,
}

impl RejectCode {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RateLimited => "rate_limited",
            Self::Refused => "refused",
            Self::PolicyUnavailable => "policy_unavailable",
            Self::Unavailable => "unavailable",
            Self::Conflict => "conflict",
            Self::NotMember => "not_member",
            Self::TooLarge => "too_large",
            Self::Invalid => "invalid",
            Self::UnknownUser => "unknown_user",
            Self::Unrecognised => "unrecognised",
        }
    }

    /// Whether the same send may succeed later.
    #[must_use]
    pub fn retryable(self) -> bool {
        matches!(self, Self::RateLimited | Self::PolicyUnavailable | Self::Unavailable)
    }

    /// The HTTP status with which REST tells the same.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::RateLimited => 429,
            Self::Refused | Self::NotMember => 403,
            Self::PolicyUnavailable | Self::Unavailable => 503,
            Self::Conflict => 409,
            Self::TooLarge => 413,
            Self::Invalid | Self::Unrecognised => 400,
            Self::UnknownUser => 404,
        }
    }
}

/// Why a command other than a send failed. REST's problem details carry the same words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The `type` is none of ours.
    UnknownType,
    /// A field is missing or wrong.
    Invalid,
    /// The first frame was not `hello`.
    HelloExpected,
    /// A second `hello`.
    HelloRepeated,
    /// No token, or one that is not valid.
    Unauthorized,
    /// The token is good, but not for this.
    Forbidden,
    /// The rate-limit policy said no; come back after `retry_after_ms`.
    RateLimited,
    /// A policy said no.
    Refused,
    /// A policy failed, and its declared failure mode is to refuse.
    PolicyUnavailable,
    /// Something that the command needs is away for a while, or its outcome is unknown.
    Unavailable,
    /// What the stream needs is away for a while; 4003 follows.
    TryLater,
    /// An acknowledgement above what was sent; nothing changed.
    AckAboveSent,
    /// Too many connections of this user or address.
    TooManyConnections,
    /// There is no such message, group, user or path.
    NotFound,
    /// The user is not a member of the group.
    NotMember,
    /// The path exists, the method does not.
    MethodNotAllowed,
    /// The id already stands for something else.
    Conflict,
    /// Over a size limit.
    TooLarge,
    /// Our bug; the reason carries an id that the log has too.
    Internal,
    /// A code that this version does not know (clients only).
    #[serde(other)]
    Unrecognised,
}

impl ErrorCode {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownType => "unknown_type",
            Self::Invalid => "invalid",
            Self::HelloExpected => "hello_expected",
            Self::HelloRepeated => "hello_repeated",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::RateLimited => "rate_limited",
            Self::Refused => "refused",
            Self::PolicyUnavailable => "policy_unavailable",
            Self::Unavailable => "unavailable",
            Self::TryLater => "try_later",
            Self::AckAboveSent => "ack_above_sent",
            Self::TooManyConnections => "too_many_connections",
            Self::NotFound => "not_found",
            Self::NotMember => "not_member",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::Conflict => "conflict",
            Self::TooLarge => "too_large",
            Self::Internal => "internal",
            Self::Unrecognised => "unrecognised",
        }
    }

    /// Whether the same command may succeed later.
    #[must_use]
    pub fn retryable(self) -> bool {
        matches!(
            self,
            Self::RateLimited
                | Self::PolicyUnavailable
                | Self::Unavailable
                | Self::TryLater
                | Self::TooManyConnections
                | Self::Internal
        )
    }

    /// The HTTP status with which REST tells the same.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::UnknownType | Self::Invalid | Self::HelloExpected | Self::HelloRepeated | Self::AckAboveSent => 400,
            Self::Unauthorized => 401,
            Self::Forbidden | Self::Refused | Self::NotMember => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::Conflict => 409,
            Self::TooLarge => 413,
            Self::RateLimited | Self::TooManyConnections => 429,
            Self::PolicyUnavailable | Self::Unavailable | Self::TryLater => 503,
            Self::Internal | Self::Unrecognised => 500,
        }
    }
}

impl From<RejectCode> for ErrorCode {
    fn from(code: RejectCode) -> Self {
        match code {
            RejectCode::RateLimited => Self::RateLimited,
            RejectCode::Refused => Self::Refused,
            RejectCode::PolicyUnavailable => Self::PolicyUnavailable,
            RejectCode::Unavailable => Self::Unavailable,
            RejectCode::Conflict => Self::Conflict,
            RejectCode::NotMember => Self::NotMember,
            RejectCode::TooLarge => Self::TooLarge,
            RejectCode::Invalid => Self::Invalid,
            RejectCode::UnknownUser => Self::NotFound,
            RejectCode::Unrecognised => Self::Unrecognised,
        }
    }
}
