//! A proxy before Redis that loses some of what is pushed on a channel.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// Loses every n-th push of one channel, whatever connection it goes to; all else passes.
pub(crate) struct Proxy {
    port: u16,
    dropped: Arc<AtomicU64>,
    task: AbortHandle,
}

impl Proxy {
    pub(crate) async fn before(server: u16, channel: &'static str, every: u64) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (seen, dropped) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let count = Arc::clone(&dropped);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else { continue };
                let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
                    (client.into_split(), server.into_split());
                tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
                let (seen, dropped) = (Arc::clone(&seen), Arc::clone(&count));
                tokio::spawn(async move {
                    let mut buffer = Vec::new();
                    loop {
                        while let Some(size) = frame(&buffer) {
                            let bytes: Vec<u8> = buffer.drain(..size).collect();
                            if is_message(&bytes, channel)
                                && (seen.fetch_add(1, Ordering::SeqCst) + 1).is_multiple_of(every)
                            {
                                dropped.fetch_add(1, Ordering::SeqCst);
                            } else {
                                to_client.write_all(&bytes).await?;
                            }
                        }
                        if from_server.read_buf(&mut buffer).await? == 0 {
                            return io::Result::Ok(());
                        }
                    }
                });
            }
        });
        Self { port, dropped, task: task.abort_handle() }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn is_message(frame: &[u8], channel: &str) -> bool {
    frame.starts_with(format!(">3\r\n$7\r\nmessage\r\n${}\r\n{channel}\r\n", channel.len()).as_bytes())
}

/// Bytes of the first frame, if it is all there. (RESP3.)
fn frame(bytes: &[u8]) -> Option<usize> {
    let line = bytes.windows(2).position(|pair| pair == b"\r\n")? + 2;
    let number = || std::str::from_utf8(&bytes[1..line - 2]).ok().and_then(|text| text.parse::<usize>().ok());
    let several = |count: usize| {
        let mut size = line;
        for _ in 0..count {
            size += frame(&bytes[size..])?;
        }
        Some(size)
    };
    match bytes[0] {
        b'$' | b'!' | b'=' => {
            number().map_or(Some(line), |size| (bytes.len() >= line + size + 2).then_some(line + size + 2))
        }
        b'*' | b'~' | b'>' => several(number().unwrap_or(0)),
        b'%' | b'|' => several(number().unwrap_or(0) * 2),
        _ => Some(line),
    }
}
