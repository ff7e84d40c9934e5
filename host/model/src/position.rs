//! One growing number per user.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a record stands in its partition of the log: dense, from 0, as Kafka counts. Only the log and its workers speak of it.
pub type Offset = u64;

/// Offsets of one epoch: 2^43.
const OFFSET_BITS: u32 = 43;

/// The largest position: they stay below 2^53, so that a JavaScript number holds them.
pub const POSITION_MAX: u64 = (1 << 53) - 1;

/// What a client resumes from, `offset` and `order` on the wire: epoch x 2^43 + log offset + 1.
///
/// Strictly increasing for ever, not contiguous; 0 stands before everything. (DELIVERY rule 2.)
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Position(pub u64);

impl Position {
    /// Before every event.
    pub const START: Self = Self(0);

    /// The position of the record at `offset` in a log of this epoch.
    ///
    /// # Panics
    /// Beyond 1,023 epochs or 2^43 - 2 records in a partition, which no log reaches.
    #[must_use]
    pub fn new(epoch: u32, offset: Offset) -> Self {
        assert!(epoch < 1 << (53 - OFFSET_BITS), "epoch {epoch} is out of range");
        assert!(offset < (1 << OFFSET_BITS) - 1, "offset {offset} is out of range");
        Self((u64::from(epoch) << OFFSET_BITS) + offset + 1)
    }

    /// Which life of the log it belongs to.
    #[must_use]
    pub fn epoch(self) -> u32 {
        (self.0 >> OFFSET_BITS) as u32
    }

    /// The offset of the first record after this position in a log of `epoch`: where reading goes on.
    /// A position of an older epoch lies before all of this log; one of a newer epoch has no place in it.
    #[must_use]
    pub fn next_offset(self, epoch: u32) -> Option<Offset> {
        match self.epoch().cmp(&epoch) {
            std::cmp::Ordering::Less => Some(0),
            std::cmp::Ordering::Equal => Some(self.0 & ((1 << OFFSET_BITS) - 1)),
            std::cmp::Ordering::Greater => None,
        }
    }

    /// The offset of the record at this position in a log of `epoch`, if it is one of that log.
    #[must_use]
    pub fn offset(self, epoch: u32) -> Option<Offset> {
        (self.epoch() == epoch).then(|| self.next_offset(epoch)).flatten()?.checked_sub(1)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_epoch_stands_above_every_offset_of_an_older_one() {
        assert!(Position::new(1, 0) > Position::new(0, (1 << OFFSET_BITS) - 2));
    }

    #[test]
    fn reading_goes_on_behind_the_position() {
        assert_eq!(Position::START.next_offset(0), Some(0));
        assert_eq!(Position::new(3, 7).next_offset(3), Some(8));
        assert_eq!(Position::new(3, 7).offset(3), Some(7));
        assert_eq!(Position::new(2, 7).next_offset(3), Some(0));
        assert_eq!(Position::new(4, 7).next_offset(3), None);
        assert_eq!(Position::START.offset(0), None);
    }
}
