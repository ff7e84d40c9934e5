//! The log on Kafka or Redpanda.
//!
//! A node reads every partition once, with one consumer, into memory ([`follow`]); what was let go of is read again from a broker ([`cold`]). A
//! consumer group shares out who *works* on which partition ([`group`]). Brokers keep no ids: a record whose id occurred a short while before it in
//! its partition does not stand, and is a hole for every reader ([`ids`]). There are no transactions: what a worker derives is appended first, then
//! its cursor moves, in memory; whoever uses this log keeps the cursor and recalls it.

mod cold;
mod config;
mod context;
mod exchange;
mod follow;
mod group;
mod ids;
mod look;
mod pem;
mod produce;
mod reach;
mod ring;
mod security;
mod settings;
mod settle;
mod skipped;
mod topics;
mod turns;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use heddle_model::{Clock, MessageId, Millis, Offset, Topic, TopicPartition};
use parking_lot::Mutex;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::producer::FutureProducer;
use rdkafka::{Offset as At, TopicPartitionList};
use tokio::sync::watch;

pub use config::KafkaConfig;
pub use look::KafkaReader;
pub use pem::{KafkaFileError, KafkaTls};
pub use security::{KafkaLogin, KafkaSasl};
pub use topics::KafkaOpenError;

use crate::slots::Slots;
use crate::{AppendError, Appended, Batch, Derived, Layout, Log, LookupError, Place, ReadError};
use cold::Cold;
use context::{Consumer, Quiet};
use ids::Ids;
use produce::{Producer, Sent, Target};
use reach::Reach;
use ring::{Ring, Took};
use settle::Settling;
use skipped::Skipped;
use topics::Found;
use turns::Turns;

/// An append that took so long may have been sent more than once, by us or by another node: which of them stands, the reader says.
const DOUBTED: Duration = Duration::from_millis(200);
/// The longest that a reader waits for a record that is known to be there.
const READ_WAIT: Duration = Duration::from_secs(5);
/// The least that a partition's ring may hold.
const RING_BYTES_MIN: usize = 128 << 10;
/// The longest that closing waits for records on their way.
const FLUSH: Duration = Duration::from_secs(3);

/// A log on Kafka. See the module.
pub struct KafkaLog {
    shared: Arc<Shared>,
    layout: Layout,
    /// How long the topics keep records; none: for ever.
    kept_for: Option<Millis>,
    sender: Arc<Producer>,
    deriver: Arc<Producer>,
    turns: Turns,
    derived: Vec<Mutex<Offset>>,
    assigned: watch::Receiver<Vec<TopicPartition>>,
    /// Ends `assigned` when nobody is in the group.
    _assigning: Option<watch::Sender<Vec<TopicPartition>>>,
    threads: Mutex<Vec<std::thread::JoinHandle<()>>>,
    /// Asks brokers where partitions end.
    asker: ArcSwap<Consumer>,
    settling: Settling,
}

/// What the log and its threads share.
struct Shared {
    config: KafkaConfig,
    /// How clients are made now: as `config` says, perhaps with another login.
    clients: watch::Sender<KafkaConfig>,
    clock: Arc<dyn Clock>,
    slots: Slots,
    names: Vec<(String, Topic)>,
    rings: Vec<Mutex<Ring>>,
    ids: Ids,
    skipped: Vec<Skipped>,
    heads: Vec<watch::Sender<Offset>>,
    /// How far the reader has come.
    ends: Vec<watch::Sender<Offset>>,
    /// Somebody asked for it.
    followed: Vec<AtomicBool>,
    /// To be followed, from there, and not begun yet.
    wanted: Mutex<Vec<(usize, Offset)>>,
    paused: Mutex<BTreeSet<usize>>,
    /// The reader should look what it was told.
    wake: AtomicBool,
    stop: AtomicBool,
    cold: Cold,
    reach: Arc<Reach>,
}

