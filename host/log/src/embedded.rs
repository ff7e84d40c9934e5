//! The log of one machine: see the crate's modules for its parts.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use heddle_model::{Clock, MessageId, Offset, Partitioning, TopicPartition};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::cache::TailCache;
use crate::commit::{Committer, Request, derived_bytes, frame_room};
use crate::directory::Directory;
use crate::disk::{Disk, SystemDisk};
use crate::error::sort_io;
use crate::frame::{Entries, Head, PAGE_BYTES, seed};
use crate::ids::{IdError, IdIndex};
use crate::recent::{Known, RecentIds};
use crate::recover::{Recovered, recover};
use crate::segment::header_bytes;
use crate::slots::Slots;
use crate::spare::SpareBox;
use crate::state::{Partition, Shared};
use crate::{
    AppendError, Appended, Batch, Derived, Layout, Log, LogConfig, LookupError, OpenError, Place, ReadError, keeper,
    read,
};

/// Bytes that a permit of the queue stands for.
const PERMIT_BYTES: usize = 1024;
/// A full disk is tried again after this.
const RETRY: Duration = Duration::from_secs(1);
/// Ids of the log that go to the index at once when it is rebuilt.
const REBUILD_IDS: usize = 65_536;

/// A durable log in a directory. Cheap to share as `Arc`; [`close`](Self::close) or the last drop commits what waits and lets the directory go.
pub struct EmbeddedLog {
    shared: Arc<Shared>,
    queue: RwLock<Option<mpsc::Sender<Request>>>,
    permits: Arc<Semaphore>,
    permits_max: usize,
    keeper: Mutex<Option<SyncSender<()>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    assigned: watch::Sender<Vec<TopicPartition>>,
}

impl std::fmt::Debug for EmbeddedLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedLog").field("dir", &self.shared.directory.path).finish_non_exhaustive()
    }
}

impl EmbeddedLog {
    /// Opens the log in `config.dir`, or makes one there. Blocks while it checks the tail and, if the id index is behind, reads what it lacks.
    ///
    /// # Errors
    /// Each of [`OpenError`] says what to do.
    pub fn open(config: LogConfig, clock: Arc<dyn Clock>) -> Result<Arc<Self>, OpenError> {
        Self::open_with(config, clock, Arc::new(SystemDisk))
    }

