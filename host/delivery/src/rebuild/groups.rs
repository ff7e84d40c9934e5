//! Groups and their intervals, applied from where the log begins.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};

use heddle_model::{GroupId, Record, RecordError, Topic};
use heddle_store::GroupDelta;

use super::plan::Part;
use super::{Progress, RebuildError, Work};
use crate::judge::{Judge, Standing};
use crate::rows::Place;

/// Members that come, go or change, of all changes that are in memory at once.
const CHANGES_MAX: usize = 1 << 20;

/// The changes of each group, in order.
type Changes = HashMap<GroupId, Vec<GroupDelta>>;

impl Work<'_> {
    pub(super) async fn remake_groups(&mut self) -> Result<(), RebuildError> {
        let mut met = HashSet::new();
        for partition in self.numbering.partitioning.all().filter(|at| at.topic == Topic::GroupMessages) {
            let Some(part) = self.part(partition).copied() else { continue };
            // As many times through the log as its changes do not fit into memory.
            let (mut turns, mut turn) = (1, 0);
            while turn < turns {
                match self.changes(&part, turn, turns).await? {
                    Some(changes) => {
                        for (group, changes) in changes {
                            self.remake_group(&group, changes).await?;
                            met.insert(group);
                        }
                        turn += 1;
                    }
                    None => (turns, turn) = (turns * 2, 0),
                }
            }
            (self.tell)(Progress::Groups(partition));
        }
        self.remake_others(&met).await
    }

    async fn remake_group(&mut self, group: &GroupId, changes: Vec<GroupDelta>) -> Result<(), RebuildError> {
        let after = self.after_in_group(group);
        let keep = !self.rebuilt.dry_run;
        if self.store.rebuild.remake_group(group, after, changes, keep).await? {
            self.rebuilt.groups += 1;
        }
        Ok(())
    }

    /// Groups of which the log says nothing have nothing above where it begins.
    async fn remake_others(&mut self, met: &HashSet<GroupId>) -> Result<(), RebuildError> {
        let mut last: Option<GroupId> = None;
        loop {
            let page = self.store.rebuild.groups_above(last.as_ref(), self.config.page_events).await?;
            let Some((newest, _)) = page.last() else { return Ok(()) };
            last = Some(newest.clone());
            for (group, _) in page.into_iter().filter(|(group, _)| !met.contains(group)) {
                self.remake_group(&group, Vec::new()).await?;
            }
        }
    }

    /// The changes of a partition, of the groups whose turn it is; none if they are too many at once.
    async fn changes(&self, part: &Part, turn: u64, turns: u64) -> Result<Option<Changes>, RebuildError> {
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        let (mut changes, mut members) = (Changes::new(), 0);
        let (mut judge, mut from) = (Judge::default(), part.start);
        while from < part.next {
            let (records, next) = self.read(part, from).await?;
            for stored in records {
                let change = match Record::decode(&stored.bytes) {
                    Ok(record) if judge.judge(self.numbering, part.partition, &record) != Standing::Stands => continue,
                    Ok(Record::GroupChange(change)) => change,
                    Err(error @ RecordError::Newer(_)) => {
                        return Err(self.newer(part.partition, stored.offset, &error));
                    }
                    Ok(_) | Err(_) => continue,
                };
                if hasher.hash_one(&change.group) % turns != turn {
                    continue;
                }
                let position = self.numbering.position(stored.offset);
                let place = Place { partition: part.partition, position, at: stored.appended_at };
                let delta = place.delta(&change);
                members += 1 + delta.members.len();
                changes.entry(change.group).or_default().push(delta);
                if members > CHANGES_MAX && changes.len() > 1 {
                    return Ok(None);
                }
            }
            from = next;
        }
        Ok(Some(changes))
    }
}
