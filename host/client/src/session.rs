//! One device's session: the loop that owns the connection, the position and the unsettled sends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use heddle_protocol::limits::INTEGER_MAX;
use heddle_protocol::{Ack, ClientFrame, CloseCode, Hello, HelloOk, ServerFrame, ServerFrameError};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, sleep, sleep_until, timeout};

use crate::client::{ClientConfig, Event, Order, Stopped};
use crate::connection::{Closed, RawConnection, Received};
use crate::outbox::{Outbox, Unsettled, is_repeated};
use crate::{Backoff, ClientError};

/// How long an acknowledgement waits for company.
const ACK_DELAY: Duration = Duration::from_millis(40);
/// Events after which it waits no longer.
const ACK_EVENTS_MAX: u32 = 100;
/// How long the answer to `hello` may take.
const HELLO_SECONDS_MAX: u64 = 10;

pub(crate) struct Session {
    config: ClientConfig,
    orders: mpsc::Receiver<Order>,
    events: mpsc::Sender<Event>,
    /// What the handle shows.
    shown: Arc<AtomicU64>,
    /// Everything up to here has been handed over, or is about to be.
    position: Option<u64>,
    outbox: Outbox,
    /// The largest logical clock seen or given.
    lamport: u64,
    reconnect: Backoff,
    resend: Backoff,
}

/// What belongs to one connection and dies with it.
struct Live {
    connection: RawConnection,
    user: String,
    /// Events since the last acknowledgement, and when that is due.
    unacked: u32,
    ack_at: Option<Instant>,
    /// When everything unsettled is sent again; until then new sends wait behind it, so that order is kept.
    resend_at: Option<Instant>,
    heard: bool,
}

/// Why one connection is over.
enum End {
    /// Nobody holds a handle, or nobody listens.
    Abandoned,
    /// The server closed it.
    Closed(Closed),
    /// It failed.
    Failed(ClientError),
}

impl Session {
    pub(crate) fn new(
        config: ClientConfig,
        orders: mpsc::Receiver<Order>,
        events: mpsc::Sender<Event>,
        shown: Arc<AtomicU64>,
        unsettled: Unsettled,
    ) -> Self {
        let position = config.resume;
        let outbox = Outbox::new(unsettled);
        let (reconnect, resend) = (Backoff::new(200, config.retry_ms_max), Backoff::new(100, 5_000));
        Self { config, orders, events, shown, position, outbox, lamport: 0, reconnect, resend }
    }

    pub(crate) async fn run(mut self) {
        loop {
            let (reason, at_least_ms, stop) = match self.connection().await {
                End::Abandoned => return,
                End::Closed(closed) => {
                    let stop = (!closed.reconnect()).then(|| closed.code()).flatten();
                    (closed.to_string(), CloseCode::delay_ms(&closed.reason), stop.map(Some))
                }
                End::Failed(error) => {
                    let at_least_ms = match &error {
                        ClientError::Refused { retry_after_ms, .. } => *retry_after_ms,
                        _ => None,
                    };
                    (error.to_string(), at_least_ms, (!error.retryable()).then_some(None))
                }
            };
            if let Some(code) = stop {
                let _ = self.events.send(Event::Stopped(Stopped { reason, code })).await;
                return;
            }
            let retry_in = self.reconnect.next(at_least_ms);
            if self.events.send(Event::Disconnected { reason, retry_in }).await.is_err() {
                return;
            }
            if !self.wait(retry_in).await {
                return;
            }
        }
    }

    /// Waits for the next try, taking sends meanwhile; false if nobody is there any more.
    async fn wait(&mut self, span: Duration) -> bool {
        let end = sleep(span);
        tokio::pin!(end);
        loop {
            tokio::select! {
                () = &mut end => return true,
                order = self.orders.recv() => match order {
                    None => return false,
                    Some(Order::Send(draft)) => self.keep(draft),
                    Some(Order::Say(_)) => {}
                },
            }
        }
    }

    /// Puts a send into the outbox without sending it.
    fn keep(&mut self, draft: crate::Draft) {
        let lamport = self.next_lamport();
        self.outbox.add(draft, lamport);
    }

    /// None before anything was seen: what others said while this client was away may count far above 1, and the server's clock does not.
    fn next_lamport(&mut self) -> Option<u64> {
        (self.lamport > 0).then(|| {
            self.lamport = (self.lamport + 1).min(INTEGER_MAX);
            self.lamport
        })
    }

    async fn connection(&mut self) -> End {
        let token = (self.config.token)();
        let opened = match RawConnection::open(&self.config.address, token.as_deref()).await {
            Ok(connection) => self.greet(connection).await,
            Err(error) => Err(End::Failed(error)),
        };
        let (mut live, heartbeat) = match opened {
            Ok(live) => live,
            Err(end) => return end,
        };
        self.reconnect.reset();
        let end = self.converse(&mut live, heartbeat).await;
        if matches!(end, End::Abandoned) {
            live.connection.close().await;
        }
        end
    }

    /// Says hello, takes the position that the server names, and repeats what is unsettled.
    async fn greet(&mut self, mut connection: RawConnection) -> Result<(Live, Duration), End> {
        let hello = Hello { token: None, device: self.config.device.clone(), resume: self.position };
        connection.send(ClientFrame::Hello(hello).to_text()).await.map_err(End::Failed)?;
        let seconds = HELLO_SECONDS_MAX;
        let answer = timeout(Duration::from_secs(seconds), hello_ok(&mut connection));
        let late = |_| End::Failed(ClientError::Timeout { address: self.config.address.to_string(), seconds });
        let hello = answer.await.map_err(late)?.map_err(End::Closed)?;
        self.move_to(hello.offset);
        let heartbeat = Duration::from_millis(hello.heartbeat_ms.clamp(1_000, 600_000));
        let user = hello.user.clone();
        let mut live = Live { connection, user, unacked: 0, ack_at: None, resend_at: None, heard: true };
        self.repeat(&mut live).await.map_err(End::Failed)?;
        self.emit(Event::Connected(hello)).await?;
        Ok((live, heartbeat))
    }

