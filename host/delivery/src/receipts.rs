//! What acknowledgements make: receipts first, then the device's position. (DELIVERY 16, 19)

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use heddle_model::{
    Conversation, DeviceId, Message, MessageId, Millis, Position, ReceiptRecord, ReceiptStatus, Record, UserId,
};
use heddle_store::DeviceRow;
use lru::LruCache;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::config::DeliveryConfig;
use crate::crowd;
use crate::delivery::{Delivery, Shared};
use crate::denials::Pair;

/// Tasks that users are spread over.
const SHARDS: usize = 4;
/// Jobs waiting for one task.
const JOBS_MAX: usize = 4_096;
/// Receipts whose last order a task remembers.
pub(crate) const LAST_MAX: usize = 50_000;

/// Why a read receipt or a typing notice went nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No such message, or the reader does not have it.
    #[error("message {0} is not one of yours")]
    NotFound(String),
    /// Not a member of the group.
    #[error("you are not a member of {0}")]
    NotMember(String),
    /// Not now.
    #[error("receipts wait: {0}")]
    Unavailable(String),
}

/// Whose messages were received or read, by whom, where (as the sender names it).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(super) sender: UserId,
    pub(super) conversation: Conversation,
    pub(super) reader: UserId,
    pub(super) status: ReceiptStatus,
}

/// Up to which of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(super) order: Position,
    pub(super) message_id: MessageId,
}

/// The receipts of one acknowledgement: the newest message per sender and conversation.
#[derive(Debug, Clone, Default)]
pub(crate) struct Marks {
    /// Told one by one.
    each: HashMap<Key, Mark>,
    /// In groups too large for that: counted.
    crowd: HashMap<Key, Mark>,
}

impl Marks {
    /// The reader has this message, which somebody else sent; in a large group it is one of a `crowd`.
    pub(crate) fn add(
        &mut self,
        reader: &UserId,
        message: &Message,
        order: Position,
        status: ReceiptStatus,
        crowd: bool,
    ) {
        let conversation = match &message.to {
            Conversation::Direct(_) => Conversation::Direct(reader.clone()),
            Conversation::Group(group) => Conversation::Group(group.clone()),
        };
        let key = Key { sender: message.sender.clone(), conversation, reader: reader.clone(), status };
        let mark = Mark { order, message_id: message.id };
        raise(if crowd { &mut self.crowd } else { &mut self.each }, key, mark);
    }

    fn merge(&mut self, other: Self) {
        for (key, mark) in other.each {
            raise(&mut self.each, key, mark);
        }
        for (key, mark) in other.crowd {
            raise(&mut self.crowd, key, mark);
        }
    }
}

/// Keeps the newer of two marks.
pub(crate) fn raise<K: std::hash::Hash + Eq>(marks: &mut HashMap<K, Mark>, key: K, mark: Mark) {
    let newest = marks.entry(key).or_insert(mark);
    if newest.order < mark.order {
        *newest = mark;
    }
}

/// How far a device has come. What it acknowledged before an operator set it back counts less than anything after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Reached {
    /// How often the device was set back before.
    pub(crate) turn: u64,
    pub(crate) position: Position,
}

/// What an acknowledgement or a read asks for.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) reader: UserId,
    pub(crate) marks: Marks,
    /// The device and how far it came, which is kept once the receipts are durable.
    pub(crate) device: Option<(DeviceId, Reached)>,
}

impl Job {
    /// This one, and a later one of the same reader and device.
    pub(crate) fn merge(&mut self, later: Self) {
        self.marks.merge(later.marks);
        self.device = later.device.or(self.device.take());
    }
}

/// The newest message of each reader, by whose messages and where.
pub(crate) type CrowdMarks = HashMap<Key, Mark>;

type Inbox = Mutex<Option<mpsc::Receiver<Job>>>;

