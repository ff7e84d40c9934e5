//! Problem details (RFC 9457): how REST, and a refused upgrade, tell an error.

use serde::{Deserialize, Serialize};

use crate::codes::{ErrorCode, RejectCode};

/// The content type of a [`Problem`].
pub const PROBLEM_CONTENT_TYPE: &str = "application/problem+json";

/// One error over HTTP, after RFC 9457.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// `urn:heddle:problem:CODE`: compare it, do not fetch it.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words, the same each time.
    pub title: String,
    /// The HTTP status, again.
    pub status: u16,
    /// What was wrong this time, with the value and what to do.
    pub detail: String,
    /// The code, as frames carry it.
    pub code: String,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// How long to wait before, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

impl Problem {
    /// A problem with that code; the detail says what was wrong this time.
    #[must_use]
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self::made(code.as_str(), code.status(), code.retryable(), detail.into())
    }

    /// The problem that tells what a `rejected` frame would.
    #[must_use]
    pub fn rejected(code: RejectCode, detail: impl Into<String>) -> Self {
        Self::made(code.as_str(), code.status(), code.retryable(), detail.into())
    }

    fn made(code: &str, status: u16, retryable: bool, detail: String) -> Self {
        Self {
            kind: format!("urn:heddle:problem:{code}"),
            title: code.replace('_', " "),
            status,
            detail,
            code: code.to_owned(),
            retryable,
            retry_after_ms: None,
        }
    }

    /// With a time to wait, which makes it retryable.
    #[must_use]
    pub fn retry_after_ms(mut self, ms: u64) -> Self {
        self.retry_after_ms = Some(ms);
        self.retryable = true;
        self
    }

    /// With another HTTP status than the code's own.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// The JSON to send.
    #[must_use]
    pub fn to_text(&self) -> String {
        crate::encode::json_text(self)
    }
}
