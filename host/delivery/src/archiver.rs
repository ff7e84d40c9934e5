//! The archiver: a second reader of every partition, which writes rows and cursors in one transaction. (DELIVERY 10, 13, 17)

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use heddle_log::ReadError;
use heddle_model::{Offset, Position, Record, TopicPartition};
use heddle_store::{ArchiveBatch, ArchivedRecord, Cursor, Hole, StoreError};

use crate::delivery::Shared;
use crate::judge::{Judge, Standing};
use crate::pace;
use crate::rows::Place;

/// Between two tries while the store does not answer, and the longest that it becomes.
const RETRY: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);

struct Reader {
    judge: Judge,
    next: Offset,
}

/// What one round read, and how far it came.
#[derive(Default)]
struct Round {
    batch: ArchiveBatch,
    reached: Vec<(TopicPartition, Offset, Judge)>,
    records: usize,
    bytes: usize,
    /// The partition that was read last.
    last: Option<TopicPartition>,
}

impl Round {
    fn is_full(&self, shared: &Shared) -> bool {
        self.records >= shared.config.archive_batch_records || self.bytes >= shared.config.archive_batch_bytes
    }
}

/// Archives the partitions of this node that lie in one shard of the archive, until told to stop. Each shard has an archiver of its own: while one does not
/// answer, its partitions wait, and no others.
pub(crate) async fn run(shared: Arc<Shared>, shard: u32) {
    let mut readers: HashMap<TopicPartition, Reader> = HashMap::new();
    let interval = pace::interval(&shared);
    let mut last = None;
    let mut hurried = shared.pace.hurried();
    loop {
        // Who takes a partition over begins where the one before ended; who loses one reads it no more.
        readers.retain(|partition, _| *shared.partition(*partition).owned.borrow());
        for partition in shared.owned().filter(|partition| shared.store.archive.shard(*partition) == shard) {
            readers.entry(partition).or_insert_with(|| {
                let (next, judge) = shared.partition(partition).base.lock().clone();
                Reader { judge, next }
            });
        }
        let round = read(&shared, &readers, &in_turn(readers.keys().copied().collect(), last)).await;
        last = round.last.or(last);
        let busy = round.is_full(&shared);
        pace::tell_lag(&shared);
        if !round.reached.is_empty() && !write(&shared, round, &mut readers).await {
            return;
        }
        if busy {
            continue;
        }
        tokio::select! {
            () = pace::due(&shared, shard, &mut hurried, interval) => {}
            () = shared.stop.cancelled() => return,
        }
    }
}

/// Every partition, beginning behind the one that was read last: where a few fill each batch, none is left out.
fn in_turn(mut partitions: Vec<TopicPartition>, last: Option<TopicPartition>) -> Vec<TopicPartition> {
    partitions.sort_unstable();
    let next = last.map_or(0, |last| partitions.partition_point(|partition| *partition <= last));
    let count = partitions.len().max(1);
    partitions.rotate_left(next % count);
    partitions
}

/// What the workers have judged and the archive does not have, of all partitions, up to a batch.
async fn read(shared: &Shared, readers: &HashMap<TopicPartition, Reader>, turns: &[TopicPartition]) -> Round {
    let mut round = Round::default();
    for partition in turns {
        let Some(reader) = readers.get(partition) else { continue };
        let worked = *shared.partition(*partition).worked.borrow();
        if worked <= reader.next {
            continue;
        }
        if round.is_full(shared) {
            break;
        }
        round.last = Some(*partition);
        read_one(shared, *partition, reader, worked, &mut round).await;
    }
    round
}

/// The same of one of them, up to where its worker has come.
async fn read_one(shared: &Shared, partition: TopicPartition, reader: &Reader, worked: Offset, round: &mut Round) {
    let (mut next, mut judge) = (reader.next, reader.judge.clone());
    while next < worked && !round.is_full(shared) {
        let from = next;
        match shared.log.read(partition, next, shared.config.read_bytes).await {
            Ok(batch) => {
                let batch_next = batch.next;
                for stored in batch.records.into_iter().filter(|stored| stored.offset < worked) {
                    let position = shared.numbering.position(stored.offset);
                    let place = Place { partition, position, at: stored.appended_at };
                    next = stored.offset + 1;
                    round.records += 1;
                    round.bytes += stored.bytes.len();
                    match Record::decode(&stored.bytes) {
                        Ok(record) => {
                            let stands = judge.judge(shared.numbering, partition, &record) == Standing::Stands;
                            if stands && !shared.partition(partition).void.lock().contains(&position) {
                                place.add(&mut round.batch, &record, stored.bytes);
                            }
                        }
                        Err(error) => {
                            round.batch.dead.push(place.dead(stored.bytes, error.to_string(), shared.clock.now()));
                        }
                    }
                }
                // Over what does not stand.
                next = next.max(batch_next.min(worked));
            }
            Err(ReadError::Gone { start, .. }) => {
                tracing::error!(%partition, from, start, "records are gone before they were archived");
                let (after, upto) = (shared.numbering.upto(next), shared.numbering.upto(start));
                let hole = Hole { partition, after, upto };
                if let Err(error) = shared.store.epochs.add_hole(hole).await {
                    tracing::warn!(%partition, %error, "archiver waits to note what is gone");
                    break;
                }
                shared.holes.write().push(hole);
                next = start;
            }
            Err(error) => {
                tracing::warn!(%partition, %error, "archiver cannot read");
                break;
            }
        }
        // One read at a time: whoever has something to push goes between.
        tokio::task::yield_now().await;
        if next == from {
            break;
        }
    }
    if next > reader.next {
        let upto = shared.numbering.upto(next);
        round.batch.cursors.push(Cursor { partition, upto, judge: judge.encode() });
        round.reached.push((partition, next, judge));
    }
}

