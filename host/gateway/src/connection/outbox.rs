//! The write side: all that is queued is fed, then flushed once; a client that takes too long is slow.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use heddle_protocol::CloseCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error as WsError, Message, Utf8Bytes};

use super::End;
use crate::core::Core;
use crate::upgrade::Socket;

/// How long a client has to take its close frame and answer it.
const CLOSE_WAIT: Duration = Duration::from_secs(2);
/// Bytes read and forgotten after a close, so that the close frame is not lost to a reset.
const LINGER_BYTES_MAX: usize = 1 << 20;

pub(super) struct Outbox {
    socket: Socket,
    core: Arc<Core>,
}

impl Outbox {
    pub(super) fn new(socket: Socket, core: Arc<Core>) -> Self {
        Self { socket, core }
    }

    /// The next frame of the client. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Result<Message, WsError>> {
        self.socket.next().await
    }

    /// Writes all of them.
    pub(super) async fn send_all(&mut self, frames: Vec<Utf8Bytes>) -> Result<(), End> {
        if frames.is_empty() {
            // An answer to a ping of the client's may wait inside.
            return Ok(());
        }
        let figures = &self.core.figures;
        figures.frames_out.increment(frames.len() as u64);
        figures.bytes_out.increment(frames.iter().map(|frame| frame.len() as u64).sum());
        figures.flushes.increment(1);
        let socket = &mut self.socket;
        let write = async {
            for frame in frames {
                socket.feed(Message::Text(frame)).await?;
            }
            socket.flush().await
        };
        timed(&self.core, write).await
    }

    pub(super) async fn ping(&mut self) -> Result<(), End> {
        timed(&self.core, self.socket.send(Message::Ping(Bytes::new()))).await
    }

    /// Says why, waits a little for the answer, and goes.
    pub(super) async fn close(mut self, code: CloseCode, reason: String) {
        let frame = CloseFrame { code: code.number().into(), reason: reason.into() };
        let farewell = async {
            if self.socket.send(Message::Close(Some(frame))).await.is_err() {
                return;
            }
            while let Some(Ok(_)) = self.socket.next().await {}
            let tcp = self.socket.get_mut();
            if tcp.shutdown().await.is_err() {
                return;
            }
            let (mut scrap, mut read) = ([0; 1024], 0);
            while let Ok(bytes @ 1..) = tcp.read(&mut scrap).await {
                read += bytes;
                if read > LINGER_BYTES_MAX {
                    return;
                }
            }
        };
        if tokio::time::timeout(CLOSE_WAIT, farewell).await.is_err() {
            tracing::debug!(code = code.number(), "a client did not answer its close");
        }
    }
}

async fn timed(core: &Core, write: impl Future<Output = Result<(), WsError>>) -> Result<(), End> {
    match tokio::time::timeout(Duration::from_millis(core.config().write_timeout_ms), write).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(WsError::WriteBufferFull(_))) | Err(_) => Err(End::with(CloseCode::Slow)),
        Ok(Err(_)) => Err(End::Gone),
    }
}
