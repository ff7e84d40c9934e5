//! Whether a record stands: one judgement for worker, archiver, tail and history alike. (DELIVERY 8, 11)

use std::collections::BTreeMap;

use heddle_model::{Position, Record, Source, TopicPartition};
use serde::{Deserialize, Serialize};

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
}

impl Judge {
    /// Judges the next record. Membership of a group message's sender is judged by the worker, which knows the members at its order.
    pub(crate) fn judge(&mut self, record: &Record) -> Standing {
        match record.source() {
            Some(source) => self.derived(source),
            None => Standing::Stands,
        }
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
    use heddle_model::{ClientId, Rejection, UserId};

    use super::*;

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
        assert_eq!(judge.judge(&derived(1, 7, 0)), Standing::Stands);
        assert_eq!(judge.judge(&derived(1, 7, 1)), Standing::Stands);
        assert_eq!(judge.judge(&derived(1, 7, 0)), Standing::Duplicate);
        assert_eq!(judge.judge(&derived(2, 3, 0)), Standing::Stands);
        assert_eq!(judge.judge(&derived(1, 8, 0)), Standing::Stands);
    }

    #[test]
    fn it_goes_on_where_it_was_stored() {
        let mut judge = Judge::default();
        judge.judge(&derived(1, 7, 1));
        let mut again = Judge::decode(&judge.encode()).unwrap();
        assert_eq!(again, judge);
        assert_eq!(again.judge(&derived(1, 7, 1)), Standing::Duplicate);
    }
}