/// Writes until it is written; false if told to stop.
async fn write(shared: &Shared, round: Round, readers: &mut HashMap<TopicPartition, Reader>) -> bool {
    let mut wait = RETRY;
    let mut tries = 0;
    loop {
        match shared.store.archive.write(round.batch.clone()).await {
            Ok(()) => break,
            Err(error) => {
                tracing::warn!(%error, "the archive waits; sends and pushes go on");
                tries += 1;
                let poison = matches!(error, StoreError::Broken { .. }) && tries >= shared.config.poison_tries;
                if poison {
                    if !isolate(shared, &round.batch, &error).await {
                        return false;
                    }
                    break;
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shared.stop.cancelled() => return false,
        }
        wait = (wait * 2).min(RETRY_MAX);
    }
    for (partition, next, judge) in round.reached {
        shared.archived_upto(partition, next, judge.clone());
        readers.insert(partition, Reader { judge, next });
    }
    true
}

/// Writes a batch that fails for its own sake in halves, by record: what fails alone becomes a dead letter. (DELIVERY 13)
/// False if told to stop.
async fn isolate(shared: &Shared, batch: &ArchiveBatch, error: &StoreError) -> bool {
    let mut pieces = vec![batch.records.clone()];
    while let Some(piece) = pieces.pop() {
        match persist(shared, part_of(batch, &piece)).await {
            Persisted::Written => {}
            Persisted::Stopped => return false,
            Persisted::Broken => {
                if let [record] = piece.as_slice() {
                    let place = Place::of(record);
                    let dead = vec![place.dead(record.bytes.clone(), error.to_string(), shared.clock.now())];
                    let dead = ArchiveBatch { dead, ..ArchiveBatch::default() };
                    if let Persisted::Stopped = persist(shared, dead).await {
                        return false;
                    }
                    tracing::error!(position = %record.position, partition = %record.partition, %error, "record is given up");
                    metrics::counter!("heddle_dead_letters_total").increment(1);
                } else if !piece.is_empty() {
                    let half = piece.split_at(piece.len() / 2);
                    pieces.push(half.1.to_vec());
                    pieces.push(half.0.to_vec());
                }
            }
        }
    }
    // Each on its own: one that is broken takes no other with it.
    let empty = ArchiveBatch::default;
    let rest = [
        ArchiveBatch { receipts: batch.receipts.clone(), ..empty() },
        ArchiveBatch { users: batch.users.clone(), ..empty() },
        ArchiveBatch { dead: batch.dead.clone(), ..empty() },
    ];
    let groups = batch.groups.iter().map(|delta| ArchiveBatch { groups: vec![delta.clone()], ..empty() });
    let cursors = ArchiveBatch { cursors: batch.cursors.clone(), ..empty() };
    for part in rest.into_iter().chain(groups).chain([cursors]) {
        match persist(shared, part).await {
            Persisted::Written => {}
            Persisted::Stopped => return false,
            Persisted::Broken => tracing::error!(%error, "part of a batch was not archived"),
        }
    }
    true
}

/// What became of a part of a batch.
enum Persisted {
    Written,
    /// It fails for its own sake.
    Broken,
    /// The store did not answer until the end.
    Stopped,
}

/// Writes, as often as the store does not answer.
async fn persist(shared: &Shared, part: ArchiveBatch) -> Persisted {
    loop {
        match shared.store.archive.write(part.clone()).await {
            Ok(()) => return Persisted::Written,
            Err(StoreError::Broken { .. }) => return Persisted::Broken,
            Err(error) => tracing::warn!(%error, "the archive waits; sends and pushes go on"),
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            () = shared.stop.cancelled() => return Persisted::Stopped,
        }
    }
}

/// The rows that were made of these records.
fn part_of(batch: &ArchiveBatch, records: &[ArchivedRecord]) -> ArchiveBatch {
    let has = |partition: TopicPartition, position: Position| {
        records.iter().any(|record| record.partition == partition && record.position == position)
    };
    ArchiveBatch {
        records: records.to_vec(),
        stream: batch.stream.iter().filter(|row| has(row.partition, row.position)).cloned().collect(),
        group_log: batch.group_log.iter().filter(|row| has(row.partition, row.order)).cloned().collect(),
        ..ArchiveBatch::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The order was once that of a hash map, the same in each round: of partitions that each fill a batch, only the first were ever archived.
    #[test]
    fn where_one_partition_fills_a_batch_each_has_its_turn() {
        let partitions = || (0..5).map(TopicPartition::messages).chain((0..5).map(TopicPartition::groups)).collect();
        let (mut read, mut last) = (Vec::new(), None);
        for _ in 0..10 {
            last = in_turn(partitions(), last).first().copied();
            read.extend(last);
        }
        read.sort_unstable();
        read.dedup();
        assert_eq!(read.len(), 10);
        // One that was taken away since is no reason to begin anywhere else.
        assert_eq!(in_turn(vec![TopicPartition::messages(3)], Some(TopicPartition::messages(1))).len(), 1);
        assert!(in_turn(Vec::new(), last).is_empty());
    }
}
