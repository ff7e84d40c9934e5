//! The receiving end: listens on the node's channel and on everybody's, counts what never came, and asks itself whether the bus is whole.

use std::sync::Arc;
use std::time::Duration;

use fred::clients::Client;
use fred::error::Error;
use fred::interfaces::{ClientLike as _, EventInterface as _, PubsubInterface as _};
use fred::types::{Message, Value};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::bus::{Codec, Sender};
use super::frame::{Follows, Kind, Seen, decode};
use super::keys::Keys;
use super::{Life, RedisConfig, link};
use crate::{BusState, Inbox};

/// A node sends itself something this often. (DELIVERY 25)
const ECHO: Duration = Duration::from_secs(1);
/// Silent for so long: the bus is not whole.
const SILENT: Duration = Duration::from_millis(3_500);
/// Silent for so long: listen anew, whatever the client believes.
const DEAF: Duration = Duration::from_secs(5);

pub(super) struct Receiver<T> {
    client: Client,
    keys: Arc<Keys>,
    life: Life,
    sender: Arc<Sender>,
    inbox: Inbox<T>,
    codec: Codec<T>,
    state: watch::Sender<BusState>,
    seen: Seen,
    patience: Duration,
    /// Our own voice was last heard then, or listening began.
    heard: Instant,
    listened: Instant,
}

impl<T: Send + Sync + 'static> Receiver<T> {
    pub(super) fn new(
        config: &RedisConfig,
        keys: Arc<Keys>,
        life: Life,
        sender: Arc<Sender>,
        inbox: Inbox<T>,
        codec: Codec<T>,
    ) -> (Self, watch::Receiver<BusState>, Vec<AbortOnDropHandle<()>>) {
        let client = sender.link.another();
        let dialed = AbortOnDropHandle::new(tokio::spawn(link::dial(client.clone())));
        let (state, shown) = watch::channel(BusState { whole: false, lost: 0 });
        let (patience, now) = (config.patience(), Instant::now());
        let receiver = Self {
            client,
            keys,
            life,
            sender,
            inbox,
            codec,
            state,
            seen: Seen::default(),
            patience,
            heard: now,
            listened: now,
        };
        (receiver, shown, vec![dialed])
    }

    pub(super) async fn run(mut self) {
        let mut connected = self.client.reconnect_rx();
        let mut messages = self.client.message_rx();
        let mut ticks = tokio::time::interval(ECHO);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = messages.recv() => match message {
                    Ok(message) => self.take(&message),
                    // Their numbers are missing too, so they are counted when the next comes.
                    Err(RecvError::Lagged(count)) => tracing::warn!(count, "bus messages came faster than they were taken"),
                    Err(RecvError::Closed) => return,
                },
                event = connected.recv() => match event {
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => self.listen().await,
                    Err(RecvError::Closed) => return,
                },
                _ = ticks.tick() => self.tick().await,
            }
        }
    }

    async fn listen(&mut self) {
        self.listened = Instant::now();
        // One at a time: on a cluster they are in different slots.
        for channel in [self.keys.channel(&self.sender.node), self.keys.channel_all()] {
            let subscribed =
                tokio::time::timeout(self.patience, subscribe(&self.client, self.keys.sharded, channel)).await;
            match subscribed {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "cannot listen on the bus, trying again"),
                Err(_) => tracing::warn!("Redis does not let this node listen on the bus, trying again"),
            }
        }
        self.echo();
    }

    async fn tick(&mut self) {
        self.echo();
        if self.heard.elapsed() < SILENT {
            return;
        }
        if self.state.borrow().whole {
            tracing::warn!("the bus is silent; what happens on other nodes comes later");
            self.state.send_modify(|state| state.whole = false);
        }
        if self.listened.elapsed() >= DEAF && self.client.is_connected() {
            let again = tokio::time::timeout(self.patience, self.client.force_reconnection()).await;
            tracing::debug!(done = again.is_ok(), "listening anew");
            self.listened = Instant::now();
        }
    }

    fn echo(&self) {
        if let Err(error) = self.sender.put(Kind::Echo, Some(&self.sender.node), &[]) {
            tracing::debug!(%error, "no echo was sent");
        }
    }

    fn take(&mut self, message: &Message) {
        let all = *message.channel == *self.keys.channel_all();
        if !all && *message.channel != *self.keys.channel(&self.sender.node) {
            return;
        }
        let bytes: &[u8] = match &message.value {
            Value::Bytes(bytes) => bytes,
            Value::String(text) => text.as_bytes(),
            _ => &[],
        };
        let Some(frame) = decode(bytes) else { return unreadable() };
        let mine = frame.node == self.sender.node;
        if mine && (frame.life != self.life || all) {
            // Of an earlier life, or what the inbox had when it was sent.
            return;
        }
        match self.seen.note(&frame, all) {
            Follows::Again => return,
            Follows::After(0) => {}
            Follows::After(missed) => {
                metrics::counter!("heddle_bus_lost_total").increment(missed);
                self.state.send_modify(|state| state.lost += missed);
            }
        }
        match frame.kind {
            Kind::Echo if mine => {
                self.heard = Instant::now();
                if !self.state.borrow().whole {
                    tracing::info!("the bus is whole");
                    self.state.send_modify(|state| state.whole = true);
                }
            }
            Kind::Echo => {}
            Kind::Message => match (self.codec.decode)(frame.payload) {
                Some(message) => (self.inbox)(&message),
                None => unreadable(),
            },
        }
    }
}

fn unreadable() {
    metrics::counter!("heddle_bus_unreadable_total").increment(1);
    tracing::debug!("a bus message cannot be read: another version, or not from a node");
}

async fn subscribe(client: &Client, sharded: bool, channel: String) -> Result<(), Error> {
    if sharded { client.ssubscribe(channel).await } else { client.subscribe(channel).await }
}
