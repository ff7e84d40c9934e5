//! A script: frames to send, frames to wait for, pauses. Prints what the server says.

use std::collections::VecDeque;
use std::io::{BufRead as _, Write};
use std::path::Path;
use std::time::Duration;

use heddle_client::{Address, ClientError, Closed, RawConnection, Received};
use heddle_protocol::{ClientFrame, Hello};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::failure::Failure;

/// Steps that are read ahead.
const STEPS_AHEAD_MAX: usize = 16;
/// Frames that may wait for a `wait`; the oldest is forgotten first.
const FRAMES_MAX: usize = 10_000;
/// How long the server may take to answer the goodbye.
const GOODBYE: Duration = Duration::from_secs(1);

/// Where, as whom, how long.
#[derive(Debug)]
pub struct Terms {
    /// Where the server is.
    pub server: Address,
    /// The token for the header.
    pub token: String,
    /// The device's name, for the `hello` that is sent by itself.
    pub device: String,
    /// How long each `wait` may take.
    pub timeout: Duration,
}

/// One line of a script, with its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    line: usize,
    what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    /// As it is written, and whether it is a `hello`.
    Send {
        text: String,
        hello: bool,
    },
    Wait(String),
    Pause(Duration),
}

/// Steps, or what is wrong with the line that should have been one.
pub type Steps = mpsc::Receiver<Result<Step, Failure>>;

/// The steps of a file, all checked before the first is taken; or of standard input, as they come.
///
/// # Errors
/// If the file cannot be read, or a line is no step.
pub fn steps(file: &Path) -> Result<Steps, Failure> {
    if file == Path::new("-") {
        let (out, steps) = mpsc::channel(STEPS_AHEAD_MAX);
        std::thread::spawn(move || {
            for (at, line) in std::io::stdin().lock().lines().enumerate() {
                let line = line.map_err(|error| Failure::new(format!("standard input cannot be read: {error}")));
                let step = line.and_then(|line| step(at + 1, &line));
                if step.transpose().is_some_and(|step| out.blocking_send(step).is_err()) {
                    return;
                }
            }
        });
        return Ok(steps);
    }
    let text = std::fs::read_to_string(file).map_err(|error| {
        Failure::missing(format!("cannot read the script {}: {error}; `-` reads standard input", file.display()))
    })?;
    let all = text.lines().enumerate().map(|(at, line)| step(at + 1, line)).collect::<Result<Vec<_>, _>>()?;
    Ok(ready(all.into_iter().flatten().map(Ok).collect()))
}

/// A channel that holds them all.
fn ready(all: Vec<Result<Step, Failure>>) -> Steps {
    let (out, steps) = mpsc::channel(all.len().max(1));
    for step in all {
        let _ = out.try_send(step);
    }
    steps
}

/// Reads one line; an empty one and a remark are no step.
fn step(line: usize, text: &str) -> Result<Option<Step>, Failure> {
    let text = text.trim();
    let wrong = |why: String| Failure::usage(format!("line {line} of the script: {why}"));
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let what = match (word, rest.trim()) {
        ("", _) => return Ok(None),
        (word, _) if word.starts_with('#') => return Ok(None),
        (word, _) if word.starts_with('{') => {
            let frame: Value = serde_json::from_str(text)
                .map_err(|error| wrong(format!("this is not one JSON object ({error}): {text}")))?;
            What::Send { text: text.to_owned(), hello: frame.get("type").is_some_and(|ty| ty == "hello") }
        }
        ("wait", ty) if !ty.is_empty() && !ty.contains(char::is_whitespace) => What::Wait(ty.to_owned()),
        ("pause", ms) if ms.parse::<u32>().is_ok() => What::Pause(Duration::from_millis(ms.parse().unwrap_or(0))),
        _ => return Err(wrong(format!("{text:?} is no step: write a JSON frame, `wait TYPE` or `pause MS`"))),
    };
    Ok(Some(Step { line, what }))
}

/// Connects, takes every step, and says goodbye.
///
/// # Errors
/// No connection, a `wait` in vain, the connection's end before the script's, or a line that is no step.
pub async fn run<W: Write + Send>(terms: &Terms, mut steps: Steps, out: W) -> Result<(), Failure> {
    let connection = RawConnection::open(&terms.server, Some(&terms.token)).await.map_err(|error| refused(&error))?;
    let mut run = Run { terms, connection, out, seen: VecDeque::new(), closed: None };
    let mut greeted = false;
    while let Some(step) = run.next(&mut steps).await? {
        let own_hello = matches!(step.what, What::Send { hello: true, .. });
        if !greeted && !own_hello && !matches!(step.what, What::Pause(_)) {
            run.greet().await?;
        }
        greeted |= !matches!(step.what, What::Pause(_));
        run.take(step).await?;
    }
    run.goodbye().await
}

