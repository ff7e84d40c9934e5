//! The commit thread: collects what waits, writes one frame, syncs it, then tells everybody.

use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use bytes::Bytes;
use heddle_model::{MessageId, Offset, TopicPartition};
use tokio::runtime::Runtime;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::Instant;

use crate::disk::Disk;
use crate::frame::{FrameBuilder, RECORD_OVERHEAD_BYTES, head_bytes_max, pages, seed};
use crate::recent::Known;
use crate::segment::{Index, Segment, Start, header_bytes};
use crate::state::Shared;
use crate::{AppendError, Appended, Derived, Place};

/// A request that waits for the commit thread. The permit gives its bytes back to the queue's bound when it is answered.
#[derive(Debug)]
pub(crate) enum Request {
    Append {
        slot: usize,
        id: Option<MessageId>,
        /// See `recent`.
        seen: u64,
        bytes: Bytes,
        reply: oneshot::Sender<Result<Appended, AppendError>>,
        permit: OwnedSemaphorePermit,
    },
    Derive {
        derived: Derived,
        reply: oneshot::Sender<Result<Vec<Offset>, AppendError>>,
        permit: OwnedSemaphorePermit,
    },
}

impl Request {
    fn bytes(&self) -> usize {
        match self {
            Self::Append { bytes, .. } => bytes.len() + RECORD_OVERHEAD_BYTES,
            Self::Derive { derived, .. } => derived_bytes(derived),
        }
    }

    fn records(&self) -> usize {
        match self {
            Self::Append { .. } => 1,
            Self::Derive { derived, .. } => derived.records.len(),
        }
    }

    /// Whether somebody waits for it.
    fn awaited(&self) -> bool {
        match self {
            Self::Append { .. } => true,
            Self::Derive { derived, .. } => !derived.patient,
        }
    }

    /// Answers that nobody knows.
    fn unknown(self, slots: crate::slots::Slots, reason: &str) {
        match self {
            Self::Append { slot, reply, .. } => {
                let _ = reply.send(Err(unknown(slots.at(slot), reason)));
            }
            Self::Derive { derived, reply, .. } => drop(reply.send(Err(unknown(derived.source, reason)))),
        }
    }
}

/// What a derivation takes in a frame, without the directory.
pub(crate) fn derived_bytes(derived: &Derived) -> usize {
    derived.records.iter().map(|(_, bytes)| bytes.len() + RECORD_OVERHEAD_BYTES).sum()
}

fn unknown(partition: TopicPartition, reason: &str) -> AppendError {
    AppendError::Unknown { partition, reason: reason.to_owned() }
}

fn refused(partition: TopicPartition, reason: &str) -> AppendError {
    AppendError::Refused { partition, reason: reason.to_owned() }
}

/// Who is answered when the commit is durable; the permit is given back then.
enum Waiter {
    Append(
        oneshot::Sender<Result<Appended, AppendError>>,
        Appended,
        #[allow(dead_code, reason = "held")] OwnedSemaphorePermit,
    ),
    Derive(
        oneshot::Sender<Result<Vec<Offset>, AppendError>>,
        TopicPartition,
        Vec<Offset>,
        #[allow(dead_code, reason = "held")] OwnedSemaphorePermit,
    ),
}

impl Waiter {
    fn fail(self, error: impl Fn(TopicPartition) -> AppendError) {
        match self {
            Self::Append(reply, Appended::New(place) | Appended::Existing(place), _) => {
                let _ = reply.send(Err(error(place.partition)));
            }
            Self::Derive(reply, source, ..) => drop(reply.send(Err(error(source)))),
        }
    }

    fn answer(self) {
        match self {
            Self::Append(reply, appended, _) => drop(reply.send(Ok(appended))),
            Self::Derive(reply, _, offsets, _) => drop(reply.send(Ok(offsets))),
        }
    }
}

/// Why a commit did not happen.
enum Stop {
    /// Nothing was written: the requests are refused, the log goes on.
    Refused(String),
    /// Nobody knows what is on the medium: the log closes.
    Failed(String),
}