impl Shared {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    fn ring_bytes(&self) -> usize {
        (self.config.cache_bytes / self.slots.count()).max(RING_BYTES_MIN)
    }

    fn slot_of(&self, topic: &str, partition: i32) -> Option<usize> {
        let (_, topic) = self.names.iter().find(|(name, _)| name == topic)?;
        self.slots.index(TopicPartition { topic: *topic, partition: u32::try_from(partition).ok()? })
    }

    /// The reader has met everything below. Whoever waits is told in any case: [`meets`](Self::meets) told nobody.
    fn reached(&self, slot: usize, end: Offset) {
        self.heads[slot].send_modify(|known| *known = end.max(*known));
        self.ends[slot].send_modify(|known| *known = end.max(*known));
    }

    /// The reader meets a record, before anybody can read it: nothing that is read lies above the head. A wake-up follows.
    fn meets(&self, slot: usize, offset: Offset) {
        self.heads[slot].send_if_modified(|known| {
            *known = (offset + 1).max(*known);
            false
        });
    }

    /// The partition has at least this many.
    fn grown(&self, slot: usize, head: Offset) {
        self.heads[slot].send_if_modified(|known| std::mem::replace(known, head.max(*known)) < head);
    }
}

impl KafkaLog {
    /// Makes or checks the topics, and joins the group of workers. Nothing is read before it is followed.
    ///
    /// # Errors
    /// No broker answers; a topic is not as it must be; librdkafka refuses a setting.
    pub async fn open(config: KafkaConfig, clock: Arc<dyn Clock>) -> Result<Arc<Self>, KafkaOpenError> {
        let found = topics::prepare(&config).await?;
        let config = KafkaConfig { partitions: found.partitions, ..config };
        let opened = tokio::task::spawn_blocking(move || Self::start(config, clock, found)).await;
        opened.unwrap_or(Err(KafkaOpenError::Setting(KafkaError::Canceled)))
    }

    fn start(config: KafkaConfig, clock: Arc<dyn Clock>, found: Found) -> Result<Arc<Self>, KafkaOpenError> {
        let slots = Slots { partitions: config.partitions };
        let asker: Consumer = config.reader().create_with_context(Quiet).map_err(KafkaOpenError::Setting)?;
        let shared = Arc::new(Shared {
            names: Topic::ALL.into_iter().map(|topic| (config.topic(topic), topic)).collect(),
            rings: (0..slots.count()).map(|_| Mutex::default()).collect(),
            ids: Ids::new(slots.count(), config.dedupe_ms, config.ids_max),
            skipped: (0..slots.count()).map(|_| Skipped::default()).collect(),
            heads: (0..slots.count()).map(|_| watch::Sender::new(0)).collect(),
            ends: (0..slots.count()).map(|_| watch::Sender::new(0)).collect(),
            followed: (0..slots.count()).map(|_| AtomicBool::new(false)).collect(),
            wanted: Mutex::default(),
            paused: Mutex::default(),
            wake: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            cold: Cold::new(&config),
            reach: Arc::default(),
            clients: watch::Sender::new(config.clone()),
            slots,
            clock,
            config,
        });
        let (config, reach) = (&shared.config, &shared.reach);
        let asker = reach.watch(asker);
        let heads = topics::patiently(|| ask_heads(&shared, &asker))
            .map_err(|source| KafkaOpenError::Unreachable { brokers: config.brokers.clone(), source })?;
        for (slot, head) in heads {
            shared.grown(slot, head);
        }
        let producer =
            |settings| Producer::new(settings, Arc::clone(reach)).map(Arc::new).map_err(KafkaOpenError::Setting);
        let (sender, deriver) = (producer(config.sender())?, producer(config.deriver())?);
        let reader: Consumer = config.follower().create_with_context(Quiet).map_err(KafkaOpenError::Setting)?;
        let (assigning, assigned) = watch::channel(Vec::new());
        let mut threads = Vec::new();
        let mut idle = None;
        if config.works {
            let member = group::join(config, assigning).map(|member| reach.watch(member));
            let member = member.map_err(KafkaOpenError::Setting)?;
            let (weak, clients) = (Arc::downgrade(&shared), shared.clients.subscribe());
            threads.extend(spawn("kafka-group", move || group::run(&weak, member, clients)));
        } else {
            idle = Some(assigning);
        }
        let (following, clients, reader) = (Arc::clone(&shared), shared.clients.subscribe(), reach.watch(reader));
        threads.extend(spawn("kafka-reader", move || follow::run(&following, reader, clients)));
        let looking = Arc::clone(&shared);
        threads.extend(spawn("kafka-reach", move || reach::run(&looking)));
        Ok(Arc::new(Self {
            layout: Layout { identity: found.identity, partitions: config.partitions, shared: true },
            kept_for: found.retention,
            derived: (0..slots.count()).map(|_| Mutex::default()).collect(),
            threads: Mutex::new(threads),
            asker: ArcSwap::new(asker),
            settling: Settling::default(),
            turns: Turns::default(),
            _assigning: idle,
            shared,
            sender,
            deriver,
            assigned,
        }))
    }

