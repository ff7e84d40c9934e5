//! Values on their way into and out of a database: integers, partitions, ids. The same in all of them.

use heddle_model::{Conversation, GroupId, IdError, Millis, Position, Role, Topic, TopicPartition, UserId};

use crate::fault::Fault;

/// A `u64` as a database holds it.
pub(crate) fn int(table: &'static str, value: u64) -> Result<i64, Fault> {
    i64::try_from(value).map_err(|_| Fault::broken(table, format!("{value} does not fit 63 bits")))
}

/// What [`int`] wrote.
pub(crate) fn uint(table: &'static str, value: i64) -> Result<u64, Fault> {
    u64::try_from(value).map_err(|_| Fault::broken(table, format!("{value} is negative")))
}

/// A position as a database holds it.
pub(crate) fn place(table: &'static str, position: Position) -> Result<i64, Fault> {
    int(table, position.0)
}

/// What [`place`] wrote.
pub(crate) fn position(table: &'static str, value: i64) -> Result<Position, Fault> {
    uint(table, value).map(Position)
}

/// A time as a database holds it; one beyond 63 bits stays at the end of time.
pub(crate) fn time(at: Millis) -> i64 {
    i64::try_from(at).unwrap_or(i64::MAX)
}

/// Topic and number in one: topic + 4 x number.
pub(crate) fn partition_code(partition: TopicPartition) -> i64 {
    let topic = match partition.topic {
        Topic::Messages => 0,
        Topic::GroupMessages => 1,
        Topic::Control => 2,
    };
    topic + 4 * i64::from(partition.partition)
}

/// What [`partition_code`] wrote.
pub(crate) fn partition(table: &'static str, code: i64) -> Result<TopicPartition, Fault> {
    let topic = match code.rem_euclid(4) {
        0 => Topic::Messages,
        1 => Topic::GroupMessages,
        2 => Topic::Control,
        _ => return Err(Fault::broken(table, format!("partition code {code} has no topic"))),
    };
    let partition = u32::try_from(code.div_euclid(4))
        .map_err(|_| Fault::broken(table, format!("partition code {code} is out of range")))?;
    Ok(TopicPartition { topic, partition })
}

/// An id that was checked when it came in, read back.
pub(crate) fn id<T>(table: &'static str, parsed: Result<T, IdError>) -> Result<T, Fault> {
    parsed.map_err(|error| Fault::broken(table, error.to_string()))
}

/// A user read back.
pub(crate) fn user(table: &'static str, text: &str) -> Result<UserId, Fault> {
    id(table, UserId::new(text))
}

/// A group read back.
pub(crate) fn group(table: &'static str, text: &str) -> Result<GroupId, Fault> {
    id(table, GroupId::new(text))
}

/// A conversation read back.
pub(crate) fn conversation(table: &'static str, text: &str) -> Result<Conversation, Fault> {
    id(table, Conversation::parse(text))
}

/// Bytes of a fixed length read back.
pub(crate) fn fixed<const N: usize>(table: &'static str, bytes: &[u8]) -> Result<[u8; N], Fault> {
    bytes.try_into().map_err(|_| Fault::broken(table, format!("{} bytes where {N} belong", bytes.len())))
}

/// A role as a database holds it.
pub(crate) fn role_code(role: Role) -> i64 {
    match role {
        Role::Member => 0,
        Role::Admin => 1,
    }
}

/// What [`role_code`] wrote.
pub(crate) fn role(code: i64) -> Result<Role, Fault> {
    match code {
        0 => Ok(Role::Member),
        1 => Ok(Role::Admin),
        _ => Err(Fault::broken("group_members", format!("role code {code} is unknown"))),
    }
}

/// An interval of one member, the end exclusive; without an end it is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Interval {
    pub(crate) joined: Position,
    pub(crate) left: Option<Position>,
}

impl Interval {
    /// Is the member one at this order?
    pub(crate) fn contains(&self, order: Position) -> bool {
        self.joined <= order && self.left.is_none_or(|left| left > order)
    }
}

/// The interval's end, exclusive.
pub(crate) fn end_of(interval: Interval) -> Result<i64, Fault> {
    interval.left.map_or(Ok(i64::MAX), |left| place("group_members", left))
}

/// Positions have 10 bits for it.
const EPOCH_MAX: i64 = 1023;

/// An epoch read back.
pub(crate) fn epoch_in_range(epoch: i64) -> Result<u32, Fault> {
    if !(0..=EPOCH_MAX).contains(&epoch) {
        return Err(Fault::broken("epochs", format!("epoch {epoch} is beyond {EPOCH_MAX}")));
    }
    Ok(epoch as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_partition_reads_back_from_its_code() {
        for topic in Topic::ALL {
            for number in [0, 1, 99, u32::MAX] {
                let whole = TopicPartition { topic, partition: number };
                assert_eq!(partition("records", partition_code(whole)).unwrap(), whole);
            }
        }
        assert!(partition("records", 3).is_err());
        assert!(partition("records", -1).is_err());
    }
}