    async fn converse(&mut self, live: &mut Live, heartbeat: Duration) -> End {
        let mut beat = tokio::time::interval(heartbeat);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        beat.reset();
        loop {
            let step = tokio::select! {
                received = live.connection.receive() => match received {
                    Received::Text(text) => {
                        live.heard = true;
                        self.receive(live, &text).await
                    }
                    Received::Closed(closed) => Err(End::Closed(closed)),
                },
                order = self.orders.recv() => match order {
                    Some(order) => self.obey(live, order).await,
                    None => Err(End::Abandoned),
                },
                () = due(live.ack_at) => self.acknowledge(live).await,
                () = due(live.resend_at) => self.repeat(live).await.map_err(End::Failed),
                // The server's own pings keep it content; this one tells us whether it is still there.
                _ = beat.tick() => match std::mem::take(&mut live.heard) {
                    true => live.connection.send(ClientFrame::Ping.to_text()).await.map_err(End::Failed),
                    false => Err(End::Closed(Closed::default())),
                },
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    async fn obey(&mut self, live: &mut Live, order: Order) -> Result<(), End> {
        match order {
            Order::Say(frame) => live.connection.send(frame.to_text()).await.map_err(End::Failed),
            Order::Send(draft) if live.resend_at.is_some() => {
                self.keep(draft);
                Ok(())
            }
            Order::Send(draft) => {
                let lamport = self.next_lamport();
                let text = ClientFrame::ChatMessage(self.outbox.add(draft, lamport).clone()).to_text();
                live.connection.send(text).await.map_err(End::Failed)
            }
        }
    }

    async fn receive(&mut self, live: &mut Live, text: &str) -> Result<(), End> {
        let frame = match ServerFrame::parse(text) {
            Ok(frame) => frame,
            Err(error) => {
                // A newer server may say more than we know; what has a position is told again to those who do.
                if !matches!(error, ServerFrameError::UnknownType(_)) {
                    tracing::warn!(%error, "a frame was not understood");
                }
                return Ok(());
            }
        };
        if let Some(offset) = frame.offset() {
            let seen = self.position.is_some_and(|position| offset <= position);
            if seen && !matches!(frame, ServerFrame::CaughtUp(_)) {
                return Ok(());
            }
            if !seen {
                self.move_to(offset);
                live.unacked += 1;
                live.ack_at.get_or_insert_with(|| soon(ACK_DELAY));
            }
        }
        self.settle(live, &frame);
        self.emit(Event::Frame(frame)).await?;
        if live.unacked >= ACK_EVENTS_MAX {
            return self.acknowledge(live).await;
        }
        Ok(())
    }

    fn settle(&mut self, live: &mut Live, frame: &ServerFrame) {
        match frame {
            ServerFrame::Accepted(accepted) => {
                self.lamport = self.lamport.max(accepted.lamport);
                self.outbox.settle(&accepted.client_id);
                self.resend.reset();
            }
            ServerFrame::NewMessage(message) => {
                self.lamport = self.lamport.max(message.lamport);
                if let (true, Some(client_id)) = (message.from == live.user, &message.client_id) {
                    self.outbox.settle(client_id);
                }
            }
            ServerFrame::Rejected(rejected) if rejected.offset.is_none() => {
                if is_repeated(rejected) {
                    let wait = self.resend.next(rejected.retry_after_ms);
                    live.resend_at.get_or_insert_with(|| soon(wait));
                } else {
                    self.outbox.settle(&rejected.client_id);
                }
            }
            _ => {}
        }
    }

    async fn acknowledge(&mut self, live: &mut Live) -> Result<(), End> {
        (live.unacked, live.ack_at) = (0, None);
        let Some(offset) = self.position else { return Ok(()) };
        live.connection.send(ClientFrame::Ack(Ack { offset }).to_text()).await.map_err(End::Failed)
    }

    async fn repeat(&mut self, live: &mut Live) -> Result<(), ClientError> {
        live.resend_at = None;
        if self.outbox.len() > 0 {
            tracing::debug!(sends = self.outbox.len(), "sending again what is not settled");
        }
        for message in self.outbox.again() {
            live.connection.send(ClientFrame::ChatMessage(message.clone()).to_text()).await?;
        }
        Ok(())
    }

    /// The position moves before the event is told: an event that is told has been counted.
    fn move_to(&mut self, position: u64) {
        self.position = Some(position);
        self.shown.store(position, Ordering::Release);
    }

    async fn emit(&self, event: Event) -> Result<(), End> {
        self.events.send(event).await.map_err(|_| End::Abandoned)
    }
}

async fn hello_ok(connection: &mut RawConnection) -> Result<HelloOk, Closed> {
    loop {
        match connection.receive().await {
            Received::Closed(closed) => return Err(closed),
            Received::Text(text) => match ServerFrame::parse(&text) {
                Ok(ServerFrame::HelloOk(hello)) => return Ok(hello),
                Ok(ServerFrame::Error(error)) => {
                    return Err(Closed { number: None, reason: error.reason });
                }
                _ => {}
            },
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "the runtime's own clock, which tests pause; no wall time is read")]
fn soon(span: Duration) -> Instant {
    Instant::now() + span
}

async fn due(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