/// The state of the thread.
pub(crate) struct Committer {
    shared: Arc<Shared>,
    disk: Arc<dyn Disk>,
    keeper: SyncSender<()>,
    file: File,
    active: Arc<Segment>,
    at: u64,
    sequence: u64,
    /// Each partition's next offset after the last commit, and after what is staged.
    next: Vec<Offset>,
    staged_next: Vec<Offset>,
    derived: Vec<Offset>,
    staged_derived: Vec<Offset>,
    frame: FrameBuilder,
    staged_ids: HashMap<MessageId, Place>,
    waiters: Vec<Waiter>,
    buffer: Vec<u8>,
    /// Somebody waits for something that is staged.
    awaited: bool,
    linger: Duration,
    /// Waits for the queue and a moment at once.
    timer: Runtime,
    /// The disk bound was met: appends are refused until retention made room.
    full: bool,
}

impl Committer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        disk: Arc<dyn Disk>,
        keeper: SyncSender<()>,
        file: File,
        sequence: u64,
        timer: Runtime,
    ) -> Self {
        let active = shared.segments.read().last().expect("a log has a segment").clone();
        let next: Vec<_> = (0..shared.slots.count()).map(|slot| shared.head(slot)).collect();
        let derived: Vec<_> = shared.partitions.iter().map(|p| p.derived.load(Ordering::Acquire)).collect();
        Self {
            disk,
            keeper,
            file,
            at: active.end(),
            active,
            sequence,
            staged_next: next.clone(),
            next,
            staged_derived: derived.clone(),
            derived,
            frame: FrameBuilder::new(shared.slots),
            staged_ids: HashMap::new(),
            waiters: Vec::new(),
            buffer: Vec::new(),
            awaited: false,
            linger: Duration::from_millis(shared.config.derive_linger_ms),
            timer,
            full: false,
            shared,
        }
    }

    /// Commits until all senders are gone or a commit fails.
    pub(crate) fn run(mut self, mut queue: mpsc::Receiver<Request>) {
        let (bytes_max, records_max) = (self.shared.config.frame_bytes_max, self.shared.config.frame_records_max);
        let mut carried = None;
        while let Some(first) = carried.take().or_else(|| queue.blocking_recv()) {
            metrics::gauge!("heddle_log_queue_depth").set(queue.len() as f64);
            self.stage(first);
            let mut lingering = None;
            while let Some(request) = queue.try_recv().ok().or_else(|| self.linger(&mut queue, &mut lingering)) {
                if self.frame.bytes() + request.bytes() > bytes_max
                    || self.frame.records() + request.records() > records_max
                {
                    carried = Some(request);
                    break;
                }
                self.stage(request);
            }
            let failed = self.shared.failed.borrow().clone();
            let result = match failed {
                Some(reason) => Err(Stop::Failed(reason)),
                None => self.commit(),
            };
            match result {
                Ok(()) => {}
                Err(Stop::Refused(reason)) => self.refuse_staged(&reason),
                Err(Stop::Failed(reason)) => return self.fail(queue, carried, &reason),
            }
        }
    }

    /// While nobody waits for what is staged: the next request that comes in time.
    fn linger(&self, queue: &mut mpsc::Receiver<Request>, until: &mut Option<Instant>) -> Option<Request> {
        if self.awaited {
            return None;
        }
        let until = *until.get_or_insert_with(|| Instant::now() + self.linger);
        // The log's threads belong to no runtime.
        self.timer.block_on(async { tokio::time::timeout_at(until, queue.recv()).await.ok().flatten() })
    }

    /// Closes the log: whatever waits has an unknown outcome.
    fn fail(self, mut queue: mpsc::Receiver<Request>, carried: Option<Request>, reason: &str) {
        self.shared.fail(reason);
        self.shared.recent.close();
        for waiter in self.waiters {
            waiter.fail(|partition| unknown(partition, reason));
        }
        queue.close();
        let slots = self.shared.slots;
        if let Some(request) = carried {
            request.unknown(slots, reason);
        }
        while let Ok(request) = queue.try_recv() {
            request.unknown(slots, reason);
        }
    }

    fn refuse_staged(&mut self, reason: &str) {
        for waiter in self.waiters.drain(..) {
            waiter.fail(|partition| refused(partition, reason));
        }
        self.staged_next.copy_from_slice(&self.next);
        self.staged_derived.copy_from_slice(&self.derived);
        self.staged_ids.clear();
        self.frame.clear();
    }

    fn stage(&mut self, request: Request) {
        self.awaited |= request.awaited();
        match request {
            Request::Append { slot, id, seen, bytes, reply, permit } => {
                let partition = self.shared.slots.at(slot);
                match self.place(slot, id.as_ref(), seen, &bytes) {
                    Ok(appended) => self.waiters.push(Waiter::Append(reply, appended, permit)),
                    Err(reason) => drop(reply.send(Err(refused(partition, &reason)))),
                }
            }
            Request::Derive { derived, reply, permit } => match self.derive(&derived) {
                Ok(offsets) => self.waiters.push(Waiter::Derive(reply, derived.source, offsets, permit)),
                Err(reason) => drop(reply.send(Err(refused(derived.source, &reason)))),
            },
        }
    }

    /// The place of a record, new or not.
    fn place(&mut self, slot: usize, id: Option<&MessageId>, seen: u64, bytes: &[u8]) -> Result<Appended, String> {
        if let Some(id) = id {
            if let Some(place) = self.staged_ids.get(id) {
                return Ok(Appended::Existing(*place));
            }
            let (known, all_in_memory) = self.shared.recent.recheck(id, seen);
            let known = match known {
                None if !all_in_memory => self.shared.known_on_disk(id)?,
                known => known,
            };
            let now = self.shared.clock.now();
            if let Some(known) = known.filter(|known| self.shared.remembered(known, now)) {
                return Ok(Appended::Existing(known.place));
            }
        }
        if self.full {
            self.full = self.over_bound(self.shared.config.segment_bytes, false);
            if self.full {
                return Err(self.bound_reason());
            }
        }
        let place = Place { partition: self.shared.slots.at(slot), offset: self.staged_next[slot] };
        self.frame.push(slot, place.offset, id, bytes);
        self.staged_next[slot] += 1;
        if let Some(id) = id {
            self.staged_ids.insert(*id, place);
        }
        Ok(Appended::New(place))
    }

    fn derive(&mut self, derived: &Derived) -> Result<Vec<Offset>, String> {
        let source = self.shared.slot(derived.source)?;
        let cursor = self.staged_derived[source];
        if derived.upto < cursor {
            return Err(format!("its derived cursor stands at {cursor} already, start again from there"));
        }
        if derived.upto > self.staged_next[source] {
            return Err(format!("a cursor of {} lies above the head {}", derived.upto, self.staged_next[source]));
        }
        let slots = derived.records.iter().map(|(at, _)| self.shared.slot(*at));
        let slots = slots.collect::<Result<Vec<_>, _>>()?;
        let mut offsets = Vec::with_capacity(slots.len());
        for (slot, (_, bytes)) in slots.into_iter().zip(&derived.records) {
            self.frame.push(slot, self.staged_next[slot], None, bytes);
            offsets.push(self.staged_next[slot]);
            self.staged_next[slot] += 1;
        }
        if derived.upto > cursor {
            self.frame.cursor(source, derived.upto);
            self.staged_derived[source] = derived.upto;
        }
        Ok(offsets)
    }

    /// Makes what is staged durable, then known.
    fn commit(&mut self) -> Result<(), Stop> {
        self.awaited = false;
        if !self.frame.is_empty() {
            let began = self.shared.clock.monotonic();
            let frame_bytes = self.frame.frame_bytes();
            if self.at + pages(frame_bytes) as u64 > self.active.start.bytes {
                self.roll(frame_bytes)?;
            }
            let appended_at = self.shared.clock.now();
            let seed = seed(self.shared.identity(), self.active.start.number);
            self.frame.encode(self.sequence, appended_at, seed, &mut self.buffer);
            self.disk.write(&self.file, &self.buffer, self.at).map_err(|error| self.failed("written to", &error))?;
            self.sync()?;
            self.publish(appended_at)?;
            let spent = self.shared.clock.monotonic().saturating_sub(began);
            metrics::histogram!("heddle_log_commit_seconds").record(spent.as_secs_f64());
        }
        for waiter in self.waiters.drain(..) {
            waiter.answer();
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), Stop> {
        let began = self.shared.clock.monotonic();
        self.disk.sync(&self.file).map_err(|error| self.failed("synced", &error))?;
        let spent = self.shared.clock.monotonic().saturating_sub(began);
        metrics::histogram!("heddle_log_fsync_seconds").record(spent.as_secs_f64());
        Ok(())
    }

    fn failed(&self, doing: &str, error: &std::io::Error) -> Stop {
        let path = self.active.path();
        Stop::Failed(format!("log file {} cannot be {doing} ({error}), check its disk", path.display()))
    }

    /// Everything that a durable commit changes, readers last.
    fn publish(&mut self, appended_at: u64) -> Result<(), Stop> {
        let ids: Vec<_> = self.staged_ids.drain().map(|(id, place)| (id, Known { place, appended_at })).collect();
        self.active.note(self.at, &self.next);
        self.at += self.buffer.len() as u64;
        self.active.last_at.store(appended_at, Ordering::Release);
        self.active.end.store(self.at, Ordering::Release);
        for (slot, first, count, records) in self.frame.runs() {
            self.shared.cache.push(slot, first, count, appended_at, records);
        }
        let going_on = self.shared.recent.commit(self.sequence, self.buffer.len(), &ids);
        self.sequence += 1;
        for (slot, upto) in self.frame.cursors() {
            self.shared.partitions[slot].derived.store(upto, Ordering::Release);
        }
        for (slot, ..) in self.frame.runs() {
            self.shared.partitions[slot].head.send_replace(self.staged_next[slot]);
        }
        metrics::counter!("heddle_log_commits_total").increment(1);
        metrics::counter!("heddle_log_records_total").increment(self.frame.records() as u64);
        metrics::counter!("heddle_log_bytes_total").increment(self.buffer.len() as u64);
        metrics::histogram!("heddle_log_commit_records").record(self.frame.records() as f64);
        self.next.copy_from_slice(&self.staged_next);
        self.derived.copy_from_slice(&self.staged_derived);
        self.frame.clear();
        if self.buffer.capacity() > self.shared.config.frame_bytes_max * 2 {
            self.buffer = Vec::new();
        }
        if going_on { Ok(()) } else { Err(Stop::Failed("the id index closed the log".to_owned())) }
    }

    /// Whether one more segment passes the bound on the disk; derivations have a reserve.
    fn over_bound(&self, segment_bytes: u64, reserve: bool) -> bool {
        let Some(bound) = self.shared.config.bytes_max else { return false };
        let reserve = if reserve { (bound / 4).max(2 * self.shared.config.segment_bytes) } else { 0 };
        self.shared.journal_bytes() + segment_bytes > bound + reserve
    }

    fn bound_reason(&self) -> String {
        let bound = self.shared.config.bytes_max.unwrap_or(u64::MAX);
        format!("the disk bound of {bound} bytes (log.bytes_max) is reached, raise it or let the archive catch up")
    }

    /// Seals the active segment and activates the next.
    fn roll(&mut self, frame_bytes: usize) -> Result<(), Stop> {
        let config = &self.shared.config;
        let need = header_bytes(self.shared.slots) + pages(frame_bytes) as u64;
        let appends = self.waiters.iter().any(|waiter| matches!(waiter, Waiter::Append(_, Appended::New(_), _)));
        if self.over_bound(config.segment_bytes.max(need), !appends) {
            self.full = true;
            let _ = self.keeper.try_send(());
            return Err(Stop::Refused(self.bound_reason()));
        }
        let number = self.active.start.number + 1;
        let dir = self.shared.dir();
        let taken = self.shared.spare.take(&*self.disk, &dir, number, need, config.segment_bytes);
        let (file, bytes) = taken.map_err(|error| {
            metrics::counter!("heddle_log_segment_failures_total").increment(1);
            Stop::Refused(format!("no next segment in {} ({error}), free space on its disk", dir.display()))
        })?;
        let start = Start {
            number,
            first_sequence: self.sequence,
            bytes,
            next: self.next.clone().into(),
            derived: self.derived.clone().into(),
        };
        let header = start.encode(seed(self.shared.identity(), number));
        let segment =
            Segment::new(&dir, start, header.len() as u64, self.shared.clock.now(), Index::Memory(Vec::new()));
        self.file = file;
        self.at = header.len() as u64;
        self.active = Arc::new(segment);
        self.disk.write(&self.file, &header, 0).map_err(|error| self.failed("written to", &error))?;
        self.sync()?;
        self.shared.segments.write().push(self.active.clone());
        let _ = self.keeper.try_send(());
        Ok(())
    }
}

/// The most bytes of records that a frame may have in a segment of this size.
pub(crate) fn frame_room(shared: &Shared) -> usize {
    let overhead = header_bytes(shared.slots) as usize + head_bytes_max(shared.slots);
    (shared.config.segment_bytes as usize).saturating_sub(overhead)
}