    /// Leaves the group, and waits a little for records on their way. Blocks.
    pub fn close(&self) {
        self.sender.flush(FLUSH);
        self.deriver.flush(FLUSH);
        self.shared.stop.store(true, Ordering::Release);
        for thread in std::mem::take(&mut *self.threads.lock()) {
            if thread.join().is_err() {
                tracing::error!("a thread of the log panicked");
            }
        }
    }

    /// Waits, bounded, until the reader has met what stands there.
    async fn met(&self, slot: usize, offset: Offset) -> Result<(), String> {
        if !self.shared.followed[slot].load(Ordering::Acquire) {
            return Ok(());
        }
        let mut end = self.shared.ends[slot].subscribe();
        let met = tokio::time::timeout(READ_WAIT, end.wait_for(|end| *end > offset)).await;
        met.map(drop).map_err(|_| format!("it stands at {offset}, and the reader has not come there"))
    }

    fn slot(&self, at: TopicPartition) -> Result<usize, String> {
        self.shared.slots.index(at).ok_or_else(|| format!("this log has {} partitions", self.layout.partitions))
    }

    /// Queues a record of a worker; `Err` if the queue is full.
    fn derive_one(
        &self,
        producer: &Arc<FutureProducer<Quiet>>,
        slot: usize,
        bytes: &Bytes,
    ) -> Result<produce::Sending, String> {
        let partition = self.shared.slots.at(slot);
        let topic = self.shared.config.topic(partition.topic);
        let to = Target { topic: &topic, partition: i32::try_from(partition.partition).unwrap_or(i32::MAX) };
        self.deriver.send(Arc::clone(producer), to, None, None, bytes)
    }

    /// Waits for what a worker's record becomes. If its producer is stuck, another takes its place, and nobody knows.
    async fn patiently(
        &self,
        mut sending: produce::Sending,
        producer: &Arc<FutureProducer<Quiet>>,
        partition: TopicPartition,
    ) -> Sent {
        loop {
            match tokio::time::timeout(produce::STUCK, &mut sending).await {
                Ok(sent) => return sent,
                Err(_) => self.look_at(&self.deriver, Arc::clone(producer), partition),
            }
        }
    }

    /// Replaces a producer of which nothing comes, if the leader of that partition answers.
    fn look_at(&self, of: &Arc<Producer>, producer: Arc<FutureProducer<Quiet>>, partition: TopicPartition) {
        let (of, shared, asker) = (Arc::clone(of), Arc::clone(&self.shared), self.asker.load_full());
        drop(tokio::task::spawn_blocking(move || {
            match topics::bounds(&asker, &shared.config, partition) {
                Ok(_) => of.replace(&producer, "nothing came of it, and brokers answer"),
                Err(error) => tracing::debug!(%error, %partition, "its leader does not answer either"),
            }
            of.looked();
        }));
    }

