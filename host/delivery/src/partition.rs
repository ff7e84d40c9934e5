//! What delivery keeps of each partition.

use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroUsize;
use std::sync::Arc;

use heddle_model::{Offset, Position, TopicPartition};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::config::DeliveryConfig;
use crate::delivery::{DeliveryError, Ports};
use crate::judge::Judge;
use crate::late::Marks;
use crate::numbering::Numbering;
use crate::tail::{Budget, Tail};

/// What delivery keeps of one partition.
pub(crate) struct Partition {
    pub(crate) tail: Tail,
    /// Everything below was read by the worker: judged, in the tail, pushed.
    pub(crate) worked: watch::Sender<Offset>,
    /// What records below make is durable, as far as this node makes it.
    pub(crate) made: watch::Sender<Offset>,
    /// Everything below is in the archive.
    pub(crate) archived: watch::Sender<Offset>,
    /// Where the archive's judge stood at a cursor that was stored, which is the other half.
    pub(crate) base: Mutex<(Offset, Judge)>,
    /// This node works on it: derives and archives. Of a log of its own it does so always.
    pub(crate) owned: watch::Sender<bool>,
    /// Group messages above the archive that do not stand, and why.
    pub(crate) void: Mutex<BTreeSet<Position>>,
    /// When its records were appended, as the worker met them.
    pub(crate) marks: Mutex<Marks>,
}

/// Each partition from its archive's cursor.
pub(crate) async fn partitions(
    config: &DeliveryConfig,
    ports: &Ports,
    numbering: Numbering,
) -> Result<HashMap<TopicPartition, Partition>, DeliveryError> {
    let mut cursors: HashMap<_, _> =
        ports.store.archive.cursors().await?.into_iter().map(|cursor| (cursor.partition, cursor)).collect();
    let users_max = NonZeroUsize::new(config.users_cached).unwrap_or(NonZeroUsize::MIN);
    let mut partitions = HashMap::new();
    let budget = Budget::new(config.tail_bytes_max, numbering.partitioning.all().count());
    for partition in numbering.partitioning.all() {
        let cursor = cursors.remove(&partition);
        let judge = cursor.as_ref().map_or(Ok(Judge::default()), |cursor| Judge::decode(&cursor.judge));
        let judge = judge.map_err(|source| DeliveryError::Cursor { partition, source })?;
        let archived = cursor.and_then(|cursor| numbering.next(cursor.upto)).unwrap_or(0);
        ports.log.archived(partition, archived);
        ports.log.follow(partition, archived);
        let tail = Tail::new(numbering.upto(archived), config.tail_events_max, Arc::clone(&budget), users_max);
        partitions.insert(
            partition,
            Partition {
                tail,
                worked: watch::Sender::new(archived),
                made: watch::Sender::new(0),
                archived: watch::Sender::new(archived),
                base: Mutex::new((archived, judge)),
                owned: watch::Sender::new(!ports.log.layout().shared),
                void: Mutex::default(),
                marks: Mutex::new(Marks::new(ports.log.kept_for())),
            },
        );
    }
    Ok(partitions)
}
