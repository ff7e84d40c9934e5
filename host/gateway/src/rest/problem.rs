//! Every error as problem details (RFC 9457).

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use heddle_delivery::{GroupError, ReadError};
use heddle_model::IdError;
use heddle_policy::{Refusal, RefusalCode};
use heddle_protocol::{ErrorCode, PROBLEM_CONTENT_TYPE, Problem, Rejected};
use heddle_store::StoreError;
use hyper::header::{self, HeaderValue};
use hyper::{Method, StatusCode, Uri};

/// A problem as a response, with `Retry-After` and `WWW-Authenticate` where they belong.
pub(crate) fn problem(problem: Problem) -> Response {
    let mut response = Response::new(Body::from(problem.to_text()));
    *response.status_mut() = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_CONTENT_TYPE));
    if let Some(ms) = problem.retry_after_ms {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(ms.div_ceil(1_000).max(1)));
    }
    if problem.status == 401 {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// Why a call failed.
#[derive(Debug)]
pub(crate) struct Refused(pub(crate) Problem);

impl Refused {
    pub(crate) fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self(Problem::new(code, detail))
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        problem(self.0)
    }
}

impl From<IdError> for Refused {
    fn from(error: IdError) -> Self {
        Self::new(ErrorCode::Invalid, error.to_string())
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        tracing::warn!(%error, "a call failed");
        match error {
            StoreError::Unavailable { .. } => {
                Self::new(ErrorCode::Unavailable, "the store does not answer: try again in a moment")
            }
            StoreError::Broken { .. } => {
                Self::new(ErrorCode::Internal, "the store has a broken row; the log says which")
            }
        }
    }
}

impl From<GroupError> for Refused {
    fn from(error: GroupError) -> Self {
        let code = match &error {
            GroupError::NotFound(_) => ErrorCode::NotFound,
            GroupError::Forbidden { .. } => ErrorCode::Forbidden,
            GroupError::Refused { .. } => ErrorCode::Refused,
            GroupError::Conflict { .. } => ErrorCode::Conflict,
            GroupError::Invalid(_) => ErrorCode::Invalid,
            GroupError::Unavailable(_) => ErrorCode::Unavailable,
        };
        Self::new(code, error.to_string())
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal.code {
            RefusalCode::RateLimited => ErrorCode::RateLimited,
            RefusalCode::Refused => ErrorCode::Refused,
            RefusalCode::PolicyUnavailable => ErrorCode::PolicyUnavailable,
        };
        let mut problem = Problem::new(code, &*refusal.reason);
        problem.retryable = refusal.retryable;
        problem.retry_after_ms = refusal.retry_after_ms;
        Self(problem)
    }
}

impl From<Rejected> for Refused {
    fn from(rejected: Rejected) -> Self {
        let mut problem = Problem::rejected(rejected.code, rejected.reason);
        problem.retryable = rejected.retryable;
        problem.retry_after_ms = rejected.retry_after_ms;
        Self(problem)
    }
}

/// A failed read receipt or typing indicator, as code and reason.
pub(crate) fn read_error(failed: &ReadError) -> (ErrorCode, String) {
    let code = match failed {
        ReadError::NotFound(_) => ErrorCode::NotFound,
        ReadError::NotMember(_) => ErrorCode::NotMember,
        ReadError::Unavailable(_) => ErrorCode::Unavailable,
    };
    (code, failed.to_string())
}

pub(crate) async fn not_found(uri: Uri) -> Refused {
    Refused::new(ErrorCode::NotFound, format!("there is no {}", uri.path()))
}

pub(crate) async fn method_not_allowed(method: Method, uri: Uri) -> Refused {
    Refused::new(ErrorCode::MethodNotAllowed, format!("{} does not take {method}", uri.path()))
}
