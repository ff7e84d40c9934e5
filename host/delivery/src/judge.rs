//! Whether a record stands: one judgement for worker, archiver, tail and history alike. (DELIVERY 8, 11)

use std::collections::BTreeMap;

use heddle_model::{Position, Record, Source, TopicPartition};
use serde::{Deserialize, Serialize};

use crate::numbering::Numbering;

/// What a reader of one partition must remember: from each source partition, the largest derived record seen. Read every record once, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Judge {
    seen: BTreeMap<TopicPartition, (Position, u32)>,
}

/// The verdict on one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It counts.
    Stands,
    /// It was made before: by a worker that crashed, or by a zombie beside its successor.
    Duplicate,
    /// A node put it there that did not know yet that the log was cut anew.
    Stray,
}

impl Judge {
    /// Judges the next record. Membership of a group message's sender is judged by the worker, which knows the members at its order.
    pub(crate) fn judge(&mut self, numbering: Numbering, partition: TopicPartition, record: &Record) -> Standing {
        if numbering.strays(partition, record) {
            return Standing::Stray;
        }
        self.made_of(record.source())
    }

    /// The same of a record that does not stray, by what it was derived from.
    pub(crate) fn made_of(&mut self, source: Option<Source>) -> Standing {
        source.map_or(Standing::Stands, |source| self.derived(source))
    }

    fn derived(&mut self, source: Source) -> Standing {
        let mark = (source.position, source.chunk);
        match self.seen.get(&source.partition) {
            Some(&seen) if mark <= seen => Standing::Duplicate,
            _ => {
                self.seen.insert(source.partition, mark);
                Standing::Stands
            }
        }
    }

    /// This one was read before, and stood: the largest of its partition.
    pub(crate) fn remember(&mut self, source: Source) {
        self.seen.insert(source.partition, (source.position, source.chunk));
    }

    /// As it is stored beside a cursor.
    pub(crate) fn encode(&self) -> bytes::Bytes {
        postcard::to_allocvec(self).unwrap_or_default().into()
    }

    /// As it was stored; none is a new one.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, postcard::Error> {
        if bytes.is_empty() { Ok(Self::default()) } else { postcard::from_bytes(bytes) }
    }
}

#[cfg(test)]
mod tests {
    use heddle_model::{ClientId, Partitioning, Rejection, UserId};

    use super::*;

    /// Of one partition, which is everybody's home.
    fn of(judge: &mut Judge, record: &Record) -> Standing {
        at(judge, false, record)
    }

    fn at(judge: &mut Judge, cut: bool, record: &Record) -> Standing {
        let numbering = Numbering { epoch: 1, partitioning: Partitioning { count: 1 }, cut };
        judge.judge(numbering, TopicPartition::messages(0), record)
    }

    fn derived(partition: u32, position: u64, chunk: u32) -> Record {
        Record::Rejection(Rejection {
            to: UserId::new("alice").unwrap(),
            client_id: ClientId::new("1").unwrap(),
            code: "not_member".into(),
            reason: "".into(),
            order: Position(position),
            source: Source { partition: TopicPartition::groups(partition), position: Position(position), chunk },
        })
    }

    #[test]
    fn a_second_copy_from_a_zombie_does_not_stand_and_other_sources_are_not_touched() {
        let mut judge = Judge::default();
        assert_eq!(of(&mut judge, &derived(1, 7, 0)), Standing::Stands);
        assert_eq!(of(&mut judge, &derived(1, 7, 1)), Standing::Stands);
        assert_eq!(of(&mut judge, &derived(1, 7, 0)), Standing::Duplicate);
        assert_eq!(of(&mut judge, &derived(2, 3, 0)), Standing::Stands);
        assert_eq!(of(&mut judge, &derived(1, 8, 0)), Standing::Stands);
    }

    #[test]
    fn it_goes_on_where_it_was_stored() {
        let mut judge = Judge::default();
        of(&mut judge, &derived(1, 7, 1));
        let mut again = Judge::decode(&judge.encode()).unwrap();
        assert_eq!(again, judge);
        assert_eq!(of(&mut again, &derived(1, 7, 1)), Standing::Duplicate);
    }

    #[test]
    fn what_a_node_derives_that_does_not_know_of_the_cut_does_not_stand_and_is_not_remembered() {
        let (old, new) = (derived(1, 7, 0), derived(1, Position::new(1, 7).0, 0));
        let mut judge = Judge::default();
        assert_eq!(at(&mut judge, true, &old), Standing::Stray);
        assert_eq!(judge, Judge::default());
        assert_eq!(at(&mut judge, true, &new), Standing::Stands);
        assert_eq!(at(&mut Judge::default(), false, &old), Standing::Stands);
        let elsewhere = Numbering { epoch: 1, partitioning: Partitioning { count: 1 }, cut: true };
        assert_eq!(judge.judge(elsewhere, TopicPartition::messages(1), &new), Standing::Stray);
    }
}
