//! Partitions of all topics in one row, so that tables are plain slices.

use heddle_model::{Topic, TopicPartition};

/// The row: all of `messages`, all of `group_messages`, then `control`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slots {
    /// Partitions of `messages` and of `group_messages`, each.
    pub(crate) partitions: u32,
}

impl Slots {
    /// How many places the row has.
    pub(crate) fn count(self) -> usize {
        2 * self.partitions as usize + 1
    }

    /// The place of a partition, if the log has it.
    pub(crate) fn index(self, at: TopicPartition) -> Option<usize> {
        let count = self.partitions;
        match at.topic {
            Topic::Messages if at.partition < count => Some(at.partition as usize),
            Topic::GroupMessages if at.partition < count => Some((count + at.partition) as usize),
            Topic::Control if at.partition == 0 => Some(2 * count as usize),
            _ => None,
        }
    }

    /// The partition at a place.
    pub(crate) fn at(self, index: usize) -> TopicPartition {
        let (index, count) = (index as u32, self.partitions);
        match index {
            i if i < count => TopicPartition::messages(i),
            i if i < 2 * count => TopicPartition::groups(i - count),
            _ => TopicPartition { topic: Topic::Control, partition: 0 },
        }
    }
}

/// The code of a topic on disk.
pub(crate) fn topic_code(topic: Topic) -> u32 {
    match topic {
        Topic::Messages => 0,
        Topic::GroupMessages => 1,
        Topic::Control => 2,
    }
}

/// The topic of a code.
pub(crate) fn topic_of(code: u32) -> Option<Topic> {
    Topic::ALL.get(code as usize).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_partition_has_its_own_place() {
        let slots = Slots { partitions: 3 };
        for index in 0..slots.count() {
            assert_eq!(slots.index(slots.at(index)), Some(index));
        }
        assert_eq!(slots.index(TopicPartition::messages(3)), None);
        assert_eq!(slots.count(), 7);
    }
}
