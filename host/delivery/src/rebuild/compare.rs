//! What the archive has of a stretch against what the log makes of it.

use std::collections::BTreeMap;

use heddle_model::Conversation;
use heddle_store::{ArchiveBatch, StreamRow, StretchRows};
use serde::Serialize;

/// Rows of one table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// That the log makes.
    pub rows: u64,
    /// Of those, the ones that the archive did not have.
    pub missing: u64,
    /// Of those, the ones that it had otherwise.
    pub different: u64,
    /// That it had, and the log does not make.
    pub foreign: u64,
}

impl Tally {
    /// Nothing was wrong.
    #[must_use]
    pub fn whole(&self) -> bool {
        self.missing + self.different + self.foreign == 0
    }

    /// How the rows that are there differ from those that should be.
    pub(super) fn of<K: Ord, R: PartialEq>(
        made: impl Iterator<Item = (K, R)>,
        kept: impl Iterator<Item = (K, R)>,
    ) -> Self {
        let mut kept: BTreeMap<K, R> = kept.collect();
        let mut tally = Self::default();
        for (key, row) in made {
            tally.rows += 1;
            match kept.remove(&key) {
                None => tally.missing += 1,
                Some(other) if other != row => tally.different += 1,
                Some(_) => {}
            }
        }
        tally.foreign = kept.len() as u64;
        tally
    }

    pub(super) fn add(&mut self, other: Self) {
        self.rows += other.rows;
        self.missing += other.missing;
        self.different += other.different;
        self.foreign += other.foreign;
    }
}

/// Of the three tables that are cut by place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) records: Tally,
    pub(super) stream: Tally,
    pub(super) pulled: Tally,
}

impl Difference {
    pub(super) fn between(made: &ArchiveBatch, kept: &StretchRows) -> Self {
        let pulled = made.group_log.iter().filter(|row| row.pulled && !row.discarded);
        Self {
            records: Tally::of(
                made.records.iter().map(|row| (row.position, row)),
                kept.records.iter().map(|row| (row.position, row)),
            ),
            stream: Tally::of(
                made.stream.iter().map(|row| ((&row.user, row.position), as_kept(row))),
                kept.stream.iter().map(|row| ((&row.user, row.position), row.clone())),
            ),
            pulled: Tally::of(
                pulled.map(|row| ((&row.group, row.order), row)),
                kept.pulled.iter().map(|row| ((&row.group, row.order), row)),
            ),
        }
    }

    pub(super) fn none(&self) -> bool {
        self.records.whole() && self.stream.whole() && self.pulled.whole()
    }
}

/// A group's event is not sorted by its clock, which is not kept.
fn as_kept(row: &StreamRow) -> StreamRow {
    let lamport = match &row.conversation {
        Some(Conversation::Direct(_)) => row.lamport,
        _ => 0,
    };
    StreamRow { lamport, ..row.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_that_is_missing_changed_or_foreign_counts_once() {
        let tally = Tally::of([(1, 'a'), (2, 'b'), (3, 'c')].into_iter(), [(2, 'x'), (3, 'c'), (9, 'z')].into_iter());
        assert_eq!(tally, Tally { rows: 3, missing: 1, different: 1, foreign: 1 });
        assert!(!tally.whole() && Tally { rows: 3, ..Tally::default() }.whole());
    }
}