    async fn read_cold(&self, partition: TopicPartition, from: Offset, bytes_max: usize) -> Result<Batch, ReadError> {
        let unavailable = |reason: String| ReadError::Unavailable { partition, from, reason };
        let slot = self.slot(partition).map_err(unavailable)?;
        let shared = Arc::clone(&self.shared);
        let read = move || shared.cold.read(&shared.config, partition, from, bytes_max, READ_WAIT);
        let read = tokio::task::spawn_blocking(read).await.map_err(|error| unavailable(error.to_string()))?;
        let records = read.map_err(|error| unavailable(error.to_string()))?;
        let Some(first) = records.first().map(|record| record.offset) else {
            return Err(unavailable("no broker gave it in time".to_owned()));
        };
        let next = records.last().map_or(first, |record| record.offset + 1);
        if first > from && records.iter().all(|record| record.offset > from) && self.start_of(partition).await > from {
            return Err(ReadError::Gone { partition, from, start: first });
        }
        Ok(self.shared.skipped[slot].sort(records, next))
    }

    async fn start_of(&self, partition: TopicPartition) -> Offset {
        let (shared, asker) = (Arc::clone(&self.shared), self.asker.load_full());
        let asked = tokio::task::spawn_blocking(move || topics::bounds(&asker, &shared.config, partition)).await;
        asked.ok().and_then(Result::ok).map_or(0, |(start, _)| start)
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Option<std::thread::JoinHandle<()>> {
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    spawned.inspect_err(|error| tracing::error!(%error, name, "a thread of the log does not start")).ok()
}

/// Where all partitions end. One question to each broker. Blocks.
fn ask_heads(shared: &Shared, asker: &Consumer) -> Result<Vec<(usize, Offset)>, KafkaError> {
    let mut ends = TopicPartitionList::new();
    for slot in 0..shared.slots.count() {
        let partition = shared.slots.at(slot);
        let number = i32::try_from(partition.partition).unwrap_or(i32::MAX);
        ends.add_partition_offset(&shared.config.topic(partition.topic), number, At::End)?;
    }
    let mut heads = Vec::new();
    for element in asker.offsets_for_times(ends, READ_WAIT)?.elements() {
        element.error()?;
        if let (Some(slot), At::Offset(head)) = (shared.slot_of(element.topic(), element.partition()), element.offset())
        {
            heads.push((slot, Offset::try_from(head).unwrap_or(0)));
        }
    }
    if heads.len() < shared.slots.count() {
        return Err(KafkaError::OffsetFetch(rdkafka::error::RDKafkaErrorCode::LeaderNotAvailable));
    }
    Ok(heads)
}

#[async_trait]
impl Log for KafkaLog {
    fn layout(&self) -> Layout {
        self.layout
    }

    async fn append(
        &self,
        partition: TopicPartition,
        id: Option<MessageId>,
        bytes: Bytes,
    ) -> Result<Appended, AppendError> {
        let slot = self.slot(partition).map_err(|reason| AppendError::Refused { partition, reason })?;
        let mut turn = None;
        if let Some(id) = id {
            turn = Some(self.turns.take(id).await);
            if let Some((slot, offset)) = self.shared.ids.find(&id) {
                return Ok(Appended::Existing(Place { partition: self.shared.slots.at(slot), offset }));
            }
        }
        let (handed_in, began) = (self.shared.clock.now(), self.shared.clock.monotonic());
        let topic = self.shared.config.topic(partition.topic);
        let to = Target { topic: &topic, partition: i32::try_from(partition.partition).unwrap_or(i32::MAX) };
        let entered = self.sender.enter().await;
        let producer = self.sender.current();
        let sending =
            self.sender.send(Arc::clone(&producer), to, id.as_ref().map(|id| &id.0), id.map(|_| handed_in), &bytes);
        drop(entered);
        let sent = sending.map_err(|reason| AppendError::Refused { partition, reason })?.await;
        if self.sender.fared(!matches!(sent, Sent::Unknown(_)), self.shared.clock.monotonic()) {
            self.look_at(&self.sender, producer, partition);
        }
        let appended = match sent {
            Sent::Stored(offset, at) => {
                if id.is_some() && !follow::in_time(handed_in, at) {
                    let reason = format!("its broker took it at {at}, it was handed in at {handed_in}");
                    return Err(AppendError::Unknown { partition, reason });
                }
                self.shared.grown(slot, offset + 1);
                let Some(id) = id else { return Ok(Appended::New(Place { partition, offset })) };
                if self.shared.clock.monotonic() - began >= DOUBTED {
                    self.met(slot, offset).await.map_err(|reason| AppendError::Unknown { partition, reason })?;
                    if let Some(first) = self.shared.ids.find(&id).filter(|first| *first != (slot, offset)) {
                        return Ok(Appended::Existing(Place {
                            partition: self.shared.slots.at(first.0),
                            offset: first.1,
                        }));
                    }
                }
                self.shared.ids.appended(id, slot, offset);
                Ok(Appended::New(Place { partition, offset }))
            }
            Sent::Unknown(reason) => Err(AppendError::Unknown { partition, reason }),
            Sent::Refused(reason) => Err(AppendError::Refused { partition, reason }),
        };
        drop(turn);
        appended
    }

    async fn derive(&self, derived: Derived) -> Result<Vec<Offset>, AppendError> {
        let refused = |reason| AppendError::Refused { partition: derived.source, reason };
        let source = self.slot(derived.source).map_err(refused)?;
        let slots = derived.records.iter().map(|(at, _)| self.slot(*at)).collect::<Result<Vec<_>, _>>();
        let slots = slots.map_err(refused)?;
        let (cursor, head) = (*self.derived[source].lock(), *self.shared.heads[source].borrow());
        if derived.upto < cursor {
            return Err(refused(format!("its derived cursor stands at {cursor} already, start again from there")));
        }
        if derived.upto > head {
            return Err(refused(format!("a cursor of {} lies above the head {head}", derived.upto)));
        }
        // All by one: where it fails for good, a later record by its successor would stand without the earlier ones, which would then never stand.
        let entered = self.deriver.enter().await;
        let producer = self.deriver.current();
        let mut sendings = Vec::with_capacity(slots.len());
        for (slot, (_, bytes)) in slots.iter().zip(&derived.records) {
            let sending = match self.derive_one(&producer, *slot, bytes) {
                Ok(sending) => sending,
                Err(reason) if sendings.is_empty() => return Err(refused(reason)),
                Err(reason) => return Err(AppendError::Unknown { partition: derived.source, reason }),
            };
            sendings.push(sending);
        }
        drop(entered);
        let mut places = Vec::with_capacity(sendings.len());
        for (slot, sending) in slots.into_iter().zip(sendings) {
            match self.patiently(sending, &producer, self.shared.slots.at(slot)).await {
                Sent::Stored(offset, _) => {
                    self.shared.grown(slot, offset + 1);
                    places.push(offset);
                }
                Sent::Unknown(reason) | Sent::Refused(reason) => {
                    return Err(AppendError::Unknown { partition: derived.source, reason });
                }
            }
        }
        let mut cursor = self.derived[source].lock();
        *cursor = derived.upto.max(*cursor);
        Ok(places)
    }

    async fn read(&self, partition: TopicPartition, from: Offset, bytes_max: usize) -> Result<Batch, ReadError> {
        let unavailable = |reason| ReadError::Unavailable { partition, from, reason };
        let slot = self.slot(partition).map_err(unavailable)?;
        let mut end = self.shared.ends[slot].subscribe();
        let head = *self.shared.heads[slot].borrow();
        if from > head {
            return Err(unavailable(format!("its head is {head}")));
        }
        if from == head {
            return Ok(Batch { next: from, ..Batch::default() });
        }
        loop {
            end.borrow_and_update();
            let (took, full) = {
                let mut ring = self.shared.rings[slot].lock();
                let full = ring.ahead_bytes() > self.shared.ring_bytes() / 2;
                (ring.take(from, bytes_max), full)
            };
            match took {
                Took::Some(batch) => {
                    if full {
                        self.shared.wake.store(true, Ordering::Release);
                    }
                    return Ok(batch);
                }
                Took::Gone(start) => return Err(ReadError::Gone { partition, from, start }),
                Took::Below => return self.read_cold(partition, from, bytes_max).await,
                Took::NotYet => match tokio::time::timeout(READ_WAIT, end.changed()).await {
                    Ok(Ok(())) => {}
                    _ => return Err(unavailable("no broker gave it in time".to_owned())),
                },
            }
        }
    }

    async fn lookup(&self, id: &MessageId, elsewhere: bool) -> Result<Option<Place>, LookupError> {
        let found = || {
            let (slot, offset) = self.shared.ids.find(id)?;
            Some(Place { partition: self.shared.slots.at(slot), offset })
        };
        if let Some(place) = found() {
            return Ok(Some(place));
        }
        if elsewhere {
            self.settling
                .settle(&self.shared, &self.asker.load_full())
                .await
                .map_err(|reason| LookupError { id: *id, reason })?;
        }
        let place = found();
        // Asked after it: what was let go of before that and is archived by now will be found in the archive.
        if elsewhere && place.is_none() && self.shared.ids.blind() {
            let reason = "the archive is further behind than the ids that kafka.ids_max leaves room for".to_owned();
            return Err(LookupError { id: *id, reason });
        }
        Ok(place)
    }

    async fn catch_up(&self) -> Result<(), String> {
        self.settling.settle(&self.shared, &self.asker.load_full()).await
    }

    fn head(&self, partition: TopicPartition) -> watch::Receiver<Offset> {
        let slot = self.shared.slots.index(partition);
        slot.map_or_else(|| watch::channel(0).1, |slot| self.shared.heads[slot].subscribe())
    }

    async fn head_now(&self, partition: TopicPartition) -> Result<Offset, String> {
        let slot = self.slot(partition)?;
        let (shared, asker) = (Arc::clone(&self.shared), self.asker.load_full());
        let asked = tokio::task::spawn_blocking(move || topics::bounds(&asker, &shared.config, partition)).await;
        let (_, head) = asked.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        self.shared.grown(slot, head);
        Ok(head)
    }

    fn follow(&self, partition: TopicPartition, from: Offset) {
        if let Some(slot) = self.shared.slots.index(partition)
            && !self.shared.followed[slot].swap(true, Ordering::AcqRel)
        {
            self.shared.wanted.lock().push((slot, from));
            self.shared.wake.store(true, Ordering::Release);
        }
    }

    fn derived(&self, partition: TopicPartition) -> Offset {
        self.shared.slots.index(partition).map_or(0, |slot| *self.derived[slot].lock())
    }

    fn recall(&self, partition: TopicPartition, derived: Offset) {
        if let Some(slot) = self.shared.slots.index(partition) {
            let mut cursor = self.derived[slot].lock();
            *cursor = derived.max(*cursor);
        }
    }

    fn archived(&self, partition: TopicPartition, upto: Offset) {
        if let Some(slot) = self.shared.slots.index(partition) {
            let before = self.shared.clock.now().saturating_sub(self.shared.config.dedupe_ms);
            self.shared.ids.archived(slot, upto);
            self.shared.skipped[slot].archived(upto, before);
        }
    }

    fn assigned(&self) -> watch::Receiver<Vec<TopicPartition>> {
        self.assigned.clone()
    }

    fn kept_for(&self) -> Option<Millis> {
        self.kept_for
    }
}

impl std::fmt::Debug for KafkaLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaLog").field("config", &self.shared.config).finish_non_exhaustive()
    }
}
