//! Whether the cursors keep up with a log that forgets by age whatever has become of its records. (DELIVERY 24)

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use heddle_model::{Millis, Offset, TopicPartition};

use crate::delivery::Shared;

/// How often it is looked.
const LOOK: Duration = Duration::from_secs(2);

/// A cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Cursor {
    /// Up to where records were worked on; known of this node's partitions.
    Derived,
    /// Up to where they are archived; known of all.
    Archived,
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
    let mut last = HashMap::new();
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = shared.stop.cancelled() => return,
        }
        let mut reasons = Vec::new();
        for cursor in [Cursor::Derived, Cursor::Archived] {
            let age = oldest(&shared, cursor, &mut last).await;
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

/// The age of the oldest record above any such cursor, as far as it stood still since the last look: one that moves is not late.
async fn oldest(shared: &Shared, cursor: Cursor, last: &mut HashMap<(Cursor, TopicPartition), Offset>) -> Millis {
    let mut age = 0;
    for partition in shared.numbering.partitioning.all() {
        let part = shared.partition(partition);
        let at = match cursor {
            Cursor::Archived => *part.archived.borrow(),
            Cursor::Derived if *part.owned.borrow() => shared.log.derived(partition),
            Cursor::Derived => continue,
        };
        let stood = last.insert((cursor, partition), at) == Some(at);
        if !stood || at >= *shared.log.head(partition).borrow() {
            continue;
        }
        match shared.log.read(partition, at, 1).await {
            Ok(batch) => {
                let waits = batch.records.first().map(|record| record.appended_at);
                age = waits.map_or(age, |since| age.max(shared.clock.now().saturating_sub(since)));
            }
            Err(error) => tracing::debug!(%partition, %error, "how long its oldest record waits is not known now"),
        }
    }
    age
}