/// The queues to the tasks.
pub(crate) struct Receipts {
    hasher: RandomState,
    shards: Vec<(mpsc::Sender<Job>, Inbox)>,
    /// Marks of large groups, to the one task that counts them.
    crowd: (mpsc::Sender<CrowdMarks>, Mutex<Option<mpsc::Receiver<CrowdMarks>>>),
    /// Positions that the store does not have yet; bounded by the devices that acknowledge within an interval.
    devices: Mutex<HashMap<UserId, HashMap<DeviceId, Reached>>>,
    interval: Duration,
}

impl Receipts {
    pub(crate) fn new(config: &DeliveryConfig) -> Self {
        let shards = (0..SHARDS).map(|_| {
            let (queue, jobs) = mpsc::channel(JOBS_MAX);
            (queue, Mutex::new(Some(jobs)))
        });
        let interval = Duration::from_millis(config.receipt_interval_ms.max(config.position_interval_ms));
        let (crowd, marks) = mpsc::channel(JOBS_MAX);
        let crowd = (crowd, Mutex::new(Some(marks)));
        Self { hasher: RandomState::new(), shards: shards.collect(), crowd, devices: Mutex::default(), interval }
    }

    fn shard(&self, reader: &UserId) -> &mpsc::Sender<Job> {
        &self.shards[self.hasher.hash_one(reader) as usize % SHARDS].0
    }

    /// The user's positions that the store does not have yet.
    pub(crate) fn unsaved(&self, user: &UserId) -> HashMap<DeviceId, Reached> {
        self.devices.lock().get(user).cloned().unwrap_or_default()
    }

    /// The device resumed from further back: what was to be saved no longer counts.
    pub(crate) fn forget(&self, user: &UserId, device: &DeviceId) {
        if let Some(devices) = self.devices.lock().get_mut(user) {
            devices.remove(device);
        }
    }

    fn note(&self, job: &Job) {
        if let Some((device, reached)) = &job.device {
            let mut devices = self.devices.lock();
            let newest = devices.entry(job.reader.clone()).or_default().entry(device.clone()).or_insert(*reached);
            *newest = (*newest).max(*reached);
        }
    }

    /// Hands a job over; gives it back if the queue is full.
    pub(crate) fn try_put(&self, job: Job) -> Option<Job> {
        self.note(&job);
        match self.shard(&job.reader).try_send(job) {
            Ok(()) => None,
            Err(mpsc::error::TrySendError::Full(job) | mpsc::error::TrySendError::Closed(job)) => Some(job),
        }
    }

    /// Hands a job over, waiting for room.
    pub(crate) async fn put(&self, job: Job) {
        self.note(&job);
        let queue = self.shard(&job.reader).clone();
        drop(queue.send(job).await);
    }

    /// The tasks; once.
    pub(crate) fn tasks(shared: &Arc<Shared>) -> Vec<Pin<Box<dyn Future<Output = ()> + Send>>> {
        let mut tasks: Vec<Pin<Box<dyn Future<Output = ()> + Send>>> = Vec::new();
        for (_, inbox) in &shared.receipts.shards {
            if let Some(jobs) = inbox.lock().take() {
                tasks.push(Box::pin(run(Arc::clone(shared), jobs)));
            }
        }
        if let Some(marks) = shared.receipts.crowd.1.lock().take() {
            tasks.push(Box::pin(crowd::run(Arc::clone(shared), marks, shared.receipts.interval)));
        }
        tasks
    }
}

struct Task {
    shared: Arc<Shared>,
    pending: HashMap<Key, Mark>,
    crowd: HashMap<Key, Mark>,
    devices: HashSet<(UserId, DeviceId)>,
    last: LruCache<Key, (Position, Instant)>,
}

