//! One connection: one task, one loop, one closed enum of what can happen.

mod commands;
mod hello;
mod outbox;
mod typing;
mod unsettled;

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use heddle_delivery::{Outgoing, SendOutcome, Session, SessionEnd};
use heddle_model::{ConnectionId, Conversation, DeviceId, Millis, Record, UserId};
use heddle_presence::{Mark, Report, ReportKind};
use heddle_protocol::{CaughtUp, CloseCode, GroupNotice, ParseError, ServerFrame, TypingIndicator};
use tokio_tungstenite::tungstenite::{Error as WsError, Message, Utf8Bytes};

use self::outbox::Outbox;
use self::typing::Typing;
use self::unsettled::Unsettled;
use crate::core::Core;
use crate::encode;
use crate::limits::{AddressSlot, FrameBudget, UserSlot};
use crate::upgrade::{Socket, SocketPermit, Visitor};

/// Frames that are answered before what they made is written.
const FRAMES_AT_ONCE: usize = 16;
/// Activity is reported at most so often; see `PresenceConfig::pause_ms`.
const ACTIVE_REPORT: Duration = Duration::from_secs(5);

/// Why a connection ends.
#[derive(Debug)]
pub(crate) enum End {
    /// We close it, and say why.
    Close(CloseCode, String),
    /// The client went, or its socket broke.
    Gone,
}

impl End {
    pub(crate) fn with(code: CloseCode) -> Self {
        Self::Close(code, code.reason().to_owned())
    }
}

/// What can happen to a connection.
enum Happened {
    Frame(Option<Result<Message, WsError>>),
    Stream(Result<Vec<Outgoing>, SessionEnd>),
    Settled(Settled),
    Time,
    Drain,
}

/// A send that has an outcome.
struct Settled {
    to: Conversation,
    outcome: SendOutcome,
    began: Duration,
}

type Appending = FuturesUnordered<Pin<Box<dyn Future<Output = Settled> + Send>>>;

/// What one connection keeps beside its socket and its session.
struct Connection {
    core: Arc<Core>,
    id: ConnectionId,
    user: UserId,
    device: DeviceId,
    ip: IpAddr,
    mark: Mark,
    /// When its token expires, milliseconds since 1970.
    until: Millis,
    typing: Typing,
    unsettled: Unsettled,
    budget: FrameBudget,
    /// Something came since the last ping.
    heard: bool,
    next_ping: Duration,
    reported: Option<Duration>,
    acked: u64,
    /// Its place in the queue of a drain.
    turn: Option<Duration>,
    _slots: (SocketPermit, AddressSlot, UserSlot),
}

/// Serves one socket from its `hello` to its end.
pub(crate) async fn run(core: Arc<Core>, socket: Socket, visitor: Visitor) {
    core.open.fetch_add(1, Ordering::Relaxed);
    core.figures.connections.increment(1.0);
    let mut outbox = Outbox::new(socket, Arc::clone(&core));
    let end = match Box::pin(hello::greet(&core, &mut outbox, visitor)).await {
        Ok((mut connection, mut session)) => {
            let end = connection.serve(&mut outbox, &mut session).await;
            // The session goes first: who closed slowly is not online meanwhile.
            Box::pin(session.close()).await;
            end
        }
        Err(end) => end,
    };
    core.figures.connections.decrement(1.0);
    core.open.fetch_sub(1, Ordering::Relaxed);
    match end {
        End::Close(code, reason) => {
            core.figures.closed(code.number());
            Box::pin(outbox.close(code, reason)).await;
        }
        End::Gone => core.figures.closed(1000),
    }
}

impl Connection {
    fn now(&self) -> Duration {
        self.core.deps.clock.monotonic()
    }

    async fn serve(&mut self, outbox: &mut Outbox, session: &mut Session) -> End {
        let core = Arc::clone(&self.core);
        let mut appending = Appending::new();
        let mut armed = self.next_wake();
        let sleep = tokio::time::sleep(armed.saturating_sub(self.now()));
        tokio::pin!(sleep);
        loop {
            let wake = self.next_wake();
            if wake != armed {
                armed = wake;
                let left = wake.saturating_sub(self.now());
                sleep.set(tokio::time::sleep(left));
            }
            let happened = tokio::select! {
                outgoing = session.next() => Happened::Stream(outgoing),
                Some(settled) = appending.next(), if !appending.is_empty() => Happened::Settled(settled),
                frame = outbox.next(), if appending.len() < core.config().appending_max => Happened::Frame(frame),
                () = &mut sleep => Happened::Time,
                () = core.draining.cancelled(), if self.turn.is_none() => Happened::Drain,
            };
            if matches!(happened, Happened::Time) {
                // Whatever was due is done below; the next wake is armed anew.
                armed = Duration::MAX;
            }
            let mut out = Vec::new();
            let went_on = Box::pin(self.step(happened, outbox, session, &mut appending, &mut out)).await;
            while let Some(Some(settled)) = appending.next().now_or_never() {
                self.settle(settled, &mut out);
            }
            // What was answered before the end is still said.
            let written = outbox.send_all(out).await;
            if let Err(end) = went_on.and(written) {
                return end;
            }
        }
    }

