//! The one reader of a node: follows every partition that somebody asked for, judges what stands, and fills the rings. (DELIVERY 15, 23)

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use heddle_model::{MessageId, Millis, Offset, TopicPartition};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::{Offset as At, TopicPartitionList};
use tokio::sync::watch;

use super::Shared;
use super::config::{EARLY_MAX_MS, KafkaConfig, LATE_MAX_MS};
use super::context::{Consumer, Quiet, answered};
use super::ids::Met;
use super::produce::AT_HEADER;
use crate::Stored;

/// How long it waits for a record before it looks whether it was told something.
const LOOK: Duration = Duration::from_millis(20);
/// Records between two looks.
const LOOK_RECORDS: u32 = 256;
/// Between two tries of something that failed.
const RETRY: Duration = Duration::from_millis(250);
/// The longest that brokers may take to say where a moment lies.
const ANSWER: Duration = Duration::from_secs(10);

/// Runs until the log is closed. `clients`: how consumers are made, which may change.
pub(crate) fn run(shared: &Arc<Shared>, mut consumer: Arc<Consumer>, mut clients: watch::Receiver<KafkaConfig>) {
    while !shared.stopped() {
        shared.wake.store(false, Ordering::Release);
        if clients.has_changed().unwrap_or(false) {
            let next = successor(shared, &consumer, &clients.borrow_and_update());
            match next {
                Ok(next) => consumer = shared.reach.watch(next),
                Err(error) => {
                    tracing::warn!(%error, "the reader cannot be made anew yet");
                    clients.mark_changed();
                    std::thread::park_timeout(RETRY);
                }
            }
        }
        let consumer = &consumer;
        let wanted = std::mem::take(&mut *shared.wanted.lock());
        if let Err(error) = begin(shared, consumer, &wanted) {
            tracing::warn!(partitions = wanted.len(), %error, "partitions cannot be followed yet");
            shared.wanted.lock().extend(wanted);
            std::thread::park_timeout(RETRY);
        }
        resume(shared, consumer);
        let (ids, waiting) = shared.ids.sizes();
        metrics::gauge!("heddle_log_ids", "kind" => "recent").set(ids as f64);
        metrics::gauge!("heddle_log_ids", "kind" => "not_archived").set(waiting as f64);
        take(shared, consumer);
    }
}

/// Takes what has come, or what comes soon. Who waits for a partition is woken when there is no more at once: a wake-up for each record costs more than
/// the record, and they come in batches.
fn take(shared: &Shared, consumer: &Consumer) {
    let mut met = BTreeMap::new();
    for _ in 0..LOOK_RECORDS {
        match consumer.poll(if met.is_empty() { LOOK } else { Duration::ZERO }) {
            Some(Ok(message)) => {
                answered();
                met.extend(meet(shared, consumer, &message));
            }
            Some(Err(error)) => tracing::debug!(%error, "reading from Kafka"),
            None => break,
        }
        if shared.wake.load(Ordering::Acquire) {
            break;
        }
    }
    for (slot, end) in met {
        shared.reached(slot, end);
    }
}

/// A consumer of that configuration which goes on where another stands.
fn successor(shared: &Shared, consumer: &Consumer, config: &KafkaConfig) -> Result<Consumer, KafkaError> {
    let next: Consumer = config.follower().create_with_context(Quiet)?;
    let mut follow = TopicPartitionList::new();
    for element in consumer.assignment()?.elements() {
        if let Some(slot) = shared.slot_of(element.topic(), element.partition()) {
            let end = *shared.ends[slot].borrow();
            add(shared, &mut follow, slot, At::Offset(i64::try_from(end).unwrap_or(i64::MAX)))?;
        }
    }
    next.incremental_assign(&follow)?;
    // It pauses nothing yet: each pauses again with its next record.
    shared.paused.lock().clear();
    Ok(next)
}

/// Begins to follow partitions, each so far before the wish that every duplicate from there on is known. All are asked for together: a question for
/// each would make a node of two hundred partitions wait for half a minute.
fn begin(shared: &Shared, consumer: &Consumer, wanted: &[(usize, Offset)]) -> Result<(), KafkaError> {
    if wanted.is_empty() {
        return Ok(());
    }
    let all = |at: At| wanted.iter().map(|(slot, _)| (*slot, at)).collect::<Vec<_>>();
    let starts = ask(shared, consumer, &all(At::Beginning))?;
    let heads = ask(shared, consumer, &all(At::End))?;
    let from: HashMap<usize, Offset> =
        wanted.iter().map(|(slot, from)| (*slot, starts.get(slot).map_or(*from, |start| *from.max(start)))).collect();
    let behind: Vec<(TopicPartition, Offset)> = from
        .iter()
        .filter(|(slot, from)| heads.get(slot).is_some_and(|head| *from < head))
        .map(|(slot, from)| (shared.slots.at(*slot), *from))
        .collect();
    let ages = shared.cold.ages(&shared.config, &behind, ANSWER)?;
    let now = shared.clock.now();
    let moments: Vec<(usize, At)> = from
        .keys()
        .map(|slot| {
            let at = ages.get(&shared.slots.at(*slot)).copied().unwrap_or(now);
            let before = i64::try_from(at.saturating_sub(shared.config.dedupe_ms)).unwrap_or(i64::MAX);
            (*slot, At::Offset(before))
        })
        .collect();
    let found = ask(shared, consumer, &moments)?;
    let mut follow = TopicPartitionList::new();
    for (slot, from) in from {
        // Nothing may be so young.
        let low = found.get(&slot).map_or(from, |offset| from.min(*offset));
        shared.rings[slot].lock().begin(starts.get(&slot).copied().unwrap_or(0), low, from);
        shared.reached(slot, low);
        add(shared, &mut follow, slot, At::Offset(i64::try_from(low).unwrap_or(i64::MAX)))?;
    }
    consumer.incremental_assign(&follow)
}

