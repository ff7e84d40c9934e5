//! Where offsets become positions: the log counts from 0 in each of its lives, users count for ever. (DELIVERY 2)

use heddle_model::{Offset, Partitioning, Position, Record, TopicPartition};

/// The epoch of the log that is open, and its partition count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbering {
    /// Which life of the log.
    pub epoch: u32,
    /// Where users and groups live.
    pub partitioning: Partitioning,
    /// This epoch began when the log was cut into another number of partitions.
    pub cut: bool,
}

impl Numbering {
    /// The position of the record at `offset`.
    #[must_use]
    pub fn position(self, offset: Offset) -> Position {
        Position::new(self.epoch, offset)
    }

    /// Whether a node that does not know yet that the log was cut anew put it there, or derived it: all that counts of the epoch before was derived
    /// from before this one began. (DELIVERY 26)
    #[must_use]
    pub fn strays(self, partition: TopicPartition, record: &Record) -> bool {
        self.cut
            && (record.home(self.partitioning) != partition
                || record.source().is_some_and(|source| source.position.epoch() < self.epoch))
    }

    /// The position that covers everything below `next`; before this log's first record: the end of the epoch before.
    #[must_use]
    pub fn upto(self, next: Offset) -> Position {
        Position(Position::new(self.epoch, next).0 - 1)
    }

    /// The first offset above a position, in this log; none if it is of a later life.
    #[must_use]
    pub fn next(self, position: Position) -> Option<Offset> {
        position.next_offset(self.epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_covers_nothing_of_this_log_stands_below_its_first_record() {
        let numbering = Numbering { epoch: 2, partitioning: Partitioning { count: 1 }, cut: false };
        assert!(numbering.upto(0) < numbering.position(0));
        assert_eq!(numbering.upto(5), numbering.position(4));
        assert_eq!(numbering.next(numbering.upto(0)), Some(0));
    }
}