    async fn step(
        &mut self,
        happened: Happened,
        outbox: &mut Outbox,
        session: &mut Session,
        appending: &mut Appending,
        out: &mut Vec<Utf8Bytes>,
    ) -> Result<(), End> {
        match happened {
            Happened::Frame(first) => {
                let mut next = Some(first);
                for _ in 0..FRAMES_AT_ONCE {
                    let Some(frame) = next else { break };
                    self.frame(frame, session, appending, out).await?;
                    let room = appending.len() < self.core.config().appending_max;
                    next = if room { outbox.next().now_or_never() } else { None };
                }
                if let Some(frame) = next {
                    self.frame(frame, session, appending, out).await?;
                }
                Ok(())
            }
            Happened::Stream(Ok(outgoing)) => {
                for item in outgoing {
                    self.outgoing(item, out);
                }
                Ok(())
            }
            Happened::Stream(Err(end)) => Err(self.session_ended(end, out)),
            Happened::Settled(settled) => {
                self.settle(settled, out);
                Ok(())
            }
            Happened::Drain => {
                self.take_turn();
                Ok(())
            }
            Happened::Time => self.tick(outbox, out).await,
        }
    }

    /// One frame of the client.
    async fn frame(
        &mut self,
        frame: Option<Result<Message, WsError>>,
        session: &mut Session,
        appending: &mut Appending,
        out: &mut Vec<Utf8Bytes>,
    ) -> Result<(), End> {
        self.heard = true;
        let message = match frame {
            None => return Err(End::Gone),
            Some(Err(error)) => return Err(broken(&error)),
            Some(Ok(message)) => message,
        };
        self.core.figures.frames_in.increment(1);
        self.core.figures.bytes_in.increment(message.len() as u64);
        match message {
            Message::Text(text) => match heddle_protocol::parse(&text) {
                Ok(command) => {
                    let moves_on =
                        matches!(&command.frame, heddle_protocol::ClientFrame::Ack(ack) if ack.offset > self.acked);
                    if !moves_on {
                        self.spend()?;
                    }
                    self.command(command, text.len(), session, appending, out).await
                }
                Err(error) => {
                    self.spend()?;
                    out.push(encode::text(&answer(&error)?));
                    Ok(())
                }
            },
            Message::Binary(_) => {
                let reason = CloseCode::Malformed.reason_with("a binary frame, and frames are JSON text");
                Err(End::Close(CloseCode::Malformed, reason))
            }
            Message::Close(_) => Err(End::Gone),
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => self.spend(),
        }
    }

    fn spend(&mut self) -> Result<(), End> {
        let (per_second, burst) = (self.core.config().frames_per_second_max, self.core.config().frames_burst_max);
        if self.budget.take(self.now(), per_second, burst) {
            return Ok(());
        }
        let reason = CloseCode::TooManyFrames.reason_with(&format!("gateway.frames_per_second_max is {per_second}"));
        Err(End::Close(CloseCode::TooManyFrames, reason))
    }

    /// What delivery has for this client.
    fn outgoing(&mut self, item: Outgoing, out: &mut Vec<Utf8Bytes>) {
        let frame = match item {
            Outgoing::Event { event, flags } => {
                let message = if let Record::Receipt(_) = event.record { None } else { event.incoming(&self.user) };
                if let Some(message) = message {
                    let group = match &message.to {
                        Conversation::Group(group) => Some(group),
                        Conversation::Direct(_) => None,
                    };
                    if self.typing.stop(&message.sender, group) {
                        out.push(indicator(&message.sender, group.map(ToString::to_string), false));
                    }
                }
                if let Some(own) = event.record.message().filter(|message| message.sender == self.user) {
                    // It came through after all, and the client knows it by this. (DELIVERY 7)
                    self.unsettled.settled(&own.addressed, &own.client_id);
                }
                out.push(encode::event(&event, flags));
                return;
            }
            Outgoing::CaughtUp(upto) => ServerFrame::CaughtUp(CaughtUp { offset: upto.0 }),
            Outgoing::GroupNotice { group, head } => {
                ServerFrame::GroupNotice(GroupNotice { group: group.to_string(), head: head.0 })
            }
            Outgoing::Typing { from, group, started } => {
                let changed = if started {
                    let until = self.now() + Duration::from_millis(self.core.config().typing_ms);
                    let (new, ended) = self.typing.start(&from, group.as_ref(), until, self.core.config().typing_max);
                    out.extend(ended.map(|(from, group)| indicator(&from, group.map(|id| id.to_string()), false)));
                    new
                } else {
                    self.typing.stop(&from, group.as_ref())
                };
                if changed {
                    out.push(indicator(&from, group.map(|id| id.to_string()), started));
                }
                return;
            }
            Outgoing::Presence(seen) => ServerFrame::PresenceUpdate(encode::wire_presence(&seen)),
        };
        out.push(encode::text(&frame));
    }

