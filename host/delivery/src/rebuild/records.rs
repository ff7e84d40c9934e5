//! Records, events and pulled messages of one partition, a piece of its log at a time.

use std::collections::HashSet;

use heddle_log::Stored;
use heddle_model::{POSITION_MAX, Position, Record, RecordError, TopicPartition};
use heddle_store::{ArchiveBatch, StoreError, Stretch};

use super::compare::Difference;
use super::plan::Part;
use super::{Progress, RebuildError, Work};
use crate::expand;
use crate::judge::{Judge, Standing};
use crate::rows::Place;

impl Work<'_> {
    pub(super) async fn remake_records(&mut self, partition: TopicPartition) -> Result<(), RebuildError> {
        let Some(part) = self.part(partition).copied() else { return Ok(()) };
        let all = part.next - part.start;
        let mut judge = self.judge(&part).await?;
        let mut after = self.numbering.upto(part.start);
        self.groups.begin(partition, after);
        // Every view may be forgotten: the store has all intervals.
        self.groups.archived(partition, Position(POSITION_MAX));
        let mut from = part.start;
        loop {
            let mut batch = ArchiveBatch::default();
            if from < part.next {
                let (records, next) = self.read(&part, from).await?;
                for stored in records {
                    self.add(&mut batch, &mut judge, partition, stored).await?;
                }
                from = next;
            }
            let last = from >= part.next;
            let upto = if last { Position(POSITION_MAX) } else { self.numbering.upto(from) };
            self.put(Stretch { partition, after, upto }, batch).await?;
            if self.log.layout().shared {
                // Read for the last time: what the log remembers of it for readers that begin below is bounded. One that is this node's own would
                // think of retention.
                self.log.archived(partition, from);
            }
            (self.tell)(Progress::Records { partition, done: from - part.start, all });
            if last {
                return Ok(());
            }
            after = upto;
        }
    }

    /// Adds the rows of a record, if it stands.
    async fn add(
        &mut self,
        batch: &mut ArchiveBatch,
        judge: &mut Judge,
        partition: TopicPartition,
        stored: Stored,
    ) -> Result<(), RebuildError> {
        let position = self.numbering.position(stored.offset);
        let place = Place { partition, position, at: stored.appended_at };
        self.rebuilt.read += 1;
        match Record::decode(&stored.bytes) {
            Ok(record) => {
                if judge.judge(self.numbering, partition, &record) == Standing::Stands
                    && self.is_said_by_a_member(partition, position, &record).await?
                {
                    place.add(batch, &record, stored.bytes);
                }
            }
            Err(error @ RecordError::Newer(_)) => return Err(self.newer(partition, stored.offset, &error)),
            Err(error) => {
                self.rebuilt.given_up += 1;
                batch.dead.push(place.dead(stored.bytes, error.to_string(), self.clock.now()));
            }
        }
        Ok(())
    }

    /// What its worker found at this place: who belonged to the group then. (DELIVERY 11, 17)
    async fn is_said_by_a_member(
        &self,
        partition: TopicPartition,
        position: Position,
        record: &Record,
    ) -> Result<bool, RebuildError> {
        let mut stands = true;
        match record {
            Record::Group(message) => {
                if let Some(group) = expand::group_of(message) {
                    stands = expand::stands(&self.groups, message, group).await?;
                }
            }
            Record::GroupChange(change) => drop(self.groups.apply(partition, position, change).await?),
            _ => {}
        }
        self.groups.reached(partition, position);
        Ok(stands)
    }

    /// Makes a stretch what the log says.
    async fn put(&mut self, stretch: Stretch, batch: ArchiveBatch) -> Result<(), RebuildError> {
        let difference = match self.store.rebuild.stretch(stretch).await {
            Ok(kept) => Some(Difference::between(&batch, &kept)),
            // A row of it does not read: all of it is written anew.
            Err(StoreError::Broken { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let counted = difference.unwrap_or_else(|| {
            let mut all = Difference::between(&batch, &heddle_store::StretchRows::default());
            all.records.different = std::mem::take(&mut all.records.missing);
            all.stream.different = std::mem::take(&mut all.stream.missing);
            all.pulled.different = std::mem::take(&mut all.pulled.missing);
            all
        });
        self.rebuilt.records.add(counted.records);
        self.rebuilt.stream.add(counted.stream);
        self.rebuilt.pulled.add(counted.pulled);
        if self.rebuilt.dry_run {
            return Ok(());
        }
        if difference.is_some_and(|difference| difference.none()) {
            // What is made of many records, such as the newest message of a conversation, may be wrong all the same.
            self.store.archive.write(batch).await?;
            return Ok(());
        }
        self.replace(stretch, batch).await
    }

    /// Replaces a stretch, in halves where the store does not take a row: what fails alone is given up. (DELIVERY 13)
    async fn replace(&mut self, stretch: Stretch, batch: ArchiveBatch) -> Result<(), RebuildError> {
        let mut pieces = vec![(stretch, batch)];
        while let Some((stretch, batch)) = pieces.pop() {
            match self.store.rebuild.replace(stretch, batch.clone()).await {
                Ok(()) => {}
                Err(StoreError::Broken { table, reason }) if batch.records.len() <= 1 => {
                    let Some(record) = batch.records.first() else {
                        return Err(StoreError::Broken { table, reason }.into());
                    };
                    self.rebuilt.given_up += 1;
                    let error = format!("{table}: {reason}");
                    let dead = vec![Place::of(record).dead(record.bytes.clone(), error, self.clock.now())];
                    self.store.rebuild.replace(stretch, ArchiveBatch { dead, ..ArchiveBatch::default() }).await?;
                }
                Err(StoreError::Broken { .. }) => {
                    let middle = batch.records[batch.records.len() / 2 - 1].position;
                    let (low, high) = split(batch, middle);
                    pieces.push((Stretch { after: middle, ..stretch }, high));
                    pieces.push((Stretch { upto: middle, ..stretch }, low));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// What a reader must remember at the beginning of a part: of each partition that records are derived from the largest that stands below, which
    /// the archive has. (DELIVERY 8)
    async fn judge(&self, part: &Part) -> Result<Judge, RebuildError> {
        let mut judge = Judge::default();
        let sources = self.numbering.partitioning.all().count();
        let mut met = HashSet::new();
        let mut below = Position(self.numbering.upto(part.start).0 + 1);
        while met.len() < sources && below.epoch() == self.numbering.epoch {
            let page = self.store.rebuild.records_below(part.partition, below, self.config.page_events).await?;
            let Some(oldest) = page.last() else { break };
            below = oldest.position;
            for record in page.iter().filter(|record| record.position.epoch() == self.numbering.epoch) {
                if let Some(source) = Record::decode(&record.bytes).ok().and_then(|record| record.source())
                    && met.insert(source.partition)
                {
                    judge.remember(source);
                }
            }
        }
        Ok(judge)
    }
}

/// The rows of the records up to `middle`, and the rest.
fn split(batch: ArchiveBatch, middle: Position) -> (ArchiveBatch, ArchiveBatch) {
    let ArchiveBatch { records, stream, receipts, groups, group_log, users, dead, cursors } = batch;
    let (low, high): (Vec<_>, Vec<_>) = records.into_iter().partition(|row| row.position <= middle);
    let (low_stream, high_stream) = stream.into_iter().partition(|row| row.position <= middle);
    let (low_log, high_log) = group_log.into_iter().partition(|row| row.order <= middle);
    let (low_dead, high_dead) = dead.into_iter().partition(|row| row.position <= middle);
    // What is not cut by place is idempotent, and comes with the first half.
    let first = ArchiveBatch {
        records: low,
        stream: low_stream,
        group_log: low_log,
        dead: low_dead,
        receipts,
        groups,
        users,
        cursors,
    };
    let second = ArchiveBatch {
        records: high,
        stream: high_stream,
        group_log: high_log,
        dead: high_dead,
        ..ArchiveBatch::default()
    };
    (first, second)
}
