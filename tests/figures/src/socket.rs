//! One client, blocking, with as little of its own as possible: what is measured is the server.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;

use crate::machine::connect;

/// What a client reads of a frame.
#[derive(Debug, Deserialize)]
pub(crate) struct Frame {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) offset: Option<u64>,
    #[serde(default)]
    pub(crate) text: Option<String>,
    #[serde(default)]
    pub(crate) client_id: Option<String>,
}

impl Frame {
    /// Does it have a place in the user's stream, and so must be acknowledged?
    fn is_event(&self) -> bool {
        self.offset.is_some() && !matches!(self.kind.as_str(), "hello_ok" | "caught_up")
    }
}

/// A WebSocket after its `caught_up`.
pub(crate) struct Socket {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that were handled.
    done: usize,
    unacknowledged: u32,
    newest: u64,
}

/// Events after which a client acknowledges.
pub(crate) const ACK_EVERY: u32 = 50;
const PATIENCE: Duration = Duration::from_secs(20);
/// Masks what the client says; RFC 6455 wants it unpredictable for the sake of proxies, of which there is none.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

impl Socket {
    /// Connects, says `hello`, and reads until it has caught up.
    pub(crate) fn open(to: SocketAddr, token: &str, device: &str) -> anyhow::Result<Self> {
        let mut stream = connect(to)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let head = format!(
            "GET /v1/ws HTTP/1.1\r\nHost: {to}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        stream.write_all(head.as_bytes())?;
        let mut socket = Self { stream, buffer: Vec::with_capacity(1024), done: 0, unacknowledged: 0, newest: 0 };
        let end = loop {
            if let Some(end) = socket.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            ensure!(socket.fill()?, "the server says nothing");
        };
        let answer = String::from_utf8_lossy(&socket.buffer[..end]).into_owned();
        ensure!(answer.starts_with("HTTP/1.1 101"), "the upgrade was refused: {answer}");
        socket.done = end;
        socket.say(&format!(r#"{{"type":"hello","device":"{device}"}}"#))?;
        while socket.frame()?.context("the server went")?.kind != "caught_up" {}
        Ok(socket)
    }

    /// Sends one text frame.
    pub(crate) fn say(&mut self, text: &str) -> anyhow::Result<()> {
        self.send(0x81, text.as_bytes())
    }

    /// Sends a message.
    pub(crate) fn chat(&mut self, target: &str, client_id: &str, text: &str) -> anyhow::Result<()> {
        self.say(&format!(r#"{{"type":"chat_message","client_id":"{client_id}",{target},"text":"{text}"}}"#))
    }

    /// Another hand that writes on this socket. A frame goes out in one write, so that two hands do not mix theirs.
    pub(crate) fn writer(&self) -> anyhow::Result<Writer> {
        Ok(Writer { stream: self.stream.try_clone().context("cloning a socket")? })
    }

    fn send(&mut self, opcode: u8, payload: &[u8]) -> anyhow::Result<()> {
        write(&mut self.stream, opcode, payload)
    }

    /// The next frame; none if nothing came in the time that was set. Acknowledges now and then, and answers pings.
    pub(crate) fn frame(&mut self) -> anyhow::Result<Option<Frame>> {
        loop {
            let Some((opcode, from, to)) = self.whole() else {
                if !self.fill()? {
                    return Ok(None);
                }
                continue;
            };
            self.done = to;
            match opcode {
                1 => {
                    let frame: Frame = serde_json::from_slice(&self.buffer[from..to])?;
                    if frame.is_event() {
                        self.newest = frame.offset.unwrap_or_default();
                        self.unacknowledged += 1;
                        if self.unacknowledged >= ACK_EVERY {
                            self.acknowledge()?;
                        }
                    }
                    return Ok(Some(frame));
                }
                8 => bail!("the server closed: {}", String::from_utf8_lossy(&self.buffer[(from + 2).min(to)..to])),
                9 => self.send(0x8a, &[])?,
                _ => {}
            }
        }
    }

    /// Reads until a message with that text is there, the user's own copies included.
    pub(crate) fn message(&mut self, text: &str) -> anyhow::Result<()> {
        loop {
            let frame = self.frame()?.with_context(|| format!("message {text:?} did not come in time"))?;
            ensure!(frame.kind != "rejected" && frame.kind != "error", "the server refused: {frame:?}");
            if frame.kind == "new_message" && frame.text.as_deref() == Some(text) {
                return Ok(());
            }
        }
    }

    /// Takes so many events for come already: clients do not all acknowledge with the same one.
    pub(crate) fn count_from(&mut self, events: u32) {
        self.unacknowledged = events % ACK_EVERY;
    }

    /// Acknowledges all that came.
    pub(crate) fn acknowledge(&mut self) -> anyhow::Result<()> {
        if self.unacknowledged > 0 {
            self.unacknowledged = 0;
            self.say(&format!(r#"{{"type":"ack","offset":{}}}"#, self.newest))?;
        }
        Ok(())
    }

    /// Reads and handles what is there already.
    pub(crate) fn drain(&mut self) -> anyhow::Result<()> {
        self.stream.set_nonblocking(true)?;
        let drained = loop {
            match self.frame() {
                Ok(Some(_)) => {}
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        self.stream.set_nonblocking(false)?;
        drained
    }

    /// A whole frame in the buffer: opcode, start and end of its payload.
    fn whole(&self) -> Option<(u8, usize, usize)> {
        let rest = &self.buffer[self.done..];
        let (opcode, short) = (rest.first()? & 0x0f, *rest.get(1)? & 0x7f);
        let (head, length) = match short {
            126 => (4, usize::from(u16::from_be_bytes(rest.get(2..4)?.try_into().ok()?))),
            127 => (10, usize::try_from(u64::from_be_bytes(rest.get(2..10)?.try_into().ok()?)).ok()?),
            short => (2, usize::from(short)),
        };
        (rest.len() >= head + length).then_some((opcode, self.done + head, self.done + head + length))
    }

    /// Reads once; false if nothing came in time.
    fn fill(&mut self) -> anyhow::Result<bool> {
        self.buffer.drain(..self.done);
        self.done = 0;
        let mut chunk = [0; 4096];
        match self.stream.read(&mut chunk) {
            Ok(0) => bail!("the server closed the socket"),
            Ok(bytes) => {
                self.buffer.extend_from_slice(&chunk[..bytes]);
                Ok(true)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(false),
            Err(error) => Err(error).context("reading from the server"),
        }
    }
}

/// Only sends.
pub(crate) struct Writer {
    stream: TcpStream,
}

impl Writer {
    /// Sends a message.
    pub(crate) fn chat(&mut self, target: &str, client_id: &str, text: &str) -> anyhow::Result<()> {
        let frame = format!(r#"{{"type":"chat_message","client_id":"{client_id}",{target},"text":"{text}"}}"#);
        write(&mut self.stream, 0x81, frame.as_bytes())
    }
}

fn write(stream: &mut TcpStream, opcode: u8, payload: &[u8]) -> anyhow::Result<()> {
    let mut out = Vec::with_capacity(payload.len() + 8);
    out.push(opcode);
    match u8::try_from(payload.len()) {
        Ok(short @ 0..126) => out.push(0x80 | short),
        _ => {
            out.push(0x80 | 126);
            out.extend(u16::try_from(payload.len()).context("a long frame")?.to_be_bytes());
        }
    }
    out.extend(MASK);
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    stream.write_all(&out).context("writing to the server")
}
