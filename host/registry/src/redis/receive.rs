//! The receiving end: listens on the node's channel and on everybody's, counts what never came, and asks itself whether the bus is whole.

use std::sync::Arc;
use std::time::Duration;

use fred::clients::Client;
use fred::error::Error;
use fred::interfaces::{ClientLike as _, EventInterface as _, PubsubInterface as _};
use fred::types::{Message, Value};
use heddle_model::NodeId;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::bus::{Codec, Sender};
use super::frame::{Follows, Kind, Seen, decode};
use super::keys::Keys;
use super::{Life, RedisConfig, link};
use crate::{BusState, Inbox};

/// A node sends itself something this often. (DELIVERY 25)
const ECHO: Duration = Duration::from_secs(1);
/// A channel that is silent for so long is listened to again: a slot that moves within a cluster loses its listeners, and nobody says so.
const AGAIN: Duration = Duration::from_secs(2);
/// Silent for so long: the bus is not whole.
const SILENT: Duration = Duration::from_millis(3_500);
/// Silent for so long: connect anew, whatever the client believes.
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
    heard: Heard,
    /// Connected then, last time; listening began then, and whether Redis agreed.
    dialed: Instant,
    listened: Instant,
    listens: bool,
}

/// When our own voice was last heard; none: not since the bus was not whole.
#[derive(Default)]
struct Heard {
    /// On the channel of this node.
    own: Option<Instant>,
    /// On everybody's, which on a cluster may be at another server; elsewhere the other vouches for it.
    all: Option<Instant>,
    sharded: bool,
}

impl Heard {
    fn silent_for(&self, span: Duration) -> bool {
        let silent = |at: Option<Instant>| at.is_none_or(|at| at.elapsed() >= span);
        silent(self.own) || (self.sharded && silent(self.all))
    }

    fn forget(&mut self) {
        (self.own, self.all) = (None, None);
    }
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
        let now = Instant::now();
        let heard = Heard { sharded: keys.sharded, ..Heard::default() };
        let receiver = Self {
            client,
            keys,
            life,
            sender,
            inbox,
            codec,
            state,
            seen: Seen::default(),
            patience: config.patience(),
            heard,
            dialed: now,
            listened: now,
            listens: false,
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
                    Ok(_) | Err(RecvError::Lagged(_)) => {
                        self.dialed = Instant::now();
                        self.listen().await;
                    }
                    Err(RecvError::Closed) => return,
                },
                _ = ticks.tick() => self.tick().await,
            }
        }
    }

    async fn listen(&mut self) {
        self.listened = Instant::now();
        self.listens = true;
        // Longer, and it would be noticed late that the bus is silent.
        let patience = self.patience.min(AGAIN);
        // One at a time: on a cluster they are in different slots.
        for channel in [self.keys.channel(&self.sender.node), self.keys.channel_all()] {
            let subscribed = tokio::time::timeout(patience, subscribe(&self.client, self.keys.sharded, channel)).await;
            match subscribed {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => tracing::warn!(%error, "cannot listen on the bus, trying again"),
                Err(_) => tracing::warn!("Redis does not let this node listen on the bus, trying again"),
            }
            self.listens = false;
        }
        self.echo();
    }

    async fn tick(&mut self) {
        self.echo();
        let silent = self.heard.silent_for(SILENT);
        if silent && self.state.borrow().whole {
            tracing::warn!("the bus is silent; what happens on other nodes comes later");
            self.heard.forget();
            self.state.send_modify(|state| state.whole = false);
        }
        if !self.client.is_connected() {
            return;
        }
        if silent && self.dialed.elapsed() >= DEAF {
            let again = tokio::time::timeout(self.patience, self.client.force_reconnection()).await;
            tracing::debug!(done = again.is_ok(), "connecting anew");
            self.dialed = Instant::now();
            // Where it keeps connections that are whole, as those to a cluster, there is no event.
            self.listens = false;
        }
        let unheard = !self.listens || (self.keys.sharded && self.heard.silent_for(AGAIN));
        if unheard && self.listened.elapsed() >= AGAIN {
            self.listen().await;
        }
    }

    /// Says something on each channel on which nobody else can be taken at his word.
    fn echo(&self) {
        self.say(Some(&self.sender.node));
        // What this node tells everybody is heard here too, so that little more is said where much is told.
        if self.keys.sharded && self.heard.all.is_none_or(|at| at.elapsed() >= ECHO) {
            self.say(None);
        }
    }

    fn say(&self, to: Option<&NodeId>) {
        if let Err(error) = self.sender.put(Kind::Echo, to, &[]) {
            tracing::debug!(%error, "no echo was sent");
        }
    }

    /// Our own voice came.
    fn hear(&mut self, all: bool) {
        *(if all { &mut self.heard.all } else { &mut self.heard.own }) = Some(Instant::now());
        if !self.state.borrow().whole && !self.heard.silent_for(SILENT) {
            tracing::info!("the bus is whole");
            self.state.send_modify(|state| state.whole = true);
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
        if mine && frame.life != self.life {
            return;
        }
        if mine && all {
            // The inbox had it when it was sent.
            return self.hear(true);
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
            Kind::Echo if mine => self.hear(false),
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
    if !sharded {
        return client.subscribe(channel).await;
    }
    match client.ssubscribe(channel.clone()).await {
        Err(error) if link::is_moved(&error) => client.ssubscribe(channel).await,
        done => done,
    }
}