/// Where moments lie in partitions; nothing of one that has nothing so young.
fn ask(shared: &Shared, consumer: &Consumer, moments: &[(usize, At)]) -> Result<HashMap<usize, Offset>, KafkaError> {
    let mut asked = TopicPartitionList::new();
    for (slot, moment) in moments {
        add(shared, &mut asked, *slot, *moment)?;
    }
    let mut found = HashMap::new();
    for element in consumer.offsets_for_times(asked, ANSWER)?.elements() {
        element.error()?;
        if let (Some(slot), At::Offset(offset)) =
            (shared.slot_of(element.topic(), element.partition()), element.offset())
        {
            found.insert(slot, Offset::try_from(offset).unwrap_or(0));
        }
    }
    Ok(found)
}

fn add(shared: &Shared, list: &mut TopicPartitionList, slot: usize, at: At) -> Result<(), KafkaError> {
    let partition = shared.slots.at(slot);
    let number = i32::try_from(partition.partition).unwrap_or(i32::MAX);
    list.add_partition_offset(&shared.config.topic(partition.topic), number, at)
}

/// Goes on with partitions whose records were read meanwhile.
fn resume(shared: &Shared, consumer: &Consumer) {
    let bound = shared.ring_bytes() / 2;
    let mut paused = shared.paused.lock();
    let (more, ready): (Vec<usize>, Vec<usize>) =
        paused.iter().partition(|slot| shared.rings[**slot].lock().ahead_bytes() > bound || !remembers(shared, **slot));
    if ready.is_empty() {
        return;
    }
    match consumer.resume(&list(shared, &ready)) {
        Ok(()) => *paused = more.into_iter().collect(),
        Err(error) => tracing::warn!(%error, "partitions stay paused"),
    }
}

fn list(shared: &Shared, slots: &[usize]) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for slot in slots {
        let partition = shared.slots.at(*slot);
        list.add_partition(
            &shared.config.topic(partition.topic),
            i32::try_from(partition.partition).unwrap_or(i32::MAX),
        );
    }
    list
}

/// The partition's place, and up to where it was met now.
fn meet(shared: &Shared, consumer: &Consumer, message: &BorrowedMessage<'_>) -> Option<(usize, Offset)> {
    let (slot, record) = read(shared, message)?;
    let (offset, at) = (record.offset, record.appended_at);
    let met = met(shared, slot, &record, message);
    let first = match met {
        Some(Met::Repeats(first)) => Some(first),
        _ => None,
    };
    if met != Some(Met::Stands) {
        let archived = shared.ids.archived_upto(slot);
        shared.skipped[slot].add(offset, at, first, archived, shared.config.skipped_max);
        metrics::counter!("heddle_log_records_skipped_total").increment(1);
    }
    shared.meets(slot, offset);
    let ahead = {
        let mut ring = shared.rings[slot].lock();
        ring.push(offset, met.is_some().then_some(record), first, shared.ring_bytes());
        ring.ahead_bytes()
    };
    if (ahead > shared.ring_bytes() || !remembers(shared, slot)) && shared.paused.lock().insert(slot) {
        // A slow worker holds its partition back, and no other; so does an archive that is away while much does not stand.
        if let Err(error) = consumer.pause(&list(shared, &[slot])) {
            tracing::warn!(%error, "partition is not paused");
        }
    }
    Some((slot, offset + 1))
}

/// The record, and its partition's place.
pub(crate) fn read(shared: &Shared, message: &BorrowedMessage<'_>) -> Option<(usize, Stored)> {
    let slot = shared.slot_of(message.topic(), message.partition())?;
    let offset = Offset::try_from(message.offset()).ok()?;
    let appended_at = message.timestamp().to_millis().and_then(|at| Millis::try_from(at).ok()).unwrap_or(0);
    let bytes = bytes::Bytes::copy_from_slice(message.payload().unwrap_or_default());
    Some((slot, Stored { offset, appended_at, bytes }))
}

/// There is room to remember another that does not stand.
fn remembers(shared: &Shared, slot: usize) -> bool {
    shared.skipped[slot].has_room(shared.ids.archived_upto(slot), shared.config.skipped_max)
}

/// Is it the first of its id? None: it did not land in time.
fn met(shared: &Shared, slot: usize, record: &Stored, message: &BorrowedMessage<'_>) -> Option<Met> {
    if handed_in(message).is_some_and(|at| !in_time(at, record.appended_at)) {
        return None;
    }
    Some(match message.key().and_then(|key| key.try_into().ok()) {
        Some(id) => shared.ids.meet(slot, record.offset, record.appended_at, MessageId(id)),
        None => Met::Stands,
    })
}

/// When a sender's record was handed in.
pub(crate) fn handed_in(message: &BorrowedMessage<'_>) -> Option<Millis> {
    let header = message.headers()?.iter().find(|header| header.key == AT_HEADER)?;
    Some(Millis::from_be_bytes(header.value?.try_into().ok()?))
}

/// Did the brokers take it near enough to when it was handed in?
pub(crate) fn in_time(handed_in: Millis, appended_at: Millis) -> bool {
    appended_at <= handed_in + LATE_MAX_MS && appended_at + EARLY_MAX_MS >= handed_in
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_stands_if_the_brokers_took_it_from_5_s_before_to_30_s_after_it_was_handed_in() {
        const AT: Millis = 1_700_000_000_000;
        for (appended_at, stands) in
            [(AT, true), (AT + 30_000, true), (AT + 30_001, false), (AT - 5_000, true), (AT - 5_001, false)]
        {
            assert_eq!(in_time(AT, appended_at), stands, "{appended_at}");
        }
    }
}
