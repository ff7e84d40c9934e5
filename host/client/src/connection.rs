//! The wire without any magic.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use heddle_protocol::limits::FRAME_BYTES_MAX;
use heddle_protocol::{CloseCode, Problem, SUBPROTOCOL, WS_PATH};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::{Message, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as SocketError, http};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::ClientError;
use crate::address::{Address, Wire};

/// Seconds that the network and the upgrade may take together.
const CONNECT_SECONDS_MAX: u64 = 10;

/// One WebSocket, authenticated by header: sends text, hands over what comes. Keeps no position, acknowledges nothing,
/// and does not come back. For tests, load and scripts.
#[derive(Debug)]
pub struct RawConnection {
    address: String,
    socket: WebSocketStream<Wire>,
}

/// What a [`RawConnection`] received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// The text of one frame.
    Text(String),
    /// The end.
    Closed(Closed),
}

/// How a connection ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Closed {
    /// The close frame's number; `None` if the connection just broke.
    pub number: Option<u16>,
    /// The close frame's reason.
    pub reason: String,
}

impl Closed {
    /// The code, if it is one of Heddle's.
    #[must_use]
    pub fn code(&self) -> Option<CloseCode> {
        self.number.and_then(CloseCode::from_number)
    }

    /// Whether to come back: always, unless a code says not to.
    #[must_use]
    pub fn reconnect(&self) -> bool {
        self.code().is_none_or(CloseCode::reconnect)
    }
}

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.number {
            Some(number) => write!(f, "closed with {number} ({})", self.reason),
            None if self.reason.is_empty() => f.write_str("the connection broke"),
            None => write!(f, "the connection ended: {}", self.reason),
        }
    }
}

impl RawConnection {
    /// Connects; the token, if there is one, goes into the `Authorization` header.
    ///
    /// # Errors
    /// Network, or an HTTP answer that is no upgrade.
    pub async fn open(address: &Address, token: Option<&str>) -> Result<Self, ClientError> {
        let limit = Duration::from_secs(CONNECT_SECONDS_MAX);
        let late = |_| Err(ClientError::Timeout { address: address.to_string(), seconds: CONNECT_SECONDS_MAX });
        tokio::time::timeout(limit, Self::connect(address, token)).await.unwrap_or_else(late)
    }

    async fn connect(server: &Address, token: Option<&str>) -> Result<Self, ClientError> {
        let address = server.authority();
        let failed = |source| ClientError::Connect { address: address.to_owned(), source };
        let broken = |source| ClientError::Socket { address: address.to_owned(), source: Box::new(source) };
        let mut request = format!("ws://{address}{WS_PATH}").into_client_request().map_err(broken)?;
        let headers = request.headers_mut();
        headers.insert(http::header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
        if let Some(token) = token {
            let bearer = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| ClientError::Token)?;
            headers.insert(http::header::AUTHORIZATION, bearer);
        }
        let stream = server.connect().await.map_err(failed)?;
        let config = WebSocketConfig::default()
            .read_buffer_size(4 * 1024)
            .write_buffer_size(0)
            .max_write_buffer_size(4 * FRAME_BYTES_MAX)
            .max_message_size(Some(2 * FRAME_BYTES_MAX))
            .max_frame_size(Some(2 * FRAME_BYTES_MAX));
        match client_async_with_config(request, stream, Some(config)).await {
            Ok((socket, _)) => Ok(Self { address: address.to_owned(), socket }),
            Err(SocketError::Http(response)) => Err(refused(address, &response)),
            Err(source) => Err(broken(source)),
        }
    }

    /// Sends one text frame.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn send(&mut self, text: impl Into<String>) -> Result<(), ClientError> {
        self.send_message(Message::text(text.into())).await
    }

    /// Sends any WebSocket message: for tests of what a server does with the wrong ones.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn send_message(&mut self, message: Message) -> Result<(), ClientError> {
        self.socket
            .send(message)
            .await
            .map_err(|source| ClientError::Socket { address: self.address.clone(), source: Box::new(source) })
    }

    /// Waits for the next text frame or the end; answers pings by itself. Cancelling it loses nothing.
    pub async fn receive(&mut self) -> Received {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => return Received::Text(text.as_str().to_owned()),
                Some(Ok(Message::Close(frame))) => {
                    // The peer waits for the answer, which the next poll would send.
                    let _ = self.socket.flush().await;
                    let closed = frame.map_or_else(Closed::default, |frame| Closed {
                        number: Some(frame.code.into()),
                        reason: frame.reason.as_str().to_owned(),
                    });
                    return Received::Closed(closed);
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => {
                    tracing::debug!(%error, address = %self.address, "the connection broke");
                    return Received::Closed(Closed::default());
                }
                None => return Received::Closed(Closed::default()),
            }
        }
    }

    /// Says goodbye.
    pub async fn close(mut self) {
        self.goodbye().await;
    }

    /// Says goodbye, and leaves what is still under way to be received, up to the end.
    pub async fn goodbye(&mut self) {
        let _ = self.socket.close(None).await;
    }
}

/// What the server said instead of upgrading.
fn refused(address: &str, response: &http::Response<Option<Vec<u8>>>) -> ClientError {
    let body = response.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
    let detail = serde_json::from_str::<Problem>(&body)
        .map_or_else(|_| body.chars().take(200).collect(), |problem| problem.detail);
    let header = response.headers().get(http::header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after_ms = header.and_then(|seconds| seconds.parse::<u64>().ok()).map(|seconds| seconds * 1_000);
    ClientError::Refused { address: address.to_owned(), status: response.status().as_u16(), detail, retry_after_ms }
}