    /// As [`open`](Self::open), on a disk of the caller's: for fault tests.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(config: LogConfig, clock: Arc<dyn Clock>, disk: Arc<dyn Disk>) -> Result<Arc<Self>, OpenError> {
        check(&config)?;
        let directory = Directory::open(&config)?;
        let slots = Slots { partitions: directory.partitions };
        let spare = SpareBox::default();
        let recovered = recover(&directory, &config, slots, &spare, &*disk)?;
        let ids_dir = directory.path.join("ids");
        let (ids, watermark) = IdIndex::open(&ids_dir, directory.identity, config.ids_cache_bytes, recovered.sequence)?;
        rebuild(&directory, slots, &recovered, &ids, watermark, clock.now().saturating_sub(config.dedupe_window_ms))?;
        let Recovered { segments, file, sequence, next, derived } = recovered;
        let starts = &segments[0].start.next;
        let partitions =
            (0..slots.count()).map(|slot| Partition::new(starts[slot], next[slot], derived[slot])).collect();
        let shared = Arc::new(Shared {
            cache: TailCache::new(slots.count(), config.cache_bytes_max),
            recent: RecentIds::new(config.ids_pending_max, sequence - 1),
            failed: watch::Sender::new(None),
            retention: Mutex::new(()),
            segments: parking_lot::RwLock::new(segments),
            directory,
            slots,
            partitions,
            ids,
            spare,
            config,
            clock,
        });
        Self::start(shared, disk, file, sequence)
    }

    fn start(
        shared: Arc<Shared>,
        disk: Arc<dyn Disk>,
        file: std::fs::File,
        sequence: u64,
    ) -> Result<Arc<Self>, OpenError> {
        let (queue, requests) = mpsc::channel(shared.config.queue_requests_max);
        let (wake_keeper, woken) = std::sync::mpsc::sync_channel(1);
        let permits_max = shared.config.queue_bytes_max.div_ceil(PERMIT_BYTES).min(u32::MAX as usize >> 3);
        let timer = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let timer = timer.map_err(|source| sort_io(&shared.directory.path, "served by a timer", 0, source))?;
        let committer = Committer::new(shared.clone(), disk.clone(), wake_keeper.clone(), file, sequence, timer);
        let (keeper_shared, ids_shared) = (shared.clone(), shared.clone());
        let mut threads = Vec::new();
        let mut spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run);
            let thread = thread.map_err(|source| sort_io(&shared.directory.path, "served by a thread", 0, source))?;
            threads.push(thread);
            Ok(())
        };
        spawn("log-commit", Box::new(move || committer.run(requests)))?;
        spawn("log-keeper", Box::new(move || keeper::run(&keeper_shared, &*disk, &woken)))?;
        spawn("log-ids", Box::new(move || feed_ids(&ids_shared)))?;
        let partitioning = Partitioning { count: shared.slots.partitions };
        Ok(Arc::new(Self {
            queue: RwLock::new(Some(queue)),
            permits: Arc::new(Semaphore::new(permits_max)),
            permits_max,
            keeper: Mutex::new(Some(wake_keeper)),
            threads: Mutex::new(threads),
            assigned: watch::Sender::new(partitioning.all().collect()),
            shared,
        }))
    }

    /// Why the log closed by itself, once it has: drop it, then open it anew. Nothing else makes sure of what the medium holds.
    #[must_use]
    pub fn failed(&self) -> watch::Receiver<Option<String>> {
        self.shared.failed.subscribe()
    }

    /// The first offset that is kept.
    #[must_use]
    pub fn start_offset(&self, partition: TopicPartition) -> Offset {
        self.shared.slots.index(partition).map_or(0, |slot| self.shared.start(slot))
    }

    /// Runs retention now; answers how many segments went. It runs by itself each `retention_interval_ms`.
    pub fn enforce_retention(&self) -> usize {
        keeper::enforce_retention(&self.shared)
    }

    /// Commits what waits, stores the ids, lets the directory go. Later appends are refused, reads go on. Blocks for a few commits.
    pub fn close(&self) {
        self.queue.write().take();
        self.keeper.lock().take();
        // The commit thread is the first: the others end when it has.
        for thread in std::mem::take(&mut *self.threads.lock()) {
            if thread.join().is_err() {
                tracing::error!(dir = %self.shared.directory.path.display(), "a thread of the log panicked");
            }
            self.shared.recent.close();
        }
    }

    fn sender(&self) -> Result<mpsc::Sender<Request>, String> {
        if let Some(reason) = &*self.shared.failed.borrow() {
            return Err(format!("the log is closed: {reason}"));
        }
        self.queue.read().clone().ok_or_else(|| "the log is closed, try again once it is open".to_owned())
    }

    fn permits_for(&self, bytes: usize) -> u32 {
        bytes.div_ceil(PERMIT_BYTES).clamp(1, self.permits_max) as u32
    }

    /// Checks an append and puts it in the queue, or answers it at once.
    fn enqueue(
        &self,
        partition: TopicPartition,
        id: Option<MessageId>,
        bytes: Bytes,
    ) -> Result<Result<Appended, oneshot::Receiver<Result<Appended, AppendError>>>, String> {
        let slot = self.shared.slot(partition)?;
        let sender = self.sender()?;
        let bytes_max = self.shared.config.record_bytes_max.min(frame_room(&self.shared));
        if bytes.len() > bytes_max {
            return Err(format!("the record has {} bytes, at most {bytes_max} fit", bytes.len()));
        }
        let mut seen = 0;
        if let Some(id) = &id {
            let (known, newest) = self.shared.known(id)?;
            if let Some(known) = known {
                return Ok(Ok(Appended::Existing(known.place)));
            }
            seen = newest;
        }
        let permits = self.permits_for(bytes.len());
        let permit = self.permits.clone().try_acquire_many_owned(permits);
        let permit = permit.map_err(|_| "its queue is full, try again".to_owned())?;
        let (reply, answer) = oneshot::channel();
        let request = Request::Append { slot, id, seen, bytes, reply, permit };
        sender.try_send(request).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => "its queue is full, try again".to_owned(),
            mpsc::error::TrySendError::Closed(_) => "the log is closed, try again once it is open".to_owned(),
        })?;
        Ok(Err(answer))
    }
}

impl Drop for EmbeddedLog {
    fn drop(&mut self) {
        self.close();
    }
}

#[async_trait]
impl Log for EmbeddedLog {
    fn layout(&self) -> Layout {
        Layout { identity: self.shared.identity(), partitions: self.shared.slots.partitions, shared: false }
    }

