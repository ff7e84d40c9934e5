//! What is rebuilt: from the first record that the log keeps of this epoch to where the archive has come.

use std::collections::HashMap;
use std::time::Duration;

use heddle_log::{Batch, Log, ReadError};
use heddle_model::{Offset, POSITION_MAX, Partitioning, Position, TopicPartition};
use heddle_store::{Store, Stretch};

use super::RebuildError;
use crate::numbering::Numbering;

/// Times that a log which cannot be read now is asked again, and the pause between.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(250);

/// The retained and archived part of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) partition: TopicPartition,
    /// The first offset that is kept.
    pub(super) start: Offset,
    /// The first that is not archived.
    pub(super) next: Offset,
}

impl Part {
    /// All positions that are not below it: rows above the cursor are nobody's.
    pub(super) fn stretch(&self, numbering: Numbering) -> Stretch {
        Stretch { partition: self.partition, after: numbering.upto(self.start), upto: Position(POSITION_MAX) }
    }
}

/// How the log is numbered, and its parts.
pub(super) async fn plan(
    log: &dyn Log,
    store: &Store,
) -> Result<(Numbering, HashMap<TopicPartition, Part>), RebuildError> {
    let layout = log.layout();
    let (identity, partitions) = store.epochs.newest().await?.ok_or(RebuildError::NoLog)?;
    if identity != layout.identity.0 || partitions != layout.partitions {
        return Err(RebuildError::AnotherLog { found: partitions });
    }
    // It is on record, and without heads there is no doubt about it: nothing is opened.
    let epoch = store.epochs.epoch(identity, partitions, &[]).await?;
    let starts: HashMap<_, _> = store.epochs.starts(epoch).await?.into_iter().collect();
    let numbering = Numbering { epoch, partitioning: Partitioning { count: partitions }, cut: !starts.is_empty() };
    let cursors: HashMap<_, _> =
        store.archive.cursors().await?.into_iter().map(|cursor| (cursor.partition, cursor.upto)).collect();
    let first = |partition| starts.get(&partition).copied().unwrap_or(0);
    for partition in numbering.partitioning.all() {
        log.follow(partition, first(partition));
    }
    let mut parts = HashMap::new();
    for partition in numbering.partitioning.all() {
        let start = start(log, partition, first(partition)).await?;
        let upto = cursors.get(&partition).copied().unwrap_or(Position::START);
        let head = log.head_now(partition).await.map_err(RebuildError::Log)?;
        let next = numbering.next(upto).filter(|next| *next <= head);
        let next = next.ok_or(RebuildError::Beyond { partition, upto, end: numbering.upto(head) })?;
        parts.insert(partition, Part { partition, start, next: next.max(start) });
    }
    Ok((numbering, parts))
}

/// The first offset that is kept, not below `from`.
async fn start(log: &dyn Log, partition: TopicPartition, from: Offset) -> Result<Offset, RebuildError> {
    match patiently(log, partition, from, 1).await {
        Ok(_) => Ok(from),
        Err(ReadError::Gone { start, .. }) => Ok(start),
        Err(error) => Err(RebuildError::Log(error.to_string())),
    }
}

/// Reads; asks again where that may help.
pub(super) async fn patiently(
    log: &dyn Log,
    partition: TopicPartition,
    from: Offset,
    bytes_max: usize,
) -> Result<Batch, ReadError> {
    let mut tries = 0;
    loop {
        match log.read(partition, from, bytes_max).await {
            Err(error @ ReadError::Unavailable { .. }) if tries < TRIES => {
                tracing::debug!(%partition, %error, "the log is asked again");
                tries += 1;
                tokio::time::sleep(PAUSE).await;
            }
            other => return other,
        }
    }
}
