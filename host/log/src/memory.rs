//! A log that keeps nothing on disk: for tests, and for figures that leave the disk out. **Not durable**: an append is answered at once, and all is
//! gone when it is dropped.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use heddle_model::{Clock, MessageId, Offset, Partitioning, TopicPartition};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::slots::Slots;
use crate::{AppendError, Appended, Batch, Derived, Identity, Layout, Log, LookupError, Place, ReadError, Stored};

/// Records of each partition, and ids, that a [`MemoryLog`] keeps unless told otherwise.
const RECORDS_MAX: usize = 65_536;

/// A ring of records per partition; the oldest go when a ring is full, whatever the cursors say.
pub struct MemoryLog {
    slots: Slots,
    clock: Arc<dyn Clock>,
    records_max: usize,
    state: Mutex<State>,
    heads: Vec<watch::Sender<Offset>>,
    assigned: watch::Sender<Vec<TopicPartition>>,
}

#[derive(Debug)]
struct State {
    rings: Vec<VecDeque<Stored>>,
    derived: Vec<Offset>,
    ids: HashMap<MessageId, Place>,
    order: VecDeque<MessageId>,
}

impl std::fmt::Debug for MemoryLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryLog").field("partitions", &self.slots.partitions).finish_non_exhaustive()
    }
}

impl MemoryLog {
    /// An empty log of so many partitions, each with 65,536 records at most.
    #[must_use]
    pub fn new(partitions: u32, clock: Arc<dyn Clock>) -> Arc<Self> {
        Self::bounded(partitions, clock, RECORDS_MAX)
    }

    /// As [`new`](Self::new), with another bound on the records of a partition and on the ids.
    #[must_use]
    pub fn bounded(partitions: u32, clock: Arc<dyn Clock>, records_max: usize) -> Arc<Self> {
        let slots = Slots { partitions };
        let state = State {
            rings: vec![VecDeque::new(); slots.count()],
            derived: vec![0; slots.count()],
            ids: HashMap::new(),
            order: VecDeque::new(),
        };
        Arc::new(Self {
            slots,
            clock,
            records_max: records_max.max(1),
            state: Mutex::new(state),
            heads: (0..slots.count()).map(|_| watch::Sender::new(0)).collect(),
            assigned: watch::Sender::new(Partitioning { count: partitions }.all().collect()),
        })
    }

    fn slot(&self, at: TopicPartition) -> Result<usize, String> {
        self.slots.index(at).ok_or_else(|| format!("this log has {} partitions", self.slots.partitions))
    }

    fn push(&self, state: &mut State, slot: usize, bytes: Bytes) -> Offset {
        let offset = *self.heads[slot].borrow();
        let ring = &mut state.rings[slot];
        ring.push_back(Stored { offset, appended_at: self.clock.now(), bytes });
        if ring.len() > self.records_max {
            ring.pop_front();
        }
        self.heads[slot].send_replace(offset + 1);
        offset
    }
}

#[async_trait]
impl Log for MemoryLog {
    fn layout(&self) -> Layout {
        Layout { identity: Identity([0; 16]), partitions: self.slots.partitions, shared: false }
    }

    async fn append(
        &self,
        partition: TopicPartition,
        id: Option<MessageId>,
        bytes: Bytes,
    ) -> Result<Appended, AppendError> {
        let slot = self.slot(partition).map_err(|reason| AppendError::Refused { partition, reason })?;
        let mut state = self.state.lock();
        if let Some(place) = id.as_ref().and_then(|id| state.ids.get(id)) {
            return Ok(Appended::Existing(*place));
        }
        let place = Place { partition, offset: self.push(&mut state, slot, bytes) };
        if let Some(id) = id {
            state.ids.insert(id, place);
            state.order.push_back(id);
            if state.order.len() > self.records_max
                && let Some(oldest) = state.order.pop_front()
            {
                state.ids.remove(&oldest);
            }
        }
        Ok(Appended::New(place))
    }

    async fn derive(&self, derived: Derived) -> Result<Vec<Offset>, AppendError> {
        let refused = |reason| AppendError::Refused { partition: derived.source, reason };
        let source = self.slot(derived.source).map_err(refused)?;
        let slots = derived.records.iter().map(|(at, _)| self.slot(*at)).collect::<Result<Vec<_>, _>>();
        let slots = slots.map_err(refused)?;
        let mut state = self.state.lock();
        let (cursor, head) = (state.derived[source], *self.heads[source].borrow());
        if derived.upto < cursor {
            return Err(refused(format!("its derived cursor stands at {cursor} already, start again from there")));
        }
        if derived.upto > head {
            return Err(refused(format!("a cursor of {} lies above the head {head}", derived.upto)));
        }
        state.derived[source] = derived.upto;
        let records = slots.into_iter().zip(derived.records);
        Ok(records.map(|(slot, (_, bytes))| self.push(&mut state, slot, bytes)).collect())
    }

    async fn read(&self, partition: TopicPartition, from: Offset, bytes_max: usize) -> Result<Batch, ReadError> {
        let unavailable = |reason| ReadError::Unavailable { partition, from, reason };
        let slot = self.slot(partition).map_err(unavailable)?;
        let state = self.state.lock();
        let (ring, head) = (&state.rings[slot], *self.heads[slot].borrow());
        let start = ring.front().map_or(head, |first| first.offset);
        if from < start {
            return Err(ReadError::Gone { partition, from, start });
        }
        if from > head {
            return Err(unavailable(format!("its head is {head}")));
        }
        let mut batch = Batch { next: from, ..Batch::default() };
        let mut bytes = 0;
        for record in ring.range((from - start) as usize..) {
            if !batch.records.is_empty() && bytes + record.bytes.len() > bytes_max {
                break;
            }
            bytes += record.bytes.len();
            batch.next = record.offset + 1;
            batch.records.push(record.clone());
        }
        Ok(batch)
    }

    async fn lookup(&self, id: &MessageId, _elsewhere: bool) -> Result<Option<Place>, LookupError> {
        Ok(self.state.lock().ids.get(id).copied())
    }

    fn head(&self, partition: TopicPartition) -> watch::Receiver<Offset> {
        self.slots.index(partition).map_or_else(|| watch::channel(0).1, |slot| self.heads[slot].subscribe())
    }

    fn derived(&self, partition: TopicPartition) -> Offset {
        self.slots.index(partition).map_or(0, |slot| self.state.lock().derived[slot])
    }

    fn archived(&self, _partition: TopicPartition, _upto: Offset) {}

    fn assigned(&self) -> watch::Receiver<Vec<TopicPartition>> {
        self.assigned.subscribe()
    }
}