    fn session_ended(&self, end: SessionEnd, out: &mut Vec<Utf8Bytes>) -> End {
        match end {
            SessionEnd::Slow => End::with(CloseCode::Slow),
            SessionEnd::Replaced => End::with(CloseCode::Replaced),
            SessionEnd::Revoked => End::with(CloseCode::Revoked),
            SessionEnd::TryLater(reason) => {
                out.push(hello::try_later(&reason));
                End::with(CloseCode::TryLater)
            }
            SessionEnd::ShuttingDown => self.shutting_down(),
        }
    }

    /// The earliest moment at which something is due.
    fn next_wake(&self) -> Duration {
        let (wall, steady) = (self.core.deps.clock.now(), self.now());
        // Whole seconds, so that the timer is not set anew for each step of the wall clock.
        let expiry =
            Duration::from_secs((steady + Duration::from_millis(self.until.saturating_sub(wall))).as_secs() + 1);
        let mut wake = self.next_ping.min(expiry);
        wake = self.typing.next_end().map_or(wake, |end| wake.min(end));
        self.turn.map_or(wake, |turn| wake.min(turn))
    }

    /// Does what is due.
    async fn tick(&mut self, outbox: &mut Outbox, out: &mut Vec<Utf8Bytes>) -> Result<(), End> {
        let now = self.now();
        if self.turn.is_some_and(|turn| turn <= now) {
            return Err(self.shutting_down());
        }
        if self.until <= self.core.deps.clock.now() {
            return Err(End::with(CloseCode::TokenExpired));
        }
        while let Some((from, group)) = self.typing.ended(now) {
            out.push(indicator(&from, group.map(|id| id.to_string()), false));
        }
        if self.next_ping <= now {
            if !self.heard {
                return Err(End::with(CloseCode::NoAnswer));
            }
            self.heard = false;
            self.next_ping = now + Duration::from_millis(self.core.config().heartbeat_ms);
            self.report(ReportKind::Alive);
            outbox.ping().await?;
        }
        Ok(())
    }

    fn report(&self, kind: ReportKind) {
        let report = Report { socket: self.socket(), mark: self.mark, kind };
        self.core.deps.delivery.presence().report(&self.user, &report);
    }

    fn socket(&self) -> heddle_presence::Socket {
        heddle_presence::Socket { node: self.core.deps.node.clone(), connection: self.id }
    }

    /// A frame that counts as activity came.
    fn active(&mut self) {
        let now = self.now();
        if self.reported.is_none_or(|last| now >= last + ACTIVE_REPORT) {
            self.reported = Some(now);
            self.report(ReportKind::Active);
        }
    }

    /// The node drains: this connection closes when its turn comes.
    fn take_turn(&mut self) {
        let place = self.core.drain_turns.fetch_add(1, Ordering::Relaxed);
        let total = self.core.drain_total.load(Ordering::Relaxed).max(1);
        let pace_ms = self.core.config().drain_pace_ms.saturating_mul(place.min(total)) / total;
        self.turn = Some(self.now() + Duration::from_millis(pace_ms));
    }

    fn shutting_down(&self) -> End {
        let delay = crate::drain::reconnect_delay(self.id, self.device.as_str(), self.core.config().drain_reconnect_ms);
        End::Close(CloseCode::ShuttingDown, CloseCode::ShuttingDown.reason_with_delay(delay))
    }
}

/// What answers a frame that could not be read; without an answer, the close.
pub(crate) fn answer(error: &ParseError) -> Result<ServerFrame, End> {
    error.to_frame().ok_or_else(|| {
        let detail = error.to_string();
        let detail = detail.strip_prefix("malformed frame: ").unwrap_or(&detail).to_owned();
        End::Close(CloseCode::Malformed, CloseCode::Malformed.reason_with(&detail))
    })
}

/// What a socket's error means for the connection.
pub(crate) fn broken(error: &WsError) -> End {
    match error {
        WsError::Utf8(_) | WsError::Capacity(_) | WsError::Protocol(_) => {
            use tokio_tungstenite::tungstenite::error::ProtocolError;
            if matches!(error, WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake)) {
                return End::Gone;
            }
            End::Close(CloseCode::Malformed, CloseCode::Malformed.reason_with(&error.to_string()))
        }
        _ => End::Gone,
    }
}

fn indicator(from: &UserId, group: Option<String>, typing: bool) -> Utf8Bytes {
    encode::text(&ServerFrame::TypingIndicator(TypingIndicator { from: from.to_string(), group, typing }))
}
