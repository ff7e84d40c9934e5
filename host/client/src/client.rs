//! The client's public face: configuration, handle, events.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use heddle_protocol::{ClientFrame, CloseCode, HelloOk, ServerFrame};
use tokio::sync::mpsc;

use crate::ClientError;
use crate::address::Address;
use crate::outbox::{Draft, Unsettled, WAITING_MAX};
use crate::session::Session;

/// Events that may wait for whoever reads them; then the client stops reading, and the server notices.
const EVENTS_MAX: usize = 256;

/// Starts clients.
#[derive(Debug)]
pub struct Client;

/// Where to connect, as whom, and from which position.
#[derive(Clone)]
pub struct ClientConfig {
    /// Where.
    pub address: Address,
    /// Gives a token that is good now; asked before each connection.
    pub token: Arc<dyn Fn() -> Option<String> + Send + Sync>,
    /// This device's name, the same for ever.
    pub device: String,
    /// The position that was stored last; `None` lets the server say.
    pub resume: Option<u64>,
    /// The longest pause between two tries, in milliseconds, unless the server asks for a longer one.
    pub retry_ms_max: u64,
}

/// Pauses between tries grow up to this many milliseconds, unless the configuration says otherwise.
const RETRY_MS_MAX: u64 = 15_000;

impl fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientConfig")
            .field("address", &self.address)
            .field("device", &self.device)
            .field("resume", &self.resume)
            .finish_non_exhaustive()
    }
}

impl ClientConfig {
    /// With one token for good.
    #[must_use]
    pub fn new(address: impl Into<Address>, token: impl Into<String>, device: impl Into<String>) -> Self {
        let token = token.into();
        let token = Arc::new(move || Some(token.clone()));
        Self { address: address.into(), token, device: device.into(), resume: None, retry_ms_max: RETRY_MS_MAX }
    }
}

/// What the client tells, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// `hello_ok` came; unsettled sends have been repeated.
    Connected(HelloOk),
    /// The connection is gone and comes back by itself.
    Disconnected {
        /// What happened, for people.
        reason: String,
        /// When the next try is made.
        retry_in: Duration,
    },
    /// Any other frame of the server, each position once.
    Frame(ServerFrame),
    /// The last event: the client does not come back.
    Stopped(Stopped),
}

/// Why a client ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// For people.
    pub reason: String,
    /// The close code, if there was one.
    pub code: Option<CloseCode>,
}

pub(crate) enum Order {
    Send(Draft),
    Say(ClientFrame),
}

/// Speaks to a running client. Cheap to clone; when the last one is gone, the client closes.
#[derive(Debug, Clone)]
pub struct ClientHandle {
    orders: mpsc::Sender<Order>,
    position: Arc<AtomicU64>,
    unsettled: Unsettled,
}

impl Client {
    /// Starts a client on the current runtime. It connects, and comes back, by itself; [`Event`]s tell how it goes.
    #[must_use]
    pub fn connect(config: ClientConfig) -> (ClientHandle, mpsc::Receiver<Event>) {
        let (orders, orders_in) = mpsc::channel(WAITING_MAX);
        let (events_out, events) = mpsc::channel(EVENTS_MAX);
        let position = Arc::new(AtomicU64::new(config.resume.unwrap_or(0)));
        let unsettled = Unsettled::default();
        let session = Session::new(config, orders_in, events_out, position.clone(), unsettled.clone());
        tokio::spawn(session.run());
        (ClientHandle { orders, position, unsettled }, events)
    }
}

impl ClientHandle {
    /// Sends a message, now or as soon as there is a connection, and again until it is settled. `accepted` or
    /// `rejected` with its `client_id` tells the end.
    ///
    /// # Errors
    /// 1,000 are not settled yet, or the client has stopped. Then the message is not kept: send it again later.
    pub fn send(&self, draft: Draft) -> Result<(), ClientError> {
        self.unsettled.enter()?;
        self.order(Order::Send(draft)).inspect_err(|_| self.unsettled.leave())
    }

    /// Says anything else, if there is a connection; without one it is forgotten.
    ///
    /// # Errors
    /// Too many are waiting, or the client has stopped.
    pub fn say(&self, frame: ClientFrame) -> Result<(), ClientError> {
        self.order(Order::Say(frame))
    }

    /// The device's position: everything up to it was handed over, or is about to be. Store it.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position.load(Ordering::Acquire)
    }

    fn order(&self, order: Order) -> Result<(), ClientError> {
        self.orders.try_send(order).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => ClientError::TooManyWaiting { waiting: WAITING_MAX },
            mpsc::error::TrySendError::Closed(_) => ClientError::Stopped,
        })
    }
}
