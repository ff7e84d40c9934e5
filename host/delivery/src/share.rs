//! A log that several nodes share: which partitions are this node's, how far the others have come, and the cursors that the log does not keep.
//! (DELIVERY 10, 24)
//!
//! Every node follows every partition: it judges each record, has the tails and the groups, and pushes to its own connections. Who is assigned a
//! partition works on it too: derives and archives. A node that takes one over begins again from the cursors in the store.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use heddle_model::{GroupId, Offset, Partitioning, Position, TopicPartition, UserId};
use heddle_store::{Cursor, StoreError};

use crate::GroupView;
use crate::delivery::{DeliveryError, Ports, Shared};
use crate::judge::Judge;

/// Above every offset that a log comes to, and still one that a position has room for.
const OFFSET_MAX: Offset = (1 << 43) - 2;
/// How often it looks how far others have archived.
const LOOK: Duration = Duration::from_millis(250);
/// How often cursors are kept. A crash derives so much again.
const KEEP: Duration = Duration::from_secs(1);
/// Between two tries of something that failed.
const RETRY: Duration = Duration::from_millis(250);

/// What the log has at least, for the check whether it lost something. Other nodes archive meanwhile, so that their cursors pass what was asked a
/// moment ago: the cursors are read first, and where the log has come past all of them it is whole, however far they go until they are read again.
pub(crate) async fn heads(ports: &Ports) -> Result<Vec<(TopicPartition, Offset)>, DeliveryError> {
    let cursors = ports.store.archive.cursors().await?;
    ports.log.catch_up().await.map_err(DeliveryError::Log)?;
    let newest = cursors.iter().map(|cursor| cursor.upto.epoch()).max();
    let whole = cursors.iter().filter(|cursor| Some(cursor.upto.epoch()) == newest).all(|cursor| {
        let head = *ports.log.head(cursor.partition).borrow();
        cursor.upto.next_offset(cursor.upto.epoch()).is_none_or(|next| next <= head)
    });
    let partitions = Partitioning { count: ports.log.layout().partitions }.all();
    Ok(partitions.map(|p| (p, if whole { OFFSET_MAX } else { *ports.log.head(p).borrow() })).collect())
}

impl Shared {
    /// The group, if the user is a member. Before it says no, it makes sure that it knows what other nodes appended: the change that makes the user
    /// one may have been answered by another node a moment ago. (DELIVERY 17)
    pub(crate) async fn group_of(&self, group: &GroupId, user: &UserId) -> Result<Option<Arc<GroupView>>, StoreError> {
        let member = |view: Option<Arc<GroupView>>| view.filter(|view| view.is_member(user));
        let known = member(self.groups.view(group).await?);
        if known.is_some() || !self.follows {
            return Ok(known);
        }
        let home = self.numbering.partitioning.group_home(group);
        let caught_up = async {
            self.log.catch_up().await?;
            let head = *self.log.head(home).borrow();
            let mut worked = self.partition(home).worked.subscribe();
            drop(worked.wait_for(|worked| *worked >= head).await);
            Ok::<_, String>(())
        };
        let patience = Duration::from_millis(self.config.group_wait_ms);
        let caught_up =
            tokio::time::timeout(patience, caught_up).await.unwrap_or_else(|_| Err("not in time".to_owned()));
        caught_up.map_err(|reason| StoreError::Unavailable { operation: "catch up with the log", reason })?;
        Ok(member(self.groups.view(group).await?))
    }
}

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

/// From where the one before has come to. Partitions whose shard of the archive does not answer keep no others waiting.
async fn take_over(shared: &Shared, gained: &[TopicPartition]) -> Result<(), StoreError> {
    if gained.is_empty() {
        return Ok(());
    }
    let archive = &shared.store.archive;
    let derived: HashMap<_, _> = archive.derived().await?.into_iter().collect();
    let mut waiting = Ok(());
    for shard in 0..archive.shards() {
        let part: Vec<TopicPartition> = gained.iter().copied().filter(|at| archive.shard(*at) == shard).collect();
        if part.is_empty() {
            continue;
        }
        match archive.cursors_of(shard).await {
            Ok(cursors) => catch_up(shared, &cursors, |partition| part.contains(&partition)),
            Err(error) => {
                waiting = Err(error);
                continue;
            }
        }
        for partition in part {
            let at = derived.get(&partition).and_then(|upto| shared.numbering.next(*upto)).unwrap_or(0);
            shared.log.recall(partition, at);
            shared.partition(partition).owned.send_replace(true);
        }
    }
    waiting
}

/// Learns how far a shard of the archive has come where others write it.
pub(crate) async fn follow_archive(shared: Arc<Shared>, shard: u32) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = shared.stop.cancelled() => return,
        }
        match shared.store.archive.cursors_of(shard).await {
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