struct Run<'a, W> {
    terms: &'a Terms,
    connection: RawConnection,
    out: W,
    /// Types of frames that no `wait` has taken.
    seen: VecDeque<String>,
    closed: Option<Closed>,
}

impl<W: Write + Send> Run<'_, W> {
    /// The next step; what comes meanwhile is printed.
    async fn next(&mut self, steps: &mut Steps) -> Result<Option<Step>, Failure> {
        loop {
            tokio::select! {
                biased;
                step = steps.recv() => return step.transpose(),
                received = self.connection.receive(), if self.closed.is_none() => self.note(received)?,
            }
        }
    }

    async fn greet(&mut self) -> Result<(), Failure> {
        let hello = Hello { token: None, device: self.terms.device.clone(), resume: None };
        self.send(0, ClientFrame::Hello(hello).to_text()).await?;
        self.until("hello_ok").await.map_err(|why| Failure::new(format!("hello: {why}")))?;
        // A `wait hello_ok` finds it all the same.
        self.seen.push_front("hello_ok".to_owned());
        Ok(())
    }

    async fn take(&mut self, step: Step) -> Result<(), Failure> {
        let line = step.line;
        match step.what {
            What::Send { text, .. } => self.send(line, text).await,
            What::Wait(ty) => self
                .until(&ty)
                .await
                .map_err(|why| Failure::new(format!("line {line} of the script: wait {ty}: {why}"))),
            What::Pause(span) => {
                let _ = timeout(span, self.listen()).await.unwrap_or(Ok(()));
                Ok(())
            }
        }
    }

    async fn send(&mut self, line: usize, text: String) -> Result<(), Failure> {
        let gone = |why: String| Failure::new(format!("line {line} of the script cannot be sent: {why}"));
        match &self.closed {
            Some(closed) => Err(gone(closed.to_string())),
            None => self.connection.send(text).await.map_err(|error| gone(error.to_string())),
        }
    }

    /// Receives for ever, or until stdout breaks.
    async fn listen(&mut self) -> Result<(), Failure> {
        while self.closed.is_none() {
            let received = self.connection.receive().await;
            self.note(received)?;
        }
        std::future::pending().await
    }

    /// Until a frame of that type is there, or the reason why it will not come.
    async fn until(&mut self, ty: &str) -> Result<(), String> {
        let limit = self.terms.timeout;
        let found = async {
            loop {
                if let Some(at) = self.seen.iter().position(|seen| seen == ty) {
                    self.seen.remove(at);
                    return Ok(());
                }
                match &self.closed {
                    Some(_) if ty == "close" => return Ok(()),
                    Some(closed) => return Err(closed.to_string()),
                    None => {}
                }
                let received = self.connection.receive().await;
                self.note(received).map_err(|failure| failure.text)?;
            }
        };
        timeout(limit, found).await.unwrap_or_else(|_| Err(format!("nothing came within {} ms", limit.as_millis())))
    }

    /// Prints a frame and remembers its type.
    fn note(&mut self, received: Received) -> Result<(), Failure> {
        let text = match received {
            Received::Text(text) => text,
            Received::Closed(closed) => {
                self.closed = Some(closed);
                return Ok(());
            }
        };
        let frame: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        // One line each, whatever the server's taste.
        let line = if text.contains(['\n', '\r']) { frame.to_string() } else { text };
        writeln!(self.out, "{line}")
            .and_then(|()| self.out.flush())
            .map_err(|error| Failure::new(format!("standard output does not take the frames: {error}")))?;
        if let Some(ty) = frame.get("type").and_then(Value::as_str) {
            if self.seen.len() >= FRAMES_MAX {
                self.seen.pop_front();
            }
            self.seen.push_back(ty.to_owned());
        }
        Ok(())
    }

    /// Closes, and prints what was still under way.
    async fn goodbye(mut self) -> Result<(), Failure> {
        self.connection.goodbye().await;
        let rest = async {
            while self.closed.is_none() {
                let received = self.connection.receive().await;
                self.note(received)?;
            }
            Ok(())
        };
        timeout(GOODBYE, rest).await.unwrap_or(Ok(()))
    }
}

fn refused(error: &ClientError) -> Failure {
    match error {
        ClientError::Connect { source, .. } if source.kind() != std::io::ErrorKind::InvalidData => {
            Failure::missing(format!("{error}: start a server with `heddle dev`, or name one with --server"))
        }
        ClientError::Refused { status: 401, .. } => {
            Failure::usage(format!("{error}: name a token of this server with --token"))
        }
        _ => Failure::new(error.to_string()),
    }
}

#[cfg(test)]
#[path = "script_tests.rs"]
mod tests;
