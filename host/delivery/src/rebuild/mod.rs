//! Makes the archive's rows of the retained log anew, while no server runs. (DELIVERY 12)
//!
//! The log is read as the archiver reads it: the same judgement of every record, the same rows. Groups come first, since whether a message stands
//! depends on who belonged at its place. Every step is one transaction that replaces rows by what the log says, so that a rebuild which is cut off
//! leaves an archive that is no worse, and is begun again. What lies below the retained log, and all that the log does not know (users, contacts,
//! devices, the catalog), stays; so do the cursors.

mod compare;
mod groups;
mod plan;
mod receipts;
mod records;

use std::collections::HashMap;
use std::sync::Arc;

use heddle_log::{Log, ReadError};
use heddle_model::{Clock, GroupId, Offset, Position, Record, TopicPartition};
use heddle_store::{Store, StoreError, Stretch};
use serde::Serialize;

use crate::config::DeliveryConfig;
use crate::groups::Groups;
use crate::numbering::Numbering;
pub use compare::Tally;
use plan::Part;

/// What a rebuild stands on.
pub struct RebuildDeps {
    /// The truth.
    pub log: Arc<dyn Log>,
    /// What is repaired.
    pub store: Store,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// What a rebuild found, and unless it was a trial mended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Rebuilt {
    /// Nothing was written.
    pub dry_run: bool,
    /// Which life of the log.
    pub epoch: u32,
    /// Partitions that were read, of both topics.
    pub partitions: usize,
    /// Records of the log that were read.
    pub read: u64,
    /// Of those, the ones that do not decode or that the store does not take.
    pub given_up: u64,
    /// Rows of records.
    pub records: Tally,
    /// Events of users.
    pub stream: Tally,
    /// Messages that members pull.
    pub pulled: Tally,
    /// Groups that were not as the log has them.
    pub groups: u64,
    /// Rows of receipts that were not.
    pub receipts: u64,
    /// Newest messages of groups that were not.
    pub heads: u64,
    /// Newest messages of conversations that were not.
    pub conversations: u64,
}

impl Rebuilt {
    /// Was everything as the log has it?
    #[must_use]
    pub fn was_whole(&self) -> bool {
        [self.records, self.stream, self.pulled].iter().all(Tally::whole)
            && self.groups + self.receipts + self.heads + self.conversations == 0
    }
}

/// Why the archive was not rebuilt, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// The store could not be asked.
    #[error("the store does not answer: {0}")]
    Store(#[from] StoreError),
    /// The log could not be read.
    #[error("the log cannot be read: {0}")]
    Log(String),
    /// Another log was archived there last.
    #[error(
        "the newest log that this store knows is another one, of {found} partitions each: name the configuration of the servers that wrote it, or start one of these first"
    )]
    AnotherLog {
        /// How many that one has.
        found: u32,
    },
    /// Nothing was ever archived.
    #[error("this store knows no log yet: a server that is started archives what the log has")]
    NoLog,
    /// The archive claims more than there is.
    #[error(
        "the archive of {partition} reaches to position {upto}, and its log ends at {end}: the log lost records, or it is an older copy. Start a server, which begins a new epoch above all positions"
    )]
    Beyond {
        /// Of which partition.
        partition: TopicPartition,
        /// The cursor.
        upto: Position,
        /// Where the log ends.
        end: Position,
    },
    /// A newer build wrote a record.
    #[error("the record at {position} of {partition} does not read: {reason}")]
    Newer {
        /// Of which partition.
        partition: TopicPartition,
        /// Where.
        position: Position,
        /// What the decoder said.
        reason: String,
    },
}

/// How far a rebuild has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Groups of a partition are as the log has them.
    Groups(TopicPartition),
    /// So many records of a partition, of so many.
    Records {
        /// Of which partition.
        partition: TopicPartition,
        /// So far.
        done: u64,
        /// In all.
        all: u64,
    },
    /// What is made of all of them is looked through.
    Newest,
}

/// Repairs the archive; with `dry_run` only says what is wrong with it. Nobody else may write to log or store meanwhile.
///
/// # Errors
/// The log or the store is another one, or does not answer. What was done stays, and is right; begin again for the rest.
pub async fn rebuild(
    config: &DeliveryConfig,
    deps: RebuildDeps,
    dry_run: bool,
    tell: &(dyn Fn(Progress) + Send + Sync),
) -> Result<Rebuilt, RebuildError> {
    let RebuildDeps { log, store, clock } = deps;
    let (numbering, parts) = plan::plan(&*log, &store).await?;
    let groups = Groups::new(config, numbering.partitioning, store.clone());
    let rebuilt = Rebuilt { dry_run, epoch: numbering.epoch, partitions: parts.len(), ..Rebuilt::default() };
    store.rebuild.prepare_rebuild().await?;
    let mut work = Work { config, log, store, clock, numbering, parts, groups, rebuilt, tell };
    let done = work.run().await;
    let ended = work.store.rebuild.end_rebuild().await;
    done?;
    ended?;
    Ok(work.rebuilt)
}

