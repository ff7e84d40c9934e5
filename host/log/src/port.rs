//! What a log promises. One contract suite runs on every implementation.

use async_trait::async_trait;
use bytes::Bytes;
use heddle_model::{MessageId, Millis, Offset, TopicPartition};
use tokio::sync::watch;

/// Which log this is: made anew, it has another identity, and positions another epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity(pub [u8; 16]);

/// What does not change while a log is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Which log.
    pub identity: Identity,
    /// Partitions of `messages` and of `group_messages`, each.
    pub partitions: u32,
    /// Other nodes append to it too, and share its partitions with this one; it keeps no `derived` cursor of its own.
    pub shared: bool,
}

/// Where a record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// In which partition.
    pub partition: TopicPartition,
    /// At which offset.
    pub offset: Offset,
}

/// What became of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// It is durable, here.
    New(Place),
    /// Its message id was in the log (or in the same commit before it): nothing was appended, the first stands here.
    Existing(Place),
}

/// Records that a worker made, and how far it has come: durable together or not at all where the log can do so, else the records first, in order.
#[derive(Debug, Clone)]
pub struct Derived {
    /// Whose records were worked on.
    pub source: TopicPartition,
    /// The `derived` cursor after this: the offset of the first source record that is not covered.
    pub upto: Offset,
    /// What was made of them, in source order.
    pub records: Vec<(TopicPartition, Bytes)>,
    /// Nobody waits for them: they may share the commit of what comes soon after.
    pub patient: bool,
}

/// A durable record.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Where in its partition.
    pub offset: Offset,
    /// The log's clock when it was appended.
    pub appended_at: Millis,
    /// What was appended.
    pub bytes: Bytes,
}

/// What a read gave: in order, without holes from the first to `next`.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// The records; none if `from` was the head.
    pub records: Vec<Stored>,
    /// Those between them that do not stand because their id occurred before: only a log that several nodes append to has such.
    pub repeats: Vec<Repeat>,
    /// Where to read on.
    pub next: Offset,
}

/// A record that does not stand, for an earlier one of its partition has its id.
#[derive(Debug, Clone)]
pub struct Repeat {
    /// What it is.
    pub stored: Stored,
    /// Where the earlier one stands.
    pub first: Offset,
}

impl Batch {
    /// All of them as they lie in the partition; with each that repeats another, where that one stands.
    #[must_use]
    pub fn in_order(self) -> Vec<(Stored, Option<Offset>)> {
        let mut all: Vec<_> = self.records.into_iter().map(|stored| (stored, None)).collect();
        if !self.repeats.is_empty() {
            all.extend(self.repeats.into_iter().map(|repeat| (repeat.stored, Some(repeat.first))));
            all.sort_by_key(|(stored, _)| stored.offset);
        }
        all
    }
}

/// Why an append gave no place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// It may or may not be durable: say `unavailable`, the sender tries again under the same id. (DELIVERY rule 7.)
    #[error("append to {partition} has an unknown outcome: {reason}")]
    Unknown {
        /// Where to.
        partition: TopicPartition,
        /// What happened.
        reason: String,
    },
    /// It is certainly not there: the queue is full, the log is closed, or the record too large.
    #[error("append to {partition} refused: {reason}")]
    Refused {
        /// Where to.
        partition: TopicPartition,
        /// What to do.
        reason: String,
    },
}

/// Why a read gave nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Below what is kept.
    #[error("{partition} starts at offset {start}, offset {from} is gone by retention")]
    Gone {
        /// Which partition.
        partition: TopicPartition,
        /// What was asked for.
        from: Offset,
        /// Its first offset.
        start: Offset,
    },
    /// Not now.
    #[error("{partition} cannot be read at offset {from}: {reason}")]
    Unavailable {
        /// Which partition.
        partition: TopicPartition,
        /// What was asked for.
        from: Offset,
        /// What happened.
        reason: String,
    },
}

/// Nobody can tell whether an id is in the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("message {id} cannot be looked up: {reason}")]
pub struct LookupError {
    /// Which.
    pub id: MessageId,
    /// What happened.
    pub reason: String,
}

/// A durable, partitioned, append-only log.
///
/// - An append is answered, and its record readable, only when it is durable. (DELIVERY rule 1.)
/// - Appends to one partition that were started one after the other stand in that order.
/// - After a failed sync the log refuses everything until it is opened anew from disk.
/// - Every queue is bounded: a full one is [`AppendError::Refused`] for `append`, a wait for `derive`.
/// - A dropped future of `append` does not take the record back: its outcome is unknown.
#[async_trait]
pub trait Log: Send + Sync + 'static {
    /// Identity and partition count.
    fn layout(&self) -> Layout;

    /// Appends one record; with an id, only if that id is not in the log (for as long as `dedupe.window`).
    ///
    /// # Errors
    /// Refused, or of unknown outcome.
    async fn append(
        &self,
        partition: TopicPartition,
        id: Option<MessageId>,
        bytes: Bytes,
    ) -> Result<Appended, AppendError>;

    /// Appends what a worker made, and moves its cursor, which only grows. Answers the place of each record.
    ///
    /// # Errors
    /// Refused, or of unknown outcome: the worker starts again from its cursor.
    async fn derive(&self, derived: Derived) -> Result<Vec<Offset>, AppendError>;

    /// Durable records from `from`: at least one if there is one, then as many as fit `bytes_max`.
    ///
    /// # Errors
    /// Gone by retention, or not readable now.
    async fn read(&self, partition: TopicPartition, from: Offset, bytes_max: usize) -> Result<Batch, ReadError>;

    /// Where the record of this id stands, if the log had it within `dedupe.window` (it may be gone by retention since) or it is not archived yet.
    /// `elsewhere`: another node may have appended it a moment ago; a log that is shared then makes sure that it has read everything that there is,
    /// and that none is where the archive has not come.
    ///
    /// # Errors
    /// If nobody can tell.
    async fn lookup(&self, id: &MessageId, elsewhere: bool) -> Result<Option<Place>, LookupError>;

    /// Learns of everything that other nodes appended before this call, as far as partitions are followed. A log of one node knows it already.
    ///
    /// # Errors
    /// Nobody tells in time.
    async fn catch_up(&self) -> Result<(), String> {
        Ok(())
    }

    /// The offset after the last durable record, now and as it grows.
    fn head(&self, partition: TopicPartition) -> watch::Receiver<Offset>;

    /// The head as whoever keeps the log says now: what another node appended before this call lies below it.
    ///
    /// # Errors
    /// Nobody says.
    async fn head_now(&self, partition: TopicPartition) -> Result<Offset, String> {
        Ok(*self.head(partition).borrow())
    }

    /// Begins to read ahead: the first that will be asked for is `from`. Once per partition; a log that is not shared has no need of it.
    fn follow(&self, _partition: TopicPartition, _from: Offset) {}

    /// The `derived` cursor: the first offset that no worker has finished.
    fn derived(&self, partition: TopicPartition) -> Offset;

    /// Tells a log that keeps no `derived` cursor where it stood.
    fn recall(&self, _partition: TopicPartition, _derived: Offset) {}

    /// Tells the log how far the archive has come: retention never passes it, and ids above it are not forgotten.
    fn archived(&self, partition: TopicPartition, upto: Offset);

    /// How long records are kept, if the log forgets them by age whatever the cursors say.
    fn kept_for(&self) -> Option<Millis> {
        None
    }

    /// Which partitions this node works on, now and as they are assigned and taken away. Embedded: all of them, for ever.
    fn assigned(&self) -> watch::Receiver<Vec<TopicPartition>>;
}