    async fn append(
        &self,
        partition: TopicPartition,
        id: Option<MessageId>,
        bytes: Bytes,
    ) -> Result<Appended, AppendError> {
        match self.enqueue(partition, id, bytes) {
            Err(reason) => Err(AppendError::Refused { partition, reason }),
            Ok(Ok(appended)) => Ok(appended),
            Ok(Err(answer)) => answer.await.unwrap_or_else(|_| Err(ended(partition))),
        }
    }

    async fn derive(&self, derived: Derived) -> Result<Vec<Offset>, AppendError> {
        let partition = derived.source;
        let refused = |reason| AppendError::Refused { partition, reason };
        let (bytes, room) = (derived_bytes(&derived), frame_room(&self.shared));
        if bytes > room {
            return Err(refused(format!(
                "the derived records have {bytes} bytes, at most {room} fit: derive less at once"
            )));
        }
        let permits = self.permits_for(bytes);
        let permit = self.permits.clone().acquire_many_owned(permits).await;
        let permit = permit.map_err(|_| refused("the log is closed, try again once it is open".to_owned()))?;
        let sender = self.sender().map_err(refused)?;
        let (reply, answer) = oneshot::channel();
        let sent = sender.send(Request::Derive { derived, reply, permit }).await;
        sent.map_err(|_| refused("the log is closed, try again once it is open".to_owned()))?;
        drop(sender);
        answer.await.unwrap_or_else(|_| Err(ended(partition)))
    }

    async fn read(&self, partition: TopicPartition, from: Offset, bytes_max: usize) -> Result<Batch, ReadError> {
        let unavailable = |reason| ReadError::Unavailable { partition, from, reason };
        let slot = self.shared.slot(partition).map_err(unavailable)?;
        let head = self.shared.head(slot);
        if from < self.shared.start(slot) {
            return Err(read::gone(&self.shared, slot, from));
        }
        if from > head {
            return Err(unavailable(format!("its head is {head}")));
        }
        if from == head {
            return Ok(Batch { next: from, ..Batch::default() });
        }
        if let Some(batch) = self.shared.cache.read(slot, from, bytes_max) {
            return Ok(batch);
        }
        let shared = self.shared.clone();
        let read = tokio::task::spawn_blocking(move || read::read(&shared, slot, from, bytes_max)).await;
        read.unwrap_or_else(|error| Err(unavailable(format!("the read ended early ({error})"))))
    }

    async fn lookup(&self, id: &MessageId, _elsewhere: bool) -> Result<Option<Place>, LookupError> {
        let known = self.shared.known(id).map_err(|reason| LookupError { id: *id, reason })?;
        Ok(known.0.map(|known| known.place))
    }

    fn head(&self, partition: TopicPartition) -> watch::Receiver<Offset> {
        match self.shared.slots.index(partition) {
            Some(slot) => self.shared.partitions[slot].head.subscribe(),
            None => watch::channel(0).1,
        }
    }

    fn derived(&self, partition: TopicPartition) -> Offset {
        let slot = self.shared.slots.index(partition);
        slot.map_or(0, |slot| self.shared.partitions[slot].derived.load(Ordering::Acquire))
    }

    fn archived(&self, partition: TopicPartition, upto: Offset) {
        if let Some(slot) = self.shared.slots.index(partition) {
            self.shared.partitions[slot].archived.fetch_max(upto, Ordering::AcqRel);
        }
    }

    fn assigned(&self) -> watch::Receiver<Vec<TopicPartition>> {
        self.assigned.subscribe()
    }
}

fn ended(partition: TopicPartition) -> AppendError {
    AppendError::Unknown { partition, reason: "the log closed before it answered".to_owned() }
}

fn check(config: &LogConfig) -> Result<(), OpenError> {
    let wrong = |key, value: u64, remedy: String| Err(OpenError::Setting { key, value: value.to_string(), remedy });
    if config.partitions == 0 || config.partitions > 1024 {
        return wrong("partitions", config.partitions.into(), "give 1 to 1024".to_owned());
    }
    let slots = Slots { partitions: config.partitions };
    let least = (header_bytes(slots) + 2 * PAGE_BYTES as u64 + crate::frame::head_bytes_max(slots) as u64)
        .next_multiple_of(PAGE_BYTES as u64);
    let (bytes, page) = (config.segment_bytes, PAGE_BYTES as u64);
    if bytes < least || bytes % page != 0 || bytes > 1 << 30 {
        return wrong("segment_bytes", bytes, format!("give a multiple of {page} from {least} to 1073741824"));
    }
    if config.frame_bytes_max == 0 || config.frame_bytes_max as u64 + least > 1 << 30 {
        return wrong("frame_bytes_max", config.frame_bytes_max as u64, "give 1 to some megabytes".to_owned());
    }
    for (key, value) in [
        ("frame_records_max", config.frame_records_max),
        ("queue_requests_max", config.queue_requests_max),
        ("queue_bytes_max", config.queue_bytes_max),
        ("record_bytes_max", config.record_bytes_max),
    ] {
        if value == 0 {
            return wrong(key, 0, "give at least 1".to_owned());
        }
    }
    Ok(())
}

