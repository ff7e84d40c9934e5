//! The sending end: a bounded queue, a task that publishes in batches, numbers that tell the receiver what it missed.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use fred::clients::Client;
use fred::interfaces::PubsubInterface as _;
use heddle_model::NodeId;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

use super::frame::{Kind, encode};
use super::keys::Keys;
use super::link::Link;
use super::receive::Receiver;
use super::{Life, RedisConfig};
use crate::{Bus, BusError, BusState, Inbox};

/// Messages in one pipeline.
const BATCH: usize = 128;
/// The largest message that travels.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Nodes that a sender numbers its messages for; far above the nodes that there are.
const TARGETS_MAX: usize = 16_384;

/// How messages become bytes. Its format is the caller's; it should begin with a version.
pub struct Codec<T> {
    /// None: it cannot be written.
    pub encode: fn(&T) -> Option<Vec<u8>>,
    /// None: it cannot be read; it is counted and dropped.
    pub decode: fn(&[u8]) -> Option<T>,
}

impl<T> Clone for Codec<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Codec<T> {}

/// Messages over Redis Pub/Sub.
pub struct RedisBus<T> {
    sender: Arc<Sender>,
    inbox: Inbox<T>,
    codec: Codec<T>,
    state: watch::Receiver<BusState>,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

impl<T: Send + Sync + 'static> RedisBus<T> {
    pub(super) fn start(
        link: Arc<Link>,
        keys: Arc<Keys>,
        config: &RedisConfig,
        life: Life,
        inbox: Inbox<T>,
        codec: Codec<T>,
    ) -> Self {
        let (queue, waiting) = mpsc::channel(config.queue_max.max(1));
        let sender = Arc::new(Sender {
            node: config.node.clone(),
            life,
            link: Arc::clone(&link),
            keys: Arc::clone(&keys),
            queue,
            queued_bytes: Arc::default(),
            queue_bytes_max: config.queue_bytes_max,
            numbers: Mutex::default(),
        });
        let publish = publish(link, Arc::clone(&keys), Arc::clone(&sender.queued_bytes), waiting);
        let (receiver, state, mut tasks) =
            Receiver::new(config, keys, life, Arc::clone(&sender), Arc::clone(&inbox), codec);
        tasks.push(AbortOnDropHandle::new(tokio::spawn(publish)));
        tasks.push(AbortOnDropHandle::new(tokio::spawn(receiver.run())));
        Self { sender, inbox, codec, state, _tasks: tasks }
    }
}

#[async_trait]
impl<T: Send + Sync + 'static> Bus<T> for RedisBus<T> {
    async fn send(&self, node: &NodeId, message: Arc<T>) -> Result<(), BusError> {
        if *node == self.sender.node {
            (self.inbox)(&message);
            return Ok(());
        }
        let payload = (self.codec.encode)(&message).ok_or_else(|| BusError::Unfit(node.clone()))?;
        self.sender.put(Kind::Message, Some(node), &payload)
    }

    async fn broadcast(&self, message: Arc<T>) {
        (self.inbox)(&message);
        let sent = match (self.codec.encode)(&message) {
            Some(payload) => self.sender.put(Kind::Message, None, &payload),
            None => Err(BusError::Unfit(self.sender.node.clone())),
        };
        if let Err(error) = sent {
            tracing::debug!(%error, "other nodes were not told");
        }
    }

    fn state(&self) -> watch::Receiver<BusState> {
        self.state.clone()
    }
}

#[derive(Clone)]
struct Queued {
    channel: String,
    bytes: Bytes,
}

/// Where messages go in.
pub(super) struct Sender {
    pub(super) node: NodeId,
    life: Life,
    pub(super) link: Arc<Link>,
    keys: Arc<Keys>,
    queue: mpsc::Sender<Queued>,
    queued_bytes: Arc<AtomicUsize>,
    queue_bytes_max: usize,
    /// The last number by target; none: all nodes.
    numbers: Mutex<HashMap<Option<NodeId>, u64>>,
}

impl Sender {
    /// Queues a message for a node, or for all. What finds no room is numbered all the same, so that its receiver knows.
    pub(super) fn put(&self, kind: Kind, to: Option<&NodeId>, payload: &[u8]) -> Result<(), BusError> {
        let named = || to.unwrap_or(&self.node).clone();
        if payload.len() > MESSAGE_BYTES_MAX {
            metrics::counter!("heddle_bus_dropped_total", "why" => "size").increment(1);
            return Err(BusError::Unfit(named()));
        }
        let channel = to.map_or_else(|| self.keys.channel_all(), |node| self.keys.channel(node));
        let mut numbers = self.numbers.lock();
        if numbers.len() >= TARGETS_MAX {
            numbers.clear();
        }
        let number = numbers.entry(to.cloned()).or_insert(0);
        *number += 1;
        if !self.link.answers() {
            metrics::counter!("heddle_bus_dropped_total", "why" => "away").increment(1);
            return Err(BusError::Unreachable(named()));
        }
        let bytes = Bytes::from(encode(kind, &self.node, self.life, *number, payload));
        let size = bytes.len();
        let full = self.queued_bytes.load(Ordering::Acquire) + size > self.queue_bytes_max;
        // Under the lock: numbers go into the queue in their order.
        if full || self.queue.try_send(Queued { channel, bytes }).is_err() {
            metrics::counter!("heddle_bus_dropped_total", "why" => "full").increment(1);
            return Err(BusError::Full(named()));
        }
        self.queued_bytes.fetch_add(size, Ordering::AcqRel);
        Ok(())
    }
}

/// Publishes what waits, in order.
async fn publish(link: Arc<Link>, keys: Arc<Keys>, queued_bytes: Arc<AtomicUsize>, mut queue: mpsc::Receiver<Queued>) {
    let mut batch = Vec::with_capacity(BATCH);
    while queue.recv_many(&mut batch, BATCH).await > 0 {
        let (count, bytes) = (batch.len() as u64, batch.iter().map(|queued| queued.bytes.len()).sum::<usize>());
        let (messages, sharded) = (std::mem::take(&mut batch), keys.sharded);
        let send = async move |client: Client| {
            let pipeline = client.pipeline();
            for Queued { channel, bytes } in messages {
                if sharded {
                    pipeline.spublish::<(), _, _>(channel, bytes).await?;
                } else {
                    pipeline.publish::<(), _, _>(channel, bytes).await?;
                }
            }
            pipeline.try_all::<i64>().await.into_iter().collect::<Result<Vec<i64>, _>>()
        };
        let sent = link.call(bytes, send).await;
        queued_bytes.fetch_sub(bytes, Ordering::AcqRel);
        match sent {
            Ok(_) => metrics::counter!("heddle_bus_sent_total").increment(count),
            Err(error) => {
                metrics::counter!("heddle_bus_dropped_total", "why" => "away").increment(count);
                tracing::debug!(%error, count, "bus messages lost");
            }
        }
    }
}
