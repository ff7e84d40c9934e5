//! A log that several nodes share: which partitions are this node's, how far the others have come, and the cursors that the log does not keep.
//! (DELIVERY 10, 24)
//!
//! Every node follows every partition: it judges each record, has the tails and the groups, and pushes to its own connections. Who is assigned a
//! partition works on it too: derives and archives. A node that takes one over begins again from the cursors in the store.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use heddle_model::{Offset, Position, TopicPartition};
use heddle_store::{Cursor, StoreError};

use crate::delivery::Shared;
use crate::judge::Judge;

/// How often it looks how far others have archived.
const LOOK: Duration = Duration::from_millis(250);
/// How often cursors are kept. A crash derives so much again.
const KEEP: Duration = Duration::from_secs(1);
/// Between two tries of something that failed.
const RETRY: Duration = Duration::from_millis(250);

/// Takes over what is assigned to this node, and lets go of what is taken away.
pub(crate) async fn own(shared: Arc<Shared>) {
    let mut assigned = shared.log.assigned();
    loop {
        let now: HashSet<TopicPartition> = assigned.borrow_and_update().iter().copied().collect();
        let (mut lost, mut gained) = (0, Vec::new());
        for partition in shared.numbering.partitioning.all() {
            let owned = &shared.partition(partition).owned;
            // Not looked at in the match: that would hold what is then changed.
            let owns = *owned.borrow();
            match (owns, now.contains(&partition)) {
                (true, false) => {
                    owned.send_replace(false);
                    lost += 1;
                }
                (false, true) => gained.push(partition),
                _ => {}
            }
        }
        metrics::gauge!("heddle_partitions_owned").set(now.len() as f64);
        if lost + gained.len() > 0 {
            tracing::info!(gained = gained.len(), lost, "partitions change hands");
        }
        let again = match take_over(&shared, &gained).await {
            Ok(()) => false,
            Err(error) => {
                tracing::warn!(%error, "partitions wait for the store before they are worked on");
                !gained.is_empty()
            }
        };
        tokio::select! {
            changed = assigned.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(RETRY), if again => {}
            () = shared.stop.cancelled() => return,
        }
    }
}

/// From where the one before has come to.
async fn take_over(shared: &Shared, gained: &[TopicPartition]) -> Result<(), StoreError> {
    if gained.is_empty() {
        return Ok(());
    }
    let derived: HashMap<_, _> = shared.store.archive.derived().await?.into_iter().collect();
    catch_up(shared, &shared.store.archive.cursors().await?, |partition| gained.contains(&partition));
    for partition in gained {
        let at = derived.get(partition).and_then(|upto| shared.numbering.next(*upto)).unwrap_or(0);
        shared.log.recall(*partition, at);
        shared.partition(*partition).owned.send_replace(true);
    }
    Ok(())
}

/// Learns how far the archive has come where others write it.
pub(crate) async fn follow_archive(shared: Arc<Shared>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = shared.stop.cancelled() => return,
        }
        match shared.store.archive.cursors().await {
            Ok(cursors) => catch_up(&shared, &cursors, |partition| !*shared.partition(partition).owned.borrow()),
            Err(error) => tracing::debug!(%error, "how far the archive has come is not known now"),
        }
    }
}

fn catch_up(shared: &Shared, cursors: &[Cursor], which: impl Fn(TopicPartition) -> bool) {
    for cursor in cursors {
        let Some(part) = shared.find(cursor.partition).filter(|_| which(cursor.partition)) else { continue };
        let Some(next) = shared.numbering.next(cursor.upto) else { continue };
        if next <= *part.archived.borrow() {
            continue;
        }
        match Judge::decode(&cursor.judge) {
            Ok(judge) => shared.archived_upto(cursor.partition, next, judge),
            Err(error) => tracing::error!(partition = %cursor.partition, %error, "a cursor does not decode"),
        }
    }
}

/// Keeps the cursors of what is derived, for a log that does not.
pub(crate) async fn keep_derived(shared: Arc<Shared>) {
    let mut kept: HashMap<TopicPartition, Offset> = HashMap::new();
    loop {
        let stopped = tokio::select! {
            () = tokio::time::sleep(KEEP) => false,
            () = shared.stop.cancelled() => true,
        };
        let cursors: Vec<(TopicPartition, Offset)> = shared
            .owned()
            .map(|partition| (partition, shared.log.derived(partition)))
            .filter(|(partition, derived)| kept.get(partition).is_none_or(|kept| kept < derived))
            .collect();
        if !cursors.is_empty() {
            let rows: Vec<(TopicPartition, Position)> =
                cursors.iter().map(|(partition, next)| (*partition, shared.numbering.upto(*next))).collect();
            match shared.store.archive.keep_derived(&rows).await {
                Ok(()) => kept.extend(cursors),
                Err(error) => tracing::debug!(%error, "cursors wait for the store"),
            }
        }
        if stopped {
            return;
        }
    }
}