async fn run(shared: Arc<Shared>, mut jobs: mpsc::Receiver<Job>) {
    let interval = shared.receipts.interval;
    let last = LruCache::new(NonZeroUsize::new(LAST_MAX).unwrap_or(NonZeroUsize::MIN));
    let mut task = Task { shared, pending: HashMap::new(), crowd: HashMap::new(), devices: HashSet::new(), last };
    let mut positions = tokio::time::interval(interval);
    positions.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            job = jobs.recv() => {
                let Some(job) = job else { return };
                task.take(job);
                while let Ok(job) = jobs.try_recv() {
                    task.take(job);
                }
                task.append(interval).await;
            }
            _ = positions.tick() => {
                task.append(interval).await;
                task.save_positions().await;
            }
            () = task.shared.stop.cancelled() => {
                while let Ok(job) = jobs.try_recv() {
                    task.take(job);
                }
                task.append(Duration::ZERO).await;
                task.save_positions().await;
                return;
            }
        }
    }
}

impl Task {
    fn take(&mut self, job: Job) {
        for (key, mark) in job.marks.each {
            if self.last.peek(&key).is_none_or(|(order, _)| *order < mark.order) {
                raise(&mut self.pending, key, mark);
            }
        }
        for (key, mark) in job.marks.crowd {
            raise(&mut self.crowd, key, mark);
        }
        if let Some((device, _)) = job.device {
            self.devices.insert((job.reader, device));
        }
    }

    /// Appends the receipts that are due: not within the interval of the last of their key.
    async fn append(&mut self, interval: Duration) {
        let now = Instant::now();
        let (shared, last) = (&self.shared, &self.last);
        // While nobody may append, they wait.
        let may = shared.policies.knows().is_ok();
        let mut due: Vec<(Key, Mark)> = self
            .pending
            .iter()
            .filter(|(key, _)| may && last.peek(key).is_none_or(|(_, at)| now.duration_since(*at) >= interval))
            .map(|(key, mark)| (key.clone(), *mark))
            .collect();
        for (key, _) in &due {
            if shared.denials.pair(&key.reader, &key.sender).await.apart() {
                self.pending.remove(key);
            }
        }
        due.retain(|(key, _)| self.pending.contains_key(key));
        let at = shared.clock.now();
        let appends = join_all(due.into_iter().map(|(key, mark)| async move {
            let record = Record::Receipt(record(&key, mark, at, None));
            let home = shared.numbering.partitioning.home(&key.sender);
            let appended = shared.log.append(home, None, record.encode()).await;
            (key, mark, appended)
        }));
        let mut waits = None;
        for (key, mark, appended) in appends.await {
            match appended {
                Ok(_) => {
                    if self.pending.get(&key) == Some(&mark) {
                        self.pending.remove(&key);
                    }
                    self.last.put(key, (mark.order, now));
                }
                Err(error) => waits = Some(error),
            }
        }
        if let Some(error) = waits {
            tracing::warn!(%error, waiting = self.pending.len(), "receipts wait for the next try");
        }
        if !self.crowd.is_empty() {
            // Counts are hints: at the end of the process those not counted yet are dropped.
            drop(self.shared.receipts.crowd.0.send(std::mem::take(&mut self.crowd)).await);
        }
    }

    /// Saves the positions of devices whose users have no receipts waiting.
    async fn save_positions(&mut self) {
        let waiting: HashSet<&UserId> = self.pending.keys().map(|key| &key.reader).collect();
        let seen_at = self.shared.clock.now();
        let mut rows = Vec::new();
        {
            let unsaved = self.shared.receipts.devices.lock();
            for (user, device) in self.devices.iter().filter(|(user, _)| !waiting.contains(user)) {
                if let Some(Reached { turn, position }) = unsaved.get(user).and_then(|devices| devices.get(device)) {
                    rows.push((user.clone(), DeviceRow::new(device.clone(), *position, seen_at, *turn)));
                }
            }
        }
        self.devices.retain(|(user, _)| waiting.contains(user));
        if rows.is_empty() {
            return;
        }
        let per_user = self.shared.config.devices_per_user;
        match self.shared.store.devices.save_devices(rows.clone(), per_user).await {
            Ok(()) => self.saved(&rows),
            Err(error) => {
                tracing::warn!(%error, "positions of devices wait for the next try");
                self.devices.extend(rows.into_iter().map(|(user, row)| (user, row.device)));
            }
        }
    }

