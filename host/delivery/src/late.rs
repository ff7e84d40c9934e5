//! Whether the cursors keep up with a log that forgets by age whatever has become of its records. (DELIVERY 24)

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use heddle_model::{Millis, Offset, TopicPartition};

use crate::delivery::Shared;

/// How often it is looked.
const LOOK: Duration = Duration::from_secs(2);
/// Ages are known to such a part of what the log keeps.
const PARTS: Millis = 64;

/// When records of one partition were appended, as far apart as a part of what the log keeps: how old the first is that waits is then known of any
/// cursor without a read for each of many partitions, however fast it moves.
#[derive(Debug)]
pub(crate) struct Marks {
    step: Millis,
    marks: VecDeque<(Offset, Millis)>,
}

/// A cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cursor {
    /// Up to where records were worked on; known of this node's partitions.
    Derived,
    /// Up to where they are archived; known of all.
    Archived,
}

impl Marks {
    /// For a log that keeps records so long.
    pub(crate) fn new(kept_for: Option<Millis>) -> Self {
        Self { step: kept_for.map_or(Millis::MAX, |kept| (kept / PARTS).max(1)), marks: VecDeque::new() }
    }

    /// The worker met a record. One that starts again meets some again.
    pub(crate) fn note(&mut self, offset: Offset, at: Millis) {
        match self.marks.back() {
            Some((last, since)) if offset <= *last || at < since.saturating_add(self.step) => return,
            Some(_) => {}
            None if self.step == Millis::MAX => return,
            None => {}
        }
        self.marks.push_back((offset, at));
        // What is older is gone.
        while self.marks.len() as u64 > 2 * PARTS {
            self.marks.pop_front();
        }
    }

    /// When the record at `offset`, which the worker has met, was appended: not later than it was, nor more than a step earlier. None: before all
    /// that is known.
    fn before(&self, offset: Offset) -> Option<Millis> {
        let behind = self.marks.partition_point(|(mark, _)| *mark <= offset);
        self.marks.get(behind.checked_sub(1)?).map(|(_, at)| *at)
    }
}

impl Cursor {
    fn name(self) -> &'static str {
        match self {
            Self::Derived => "derived",
            Self::Archived => "archived",
        }
    }
}

/// Looks how old the oldest record is that waits, and refuses sends beyond half the retention, until told to stop.
pub(crate) async fn watch(shared: Arc<Shared>, retention: Millis) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = shared.stop.cancelled() => return,
        }
        let mut reasons = Vec::new();
        for cursor in [Cursor::Derived, Cursor::Archived] {
            let age = oldest(&shared, cursor).await;
            metrics::gauge!("heddle_retention_used_ratio", "cursor" => cursor.name())
                .set(age as f64 / retention as f64);
            if age > retention / 2 {
                reasons.push(format!("a record waits for {} s to be {}", age / 1_000, cursor.name()));
            }
        }
        let late = (!reasons.is_empty())
            .then(|| format!("{}, of the {} s that the log keeps it", reasons.join(", "), retention / 1_000));
        let mut known = shared.late.lock();
        if known.is_some() != late.is_some() {
            match &late {
                Some(reason) => tracing::error!(reason, "sends are refused until what waits is safe"),
                None => tracing::info!("what waited is safe, sends are accepted"),
            }
        }
        *known = late;
    }
}

/// The age of the oldest record above any such cursor.
async fn oldest(shared: &Shared, cursor: Cursor) -> Millis {
    let mut age = 0;
    for partition in shared.numbering.partitioning.all() {
        let part = shared.partition(partition);
        let at = match cursor {
            Cursor::Archived => *part.archived.borrow(),
            Cursor::Derived if *part.owned.borrow() => shared.log.derived(partition),
            Cursor::Derived => continue,
        };
        if at >= *shared.log.head(partition).borrow() {
            continue;
        }
        let met = at < *part.worked.borrow();
        let known = met.then(|| part.marks.lock().before(at)).flatten();
        let since = match known {
            Some(since) => Some(since),
            None => appended_at(shared, partition, at).await,
        };
        age = since.map_or(age, |since| age.max(shared.clock.now().saturating_sub(since)));
    }
    age
}

/// When the record at `at` was appended, from the log itself.
async fn appended_at(shared: &Shared, partition: TopicPartition, at: Offset) -> Option<Millis> {
    match shared.log.read(partition, at, 1).await {
        Ok(batch) => batch.in_order().first().map(|(stored, _)| stored.appended_at),
        Err(error) => {
            tracing::debug!(%partition, %error, "how long its oldest record waits is not known now");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cursors that had moved since the last look were once left out: an archive that moves, and more slowly than records come, was never late.
    #[test]
    fn the_age_of_what_waits_is_known_wherever_a_cursor_stands() {
        let mut marks = Marks::new(Some(6_400));
        for offset in 0..1_000 {
            marks.note(offset, 50_000 + 10 * offset);
        }
        for at in 0..1_000 {
            let (since, really) = (marks.before(at).unwrap(), 50_000 + 10 * at);
            assert!(since <= really && really < since + 100, "{at}: {since}, {really}");
        }
        assert_eq!(marks.marks.len(), 100);
    }

    #[test]
    fn a_pause_is_not_the_age_of_what_comes_after_it_and_what_is_met_again_changes_nothing() {
        let mut marks = Marks::new(Some(6_400));
        for (offset, at) in [(5, 1_000), (6, 90_000), (5, 1_000), (6, 90_000), (7, 90_010)] {
            marks.note(offset, at);
        }
        assert_eq!([5, 6, 7].map(|at| marks.before(at)), [Some(1_000), Some(90_000), Some(90_000)]);
        assert_eq!(marks.before(4), None);
    }

    #[test]
    fn no_more_is_remembered_than_twice_what_the_log_keeps() {
        let (mut marks, mut forgets_nothing) = (Marks::new(Some(640)), Marks::new(None));
        for offset in 0..10_000 {
            marks.note(offset, offset * 10);
            forgets_nothing.note(offset, offset * 10);
        }
        assert_eq!((marks.marks.len(), forgets_nothing.marks.len()), (128, 0));
    }
}
