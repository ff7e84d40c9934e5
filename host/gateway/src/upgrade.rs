//! The upgrade: what is refused before it is refused in HTTP.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use heddle_protocol::{ErrorCode, Problem, SUBPROTOCOL};
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::sync::OwnedSemaphorePermit;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::auth::{AuthError, Identity, upgrade_token};
use crate::connection;
use crate::core::Core;
use crate::limits::{AddressSlot, Per, address_mark};
use crate::listener::exempt;
use crate::rest::problem;
use crate::stream::Stream;

/// A WebSocket, framed.
pub(crate) type Socket = WebSocketStream<Stream>;

/// A socket that was let through the door, before its `hello`.
pub(crate) struct Visitor {
    pub(crate) ip: IpAddr,
    /// None: the token comes in `hello`.
    pub(crate) identity: Option<Identity>,
    /// Of the monotonic clock: until when `hello` must be there.
    pub(crate) deadline: Duration,
    pub(crate) address: AddressSlot,
    pub(crate) anonymous: Option<OwnedSemaphorePermit>,
    pub(crate) permit: SocketPermit,
}

/// One of `sockets_max`, from the accept loop to the end of the socket, be it upgraded or not.
pub(crate) type SocketPermit = Arc<Option<OwnedSemaphorePermit>>;

/// Bytes that tungstenite keeps for reading, from the start.
const READ_BUFFER_BYTES: usize = 1 << 10;
/// Bytes after which queued frames are written without waiting for a flush.
const WRITE_BUFFER_BYTES: usize = 16 << 10;
/// The most that is ever queued inside tungstenite: one escaped frame beside what is waiting.
const WRITE_BUFFER_BYTES_MAX: usize = 1 << 20;
/// Above the limit of a frame, so that one just above it is read and told what is wrong.
const FRAME_BYTES_MAX: usize = heddle_protocol::limits::FRAME_BYTES_MAX + (8 << 10);

/// Answers 101 and starts the connection's task, or says why not.
pub(crate) async fn upgrade(
    core: Arc<Core>,
    mut request: Request<Incoming>,
    ip: IpAddr,
    deadline: Duration,
    permit: SocketPermit,
) -> Result<Response, Box<Response>> {
    let refuse = |code, detail: String| Box::new(problem(Problem::new(code, detail)));
    if core.draining.is_cancelled() {
        return Err(refuse(ErrorCode::TryLater, "this node is shutting down: connect again in a moment".to_owned()));
    }
    let key = handshake_key(&request).map_err(|detail| refuse(ErrorCode::Invalid, detail.to_owned()))?;
    let (token, echo) = upgrade_token(request.headers());
    let token = token.map(str::to_owned);
    let identity = identify(&core, token.as_deref()).await.map_err(|error| {
        core.figures.auth_failed(error.word());
        refuse(ErrorCode::Unauthorized, error.to_string())
    })?;
    let anonymous = match identity {
        Some(_) => None,
        None => Some(Arc::clone(&core.anonymous).try_acquire_owned().map_err(|_| {
            refuse(
                ErrorCode::TooManyConnections,
                "too many sockets wait for their hello: send the token before the upgrade".to_owned(),
            )
        })?),
    };
    let max = if exempt(&core, ip) { u32::MAX } else { core.config().connections_per_ip_max };
    let elsewhere = core.deps.delivery.presence().elsewhere_from(&address_mark(ip));
    let address = core.counts.enter(Per::Connection, ip, max.saturating_sub(elsewhere)).ok_or_else(|| {
        refuse(ErrorCode::TooManyConnections, format!("{ip} has {max} connections, close one of them"))
    })?;
    let visitor = Visitor { ip, identity, deadline, address, anonymous, permit };
    let upgrading = hyper::upgrade::on(&mut request);
    let tasks = core.tasks.clone();
    let within = tasks.clone();
    tasks.spawn(async move {
        match upgrading.await {
            Ok(upgraded) => {
                if let Some(socket) = framed(upgraded).await {
                    // A task of its own: this one's memory goes.
                    within.spawn(connection::run(core, socket, visitor));
                }
            }
            Err(error) => tracing::debug!(%error, "an upgrade was not finished"),
        }
    });
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    *response.body_mut() = Body::empty();
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, key);
    headers.remove(header::CONTENT_LENGTH);
    if echo {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    }
    Ok(response)
}

async fn identify(core: &Core, token: Option<&str>) -> Result<Option<Identity>, AuthError> {
    match token {
        Some(token) => core.auth().verify(token).await.map(Some),
        None if core.auth().first_frame() => Ok(None),
        None => Err(AuthError::Missing),
    }
}

fn handshake_key(request: &Request<Incoming>) -> Result<HeaderValue, &'static str> {
    let has = |name: header::HeaderName, word: &str| {
        let lines = request.headers().get_all(name).iter().filter_map(|line| line.to_str().ok());
        lines.flat_map(|line| line.split(',')).any(|part| part.trim().eq_ignore_ascii_case(word))
    };
    if request.method() != Method::GET || !has(header::UPGRADE, "websocket") || !has(header::CONNECTION, "upgrade") {
        return Err("this path is a WebSocket: GET it with Upgrade: websocket and Connection: Upgrade");
    }
    if !has(header::SEC_WEBSOCKET_VERSION, "13") {
        return Err("this path speaks WebSocket version 13: send Sec-WebSocket-Version: 13");
    }
    let key = request.headers().get(header::SEC_WEBSOCKET_KEY).ok_or("Sec-WebSocket-Key is missing")?;
    HeaderValue::from_str(&derive_accept_key(key.as_bytes())).map_err(|_| "Sec-WebSocket-Key is not one")
}

async fn framed(upgraded: Upgraded) -> Option<Socket> {
    // The socket itself, not the box that it travelled in: one indirection and some bytes less per connection.
    let parts = upgraded.downcast::<TokioIo<Stream>>().ok()?;
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_write_buffer_size(WRITE_BUFFER_BYTES_MAX)
        .max_message_size(Some(FRAME_BYTES_MAX))
        .max_frame_size(Some(FRAME_BYTES_MAX));
    let read = parts.read_buf.to_vec();
    Some(WebSocketStream::from_partially_read(parts.io.into_inner(), read, Role::Server, Some(config)).await)
}
