//! What handlers take out of a request; every refusal is a problem.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use heddle_model::{Conversation, UserId};
use heddle_policy::Command;
use heddle_protocol::ErrorCode;
use heddle_protocol::limits::FRAME_BYTES_MAX;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::http::request::Parts;
use serde::de::DeserializeOwned;

use super::Refused;
use crate::auth::{AuthError, bearer};
use crate::core::{Asker, Core};
use crate::listener::ClientIp;

/// How much of a body that is too large is read and let go, or twice what is allowed if that is more, and for how long.
const LET_GO_BYTES_MAX: usize = 8 << 20;
const LET_GO_WITHIN: Duration = Duration::from_secs(10);

/// Who calls, as their token says.
pub(crate) struct Caller {
    pub(crate) user: UserId,
    pub(crate) ip: IpAddr,
}

impl Caller {
    pub(crate) fn asker(&self) -> Asker<'_> {
        Asker { user: &self.user, ip: self.ip, connection: None }
    }

    /// Asks the rate limits.
    pub(crate) async fn may(
        &self,
        core: &Core,
        command: Command,
        size: usize,
        about: Option<&Conversation>,
    ) -> Result<(), Refused> {
        let about = about.map(|conversation| (conversation, 0));
        core.ask_rate(&core.deps.policies.current(), self.asker(), command, size, about).await?;
        Ok(())
    }
}

impl FromRequestParts<Arc<Core>> for Caller {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, core: &Arc<Core>) -> Result<Self, Refused> {
        let verified = match bearer(&parts.headers) {
            Some(token) => core.auth().verify(token).await,
            None => Err(AuthError::Missing),
        };
        let identity = verified.map_err(|error| {
            core.figures.auth_failed(error.word());
            Refused::new(ErrorCode::Unauthorized, error.to_string())
        })?;
        let ip = parts.extensions.get::<ClientIp>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |ip| ip.0);
        Ok(Self { user: identity.user, ip })
    }
}

/// Parts of the path.
pub(crate) struct PathOf<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for PathOf<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(value)) => Ok(Self(value)),
            Err(wrong) => Err(Refused::new(ErrorCode::Invalid, wrong.body_text())),
        }
    }
}

/// The query.
pub(crate) struct QueryOf<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for QueryOf<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(value)) => Ok(Self(value)),
            Err(wrong) => Err(Refused::new(ErrorCode::Invalid, wrong.body_text())),
        }
    }
}

/// A body of at most a frame's size.
pub(crate) struct BodyOf(pub(crate) Bytes);

impl<S: Send + Sync> FromRequest<S> for BodyOf {
    type Rejection = Refused;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refused> {
        body_of(request, FRAME_BYTES_MAX).await.map(Self)
    }
}

/// The whole body, if it has at most `bytes_max`.
pub(crate) async fn body_of(request: Request, bytes_max: usize) -> Result<Bytes, Refused> {
    let mut body = request.into_body();
    if body.size_hint().lower() <= bytes_max as u64 {
        match Limited::new(&mut body, bytes_max).collect().await {
            Ok(whole) => return Ok(whole.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => {}
            Err(error) => return Err(Refused::new(ErrorCode::Invalid, format!("the body did not arrive: {error}"))),
        }
    }
    let_go(body, bytes_max).await;
    Err(Refused::new(ErrorCode::TooLarge, format!("the body has more than {bytes_max} bytes")))
}

/// Reads the rest of a body that is too large, as far as that may reach: whoever still writes would see a connection that breaks instead of
/// the answer.
async fn let_go(body: Body, bytes_max: usize) {
    let mut rest = Limited::new(body, bytes_max.saturating_mul(2).max(LET_GO_BYTES_MAX));
    let read = async { while let Some(Ok(_)) = rest.frame().await {} };
    // Late or not, the answer is the same.
    let _ = tokio::time::timeout(LET_GO_WITHIN, read).await;
}

impl BodyOf {
    /// The body as JSON of that form.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, Refused> {
        serde_json::from_slice(&self.0)
            .map_err(|error| Refused::new(ErrorCode::Invalid, format!("the body does not fit: {error}")))
    }

    pub(crate) fn text(&self) -> Result<&str, Refused> {
        std::str::from_utf8(&self.0).map_err(|_| Refused::new(ErrorCode::Invalid, "the body is not UTF-8"))
    }
}

/// Nothing to say.
pub(crate) fn done() -> Response {
    hyper::StatusCode::NO_CONTENT.into_response()
}