/// A rebuild under way.
struct Work<'a> {
    config: &'a DeliveryConfig,
    log: Arc<dyn Log>,
    store: Store,
    clock: Arc<dyn Clock>,
    numbering: Numbering,
    parts: HashMap<TopicPartition, Part>,
    /// Members as of the record that is judged.
    groups: Groups,
    rebuilt: Rebuilt,
    tell: &'a (dyn Fn(Progress) + Send + Sync),
}

impl Work<'_> {
    async fn run(&mut self) -> Result<(), RebuildError> {
        self.remake_groups().await?;
        for partition in self.numbering.partitioning.all() {
            self.remake_records(partition).await?;
        }
        (self.tell)(Progress::Newest);
        self.remake_receipts().await?;
        self.remake_heads().await?;
        let stretches: Vec<Stretch> = self.parts.values().map(|part| part.stretch(self.numbering)).collect();
        let keep = !self.rebuilt.dry_run;
        self.rebuilt.conversations += self.store.rebuild.remake_conversations(&stretches, keep).await?;
        Ok(())
    }

    fn part(&self, partition: TopicPartition) -> Option<&Part> {
        self.parts.get(&partition)
    }

    /// Above it the log says what there is. Of a partition that is not of this log: nothing.
    fn after(&self, partition: TopicPartition) -> Position {
        self.part(partition).map_or(Position(u64::MAX), |part| self.numbering.upto(part.start))
    }

    fn after_in_group(&self, group: &GroupId) -> Position {
        self.after(self.numbering.partitioning.group_home(group))
    }

    /// The next records of a partition that stand in the log, and where reading goes on.
    async fn read(&self, part: &Part, from: Offset) -> Result<(Vec<heddle_log::Stored>, Offset), RebuildError> {
        let batch = plan::patiently(&*self.log, part.partition, from, self.config.read_bytes).await;
        let mut batch = batch.map_err(|error| match error {
            ReadError::Gone { .. } => RebuildError::Log(format!("{error}: retention was quicker, begin again")),
            ReadError::Unavailable { .. } => RebuildError::Log(error.to_string()),
        })?;
        batch.records.retain(|stored| stored.offset < part.next);
        let next = batch.next.min(part.next);
        if next <= from {
            return Err(RebuildError::Log(format!("{} gives nothing at offset {from}", part.partition)));
        }
        Ok((batch.records, next))
    }

    fn newer(&self, partition: TopicPartition, offset: Offset, reason: &dyn std::fmt::Display) -> RebuildError {
        RebuildError::Newer { partition, position: self.numbering.position(offset), reason: reason.to_string() }
    }

    /// Sets the heads of groups right that point above, to what is no news of theirs.
    async fn remake_heads(&mut self) -> Result<(), RebuildError> {
        let mut last: Option<GroupId> = None;
        loop {
            let page = self.store.rebuild.groups_above(last.as_ref(), self.config.page_events).await?;
            let Some((newest, _)) = page.last() else { return Ok(()) };
            last = Some(newest.clone());
            for (group, head) in page {
                if head <= self.after_in_group(&group) || self.is_news(&group, head).await? {
                    continue;
                }
                self.rebuilt.heads += 1;
                if !self.rebuilt.dry_run {
                    let head = self.newest_news(&group, head).await?;
                    self.store.rebuild.set_head(&group, head).await?;
                }
            }
        }
    }

    /// Does a message of the group that is not discarded stand there?
    async fn is_news(&self, group: &GroupId, at: Position) -> Result<bool, RebuildError> {
        let home = self.numbering.partitioning.group_home(group);
        let record = self.store.archive.record(home, at).await?;
        Ok(record.is_some_and(|record| news_of(group, &record.bytes)))
    }

    async fn newest_news(&self, group: &GroupId, below: Position) -> Result<Position, RebuildError> {
        let home = self.numbering.partitioning.group_home(group);
        let mut below = below;
        loop {
            let page = self.store.rebuild.records_below(home, below, self.config.page_events).await?;
            let Some(oldest) = page.last() else { return Ok(Position::START) };
            below = oldest.position;
            if let Some(found) = page.iter().find(|record| news_of(group, &record.bytes)) {
                return Ok(found.position);
            }
        }
    }
}

fn news_of(group: &GroupId, bytes: &[u8]) -> bool {
    match Record::decode(bytes) {
        Ok(Record::Group(message)) => !message.discarded && crate::expand::group_of(&message) == Some(group),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