/// Tells the index the ids of all commits above its watermark that are still remembered.
fn rebuild(
    directory: &Directory,
    slots: Slots,
    recovered: &Recovered,
    ids: &IdIndex,
    watermark: u64,
    remembered_from: u64,
) -> Result<(), OpenError> {
    let failed = |error: IdError| OpenError::Ids { path: directory.path.join("ids"), reason: error.reason };
    let mut pending: Vec<(MessageId, Known)> = Vec::new();
    for (index, segment) in recovered.segments.iter().enumerate() {
        let after = recovered.segments.get(index + 1).map_or(recovered.sequence, |next| next.start.first_sequence);
        if after <= watermark + 1 {
            continue;
        }
        let file =
            std::fs::File::open(segment.path()).map_err(|source| sort_io(&segment.path(), "opened", 0, source))?;
        let seed = seed(directory.identity, segment.start.number);
        let mut stored = Ok(());
        let scanned = crate::scan::scan(&file, &segment.start, seed, slots, |head, frame| {
            if head.sequence > watermark && head.appended_at >= remembered_from {
                gather(head, frame, &mut pending);
                if pending.len() >= REBUILD_IDS && stored.is_ok() {
                    stored = ids.store(&pending, head.sequence);
                    pending.clear();
                }
            }
        });
        stored.map_err(failed)?;
        let scanned = scanned.map_err(|source| sort_io(&segment.path(), "read", 0, source))?;
        if scanned.sequence != after {
            let reason = scanned.why.to_string();
            return Err(OpenError::Corrupt { path: segment.path(), at: scanned.end, reason });
        }
    }
    if !pending.is_empty() || watermark + 1 < recovered.sequence {
        ids.store(&pending, recovered.sequence - 1).map_err(failed)?;
    }
    Ok(())
}

fn gather(head: &Head, frame: &[u8], ids: &mut Vec<(MessageId, Known)>) {
    for section in &head.sections {
        let records = Bytes::copy_from_slice(&frame[section.start..section.start + section.bytes]);
        for (offset, entry) in (section.first..).zip(Entries(records).flatten()) {
            if let Some(id) = entry.id {
                let place = Place { partition: section.at, offset };
                ids.push((id, Known { place, appended_at: head.appended_at }));
            }
        }
    }
}

/// The thread that feeds the id index and sweeps it.
fn feed_ids(shared: &Shared) {
    let interval = Duration::from_millis(shared.config.dedupe_sweep_interval_ms.max(1));
    let mut due = shared.clock.monotonic() + interval;
    while let Ok(work) = shared.recent.next(interval.min(Duration::from_secs(1))) {
        let stored = match &work {
            Some(work) => shared.ids.store(&work.ids, work.watermark).map(|()| shared.recent.done(work)),
            None => Ok(()),
        };
        let swept = stored.and_then(|()| {
            if shared.clock.monotonic() < due {
                return Ok(());
            }
            due = shared.clock.monotonic() + interval;
            shared.ids.sweep(shared.clock.now().saturating_sub(shared.config.dedupe_window_ms)).map(drop)
        });
        let Err(error) = swept else { continue };
        let (reason, dir) = (error.reason, shared.directory.path.display());
        if error.full && !shared.recent.closed() {
            // What waits is bounded, and stays in memory until there is room.
            tracing::warn!(%dir, reason, "no room for the id index, free space on its disk");
            std::thread::park_timeout(RETRY);
        } else if error.full {
            tracing::warn!(%dir, reason, "no room for the id index, it is completed at the next start");
            return;
        } else {
            if error.broken {
                shared.ids.condemn();
            }
            shared.fail(&format!("the id index cannot be written ({reason}), check the disk of {dir}"));
            shared.recent.close();
            return;
        }
    }
}