    /// Forgets what the store has now, unless it moved on.
    fn saved(&self, rows: &[(UserId, DeviceRow)]) {
        let mut unsaved = self.shared.receipts.devices.lock();
        for (user, row) in rows {
            let Some(devices) = unsaved.get_mut(user) else { continue };
            let saved = Reached { turn: row.turn, position: row.position };
            if devices.get(&row.device).is_some_and(|reached| *reached <= saved) {
                devices.remove(&row.device);
            }
            if devices.is_empty() {
                unsaved.remove(user);
            }
        }
    }
}

pub(crate) fn record(key: &Key, mark: Mark, at: Millis, count: Option<u32>) -> ReceiptRecord {
    ReceiptRecord {
        to: key.sender.clone(),
        conversation: key.conversation.clone(),
        message_id: mark.message_id,
        by: key.reader.clone(),
        status: key.status,
        order: mark.order,
        at,
        count,
    }
}

impl Delivery {
    /// The reader has read this message and all before it in its conversation.
    ///
    /// # Errors
    /// Not a message of the reader's; the store does not answer.
    pub async fn read(&self, reader: &UserId, id: &MessageId) -> Result<(), ReadError> {
        let shared = &self.shared;
        let unavailable = |error: heddle_store::StoreError| ReadError::Unavailable(error.to_string());
        let found = shared.first_record(id).await.map_err(unavailable)?;
        let (_, order, message) = found.ok_or_else(|| ReadError::NotFound(id.to_string()))?;
        let mut crowd = false;
        let mine = match &message.to {
            Conversation::Direct(to) => to == reader || message.sender == *reader,
            Conversation::Group(group) => {
                let view = shared.group_of(group, reader).await.map_err(unavailable)?;
                crowd = view.as_ref().is_some_and(|view| view.members.len() > shared.config.receipts_members_max);
                view.is_some_and(|view| view.is_member(reader))
            }
        };
        if !mine || !(message.may_reach(reader) || message.sender == *reader) {
            return Err(ReadError::NotFound(id.to_string()));
        }
        let conversation = message.conversation_for(reader);
        shared.store.devices.save_read(reader, &conversation, order).await.map_err(unavailable)?;
        if message.sender != *reader {
            let mut marks = Marks::default();
            marks.add(reader, &message, order, ReceiptStatus::Read, crowd);
            shared.receipts.put(Job { reader: reader.clone(), marks, device: None }).await;
        }
        Ok(())
    }

    /// Tells the other side that somebody types, or stopped; nobody who is blocked, or blocks. Lossy.
    ///
    /// # Errors
    /// Not a member of the group.
    pub async fn typing(&self, from: &UserId, to: &Conversation, started: bool) -> Result<(), ReadError> {
        let (mut users, group) = match to {
            Conversation::Direct(user) => (vec![user.clone()], None),
            Conversation::Group(group) => {
                let view = self.shared.group_of(group, from).await;
                let view = view.map_err(|error| ReadError::Unavailable(error.to_string()))?;
                let view = view.ok_or_else(|| ReadError::NotMember(to.to_string()))?;
                (view.members.keys().filter(|user| *user != from).cloned().collect(), Some(group.clone()))
            }
        };
        let pairs = self.shared.denials.between(from, &users).await;
        let mut apart = pairs.into_iter().map(Pair::apart);
        users.retain(|_| !apart.next().unwrap_or(false));
        let (from, group) = (from.clone(), group);
        self.shared
            .tell(&users, false, |to| crate::NodeMessage::Typing {
                from: from.clone(),
                group: group.clone(),
                started,
                to,
            })
            .await;
        Ok(())
    }
}
