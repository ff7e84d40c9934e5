//! The handle that a gateway holds, and what all parts of delivery share.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use heddle_log::Log;
use heddle_model::{Clock, NodeId, Offset, Partitioning, Position, TopicPartition};
use heddle_policy::Policies;
use heddle_presence::Presence;
use heddle_registry::{Bus, Registry};
use heddle_store::{DeadLetterRow, Hole, Store, StoreError};
use parking_lot::{Mutex, RwLock};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::DeliveryConfig;
use crate::denials::Denials;
use crate::groups::Groups;
use crate::hub::Hub;
use crate::judge::Judge;
use crate::numbering::Numbering;
use crate::pace::Pace;
use crate::partition::{Partition, partitions};
use crate::people::{NodeSink, People, StoreRelations};
use crate::receipts::Receipts;
use crate::send::InFlight;
use crate::{NodeMessage, archiver, denials, drain, late, neighbours, pace, share, worker};

/// The longest that a start waits for the workers.
const CATCH_UP: Duration = Duration::from_secs(30);
/// All connections are woken for losses of the bus at most this often.
const WAKE_PAUSE: Duration = Duration::from_secs(1);

/// Makes the bus of this node.
pub type BusMaker = Box<dyn FnOnce(heddle_registry::Inbox<NodeMessage>) -> Arc<dyn Bus<NodeMessage>> + Send>;

/// The backends and neighbours that delivery stands on.
pub struct Ports {
    /// The truth.
    pub log: Arc<dyn Log>,
    /// Archive and rows.
    pub store: Store,
    /// Who is connected where.
    pub registry: Arc<dyn Registry>,
    /// Makes the bus, given what takes in the messages for this node.
    pub bus: BusMaker,
    /// Who decides.
    pub policies: Policies,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// This node.
    pub node: NodeId,
}

/// Why delivery did not start.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// The store could not be asked.
    #[error("delivery cannot read its cursors: {0}")]
    Store(#[from] StoreError),
    /// A log that other nodes append to does not say how far it has come.
    #[error("the log does not say where its partitions end: {0}")]
    Log(String),
    /// A cursor's row is not what this build wrote.
    #[error("cursor of {partition} does not decode: {source}")]
    Cursor {
        /// Which.
        partition: TopicPartition,
        /// What the decoder said.
        source: postcard::Error,
    },
}

/// What all parts share.
pub(crate) struct Shared {
    pub(crate) config: DeliveryConfig,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) store: Store,
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) bus: Arc<dyn Bus<NodeMessage>>,
    pub(crate) policies: Policies,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) node: NodeId,
    pub(crate) numbering: Numbering,
    /// Where partitions begin in this epoch, if not at 0: what lies below has its position in the archive.
    pub(crate) starts: HashMap<TopicPartition, Offset>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) groups: Groups,
    pub(crate) people: People,
    pub(crate) denials: Arc<Denials>,
    pub(crate) presence: Presence,
    pub(crate) receipts: Receipts,
    pub(crate) in_flight: InFlight,
    pub(crate) pace: Arc<Pace>,
    /// This node follows a log that others append to as well.
    pub(crate) follows: bool,
    /// Why no send is accepted, while what waits could be forgotten by the log before it is safe.
    pub(crate) late: Mutex<Option<String>>,
    /// What neither log nor archive has.
    pub(crate) holes: RwLock<Vec<Hole>>,
    partitions: HashMap<TopicPartition, Partition>,
    /// Ends the tasks.
    pub(crate) stop: CancellationToken,
    tasks: TaskTracker,
}

impl Shared {
    /// The partition's part of delivery.
    ///
    /// # Panics
    /// For a partition that the layout does not have: positions and homes are made from the same layout.
    pub(crate) fn partition(&self, partition: TopicPartition) -> &Partition {
        self.partitions.get(&partition).expect("every partition of the layout is there")
    }

    /// As [`partition`](Self::partition), of one that a row names.
    pub(crate) fn find(&self, partition: TopicPartition) -> Option<&Partition> {
        self.partitions.get(&partition)
    }

    /// The archive has everything below `next`, and its judge stands there.
    pub(crate) fn archived_upto(&self, partition: TopicPartition, next: Offset, judge: Judge) {
        let upto = self.numbering.upto(next);
        let part = self.partition(partition);
        {
            let mut base = part.base.lock();
            if next <= base.0 {
                return;
            }
            *base = (next, judge);
        }
        self.log.archived(partition, next);
        part.tail.archived(upto);
        self.groups.archived(partition, upto);
        part.void.lock().retain(|position| *position > upto);
        part.archived.send_if_modified(|archived| std::mem::replace(archived, next.max(*archived)) < next);
    }

    /// The position of the newest durable record of a partition.
    pub(crate) fn head(&self, partition: TopicPartition) -> Position {
        self.numbering.upto(*self.log.head(partition).borrow())
    }
}

/// The handle: cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Delivery {
    pub(crate) shared: Arc<Shared>,
}

/// What a node works on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Owned {
    /// How many partitions.
    pub partitions: u32,
    /// Their records that nobody has worked on yet.
    pub derive_lag: u64,
}

impl Delivery {
    /// Reads cursors, starts a worker per partition and the archiver.
    ///
    /// # Errors
    /// If the store cannot be asked, or holds a cursor of another build.
    pub async fn start(config: DeliveryConfig, ports: Ports) -> Result<Self, DeliveryError> {
        let layout = ports.log.layout();
        let partitioning = Partitioning { count: layout.partitions };
        let ends = |log: &Arc<dyn Log>| partitioning.all().map(|p| (p, *log.head(p).borrow())).collect::<Vec<_>>();
        let at_least = if layout.shared { share::heads(&ports).await? } else { ends(&ports.log) };
        let epoch = ports.store.epochs.epoch(layout.identity.0, layout.partitions, &at_least).await?;
        let heads = ends(&ports.log);
        let starts: HashMap<_, _> = ports.store.epochs.starts(epoch).await?.into_iter().collect();
        let numbering = Numbering { epoch, partitioning, cut: !starts.is_empty() };
        let partitions = partitions(&config, &ports, numbering).await?;
        let holes = RwLock::new(ports.store.epochs.holes().await?);

        let denying = Arc::new(Denials::open(&config, ports.store.clone()).await?);
        let hub = Arc::new(Hub::default());
        let pace = Arc::new(Pace::default());
        let (inbox, hinted, hurried) = (Arc::clone(&hub), Arc::clone(&denying), Arc::clone(&pace));
        let (told, heard) = mpsc::channel(neighbours::WAITING_MAX);
        let bus = (ports.bus)(Arc::new(move |message| match message {
            // What finds no room is asked for later.
            NodeMessage::Tidings(tidings) => drop(told.try_send(tidings.clone())),
            NodeMessage::Denials => hinted.hint.notify_one(),
            NodeMessage::Hurry => hurried.hurry(),
            other => inbox.receive(other),
        }));
        let presence = Presence::start(
            config.presence.clone(),
            Arc::new(ports.policies.clone()),
            Arc::new(StoreRelations::new(ports.store.clone(), Arc::clone(&denying))),
            Arc::new(NodeSink::new(Arc::clone(&bus), ports.node.clone())),
            Arc::clone(&ports.clock),
        );
        let shared = Arc::new(Shared {
            groups: Groups::new(&config, partitioning, ports.store.clone()),
            people: People::new(&config, ports.store.clone(), &ports.clock, layout.shared),
            denials: denying,
            late: Mutex::default(),
            receipts: Receipts::new(&config),
            in_flight: InFlight::new(config.in_flight_max),
            pace,
            log: ports.log,
            store: ports.store,
            registry: ports.registry,
            bus,
            policies: ports.policies,
            clock: ports.clock,
            node: ports.node,
            numbering,
            starts,
            hub,
            presence,
            follows: layout.shared,
            holes,
            partitions,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            config,
        });
        for partition in partitioning.all() {
            shared.tasks.spawn(worker::run(Arc::clone(&shared), partition));
        }
        for shard in 0..shared.store.archive.shards() {
            shared.tasks.spawn(archiver::run(Arc::clone(&shared), shard));
        }
        shared.tasks.spawn(denials::watch(Arc::clone(&shared)));
        shared.tasks.spawn(drain::run(Arc::clone(&shared)));
        if layout.shared {
            shared.tasks.spawn(share::own(Arc::clone(&shared)));
            for shard in 0..shared.store.archive.shards() {
                shared.tasks.spawn(share::follow_archive(Arc::clone(&shared), shard));
            }
            shared.tasks.spawn(share::keep_derived(Arc::clone(&shared)));
            shared.presence.join(shared.node.clone(), shared.clock.now());
            shared.tasks.spawn(neighbours::run(Arc::clone(&shared), heard));
            // Topics that keep everything forget nothing.
            if let Some(retention) = shared.log.kept_for() {
                shared.tasks.spawn(late::watch(Arc::clone(&shared), retention.max(1)));
            }
        }
        shared.tasks.spawn(listen_for_losses(Arc::clone(&shared)));
        for task in Receipts::tasks(&shared) {
            shared.tasks.spawn(task);
        }
        let delivery = Self { shared };
        delivery.catch_up(&heads).await;
        Ok(delivery)
    }

    /// Waits, bounded, until the workers have read what the log had: before that nobody knows who is in which group.
    async fn catch_up(&self, heads: &[(TopicPartition, Offset)]) {
        let all = async {
            for (partition, head) in heads {
                let mut worked = self.shared.partition(*partition).worked.subscribe();
                drop(worked.wait_for(|at| at >= head).await);
            }
        };
        if tokio::time::timeout(CATCH_UP, all).await.is_err() {
            tracing::warn!("workers are still reading the log; groups may be a little out of date");
        }
    }

    /// Waits, at most `patience`, until everything durable is derived and archived, then ends the tasks. Nothing is lost by a shorter wait:
    /// the next start goes on from the cursors.
    pub async fn stop(&self, patience: Duration) {
        let settle = async {
            for partition in self.shared.owned() {
                let head = *self.shared.log.head(partition).borrow();
                self.archived(partition, head).await;
            }
        };
        if tokio::time::timeout(patience, settle).await.is_err() {
            tracing::warn!("stopped before the archive had everything; it goes on from its cursor at the next start");
        }
        self.shared.stop.cancel();
        self.shared.tasks.close();
        if tokio::time::timeout(Duration::from_secs(5), self.shared.tasks.wait()).await.is_err() {
            tracing::warn!("some delivery tasks did not end in time");
        }
    }

    /// Who is there.
    #[must_use]
    pub fn presence(&self) -> &Presence {
        &self.shared.presence
    }

    /// How offsets become positions here.
    #[must_use]
    pub fn numbering(&self) -> Numbering {
        self.shared.numbering
    }

    /// In how many databases the archive lies. The number of partitions is a multiple of it, always.
    #[must_use]
    pub fn archive_shards(&self) -> u32 {
        self.shared.store.archive.shards()
    }

    /// Records that are durable and not archived yet: how far the archive is behind.
    #[must_use]
    pub fn archive_lag(&self) -> u64 {
        self.shared.archive_lag()
    }

    /// What this node works on, and how far behind it is.
    #[must_use]
    pub fn owned(&self) -> Owned {
        let shared = &self.shared;
        let (mut partitions, mut derive_lag) = (0, 0);
        for partition in shared.owned() {
            partitions += 1;
            derive_lag += shared.log.head(partition).borrow().saturating_sub(shared.log.derived(partition));
        }
        Owned { partitions, derive_lag }
    }

    /// The records that were given up, those of last first. (DELIVERY 13)
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn dead_letters(&self, limit: u32) -> Result<Vec<DeadLetterRow>, StoreError> {
        self.shared.store.archive.dead_letters(limit).await
    }

    /// Waits until the archive has everything of `partition` below `upto`, which it is asked to write now.
    pub(crate) async fn archived(&self, partition: TopicPartition, upto: Offset) {
        let part = self.shared.partition(partition);
        let mut archived = part.archived.subscribe();
        while *archived.borrow_and_update() < upto {
            // Again and again: a worker may have to come first, and a word to another node may be lost.
            if *part.owned.borrow() {
                self.shared.pace.hurry();
            } else {
                self.shared.pace.hurry_all(&self.shared).await;
            }
            // The sender lives as long as `shared`.
            drop(tokio::time::timeout(pace::LEAST, archived.wait_for(|at| *at >= upto)).await);
        }
    }
}

impl Shared {
    /// Records that are durable and not archived yet: how far the archive is behind.
    pub(crate) fn archive_lag(&self) -> u64 {
        (0..self.store.archive.shards()).map(|shard| self.archive_lag_of(shard)).sum()
    }

    /// The same in one shard of the archive.
    pub(crate) fn archive_lag_of(&self, shard: u32) -> u64 {
        let behind = |p| self.log.head(p).borrow().saturating_sub(*self.partition(p).archived.borrow());
        self.owned().filter(|partition| self.store.archive.shard(*partition) == shard).map(behind).sum()
    }

    /// Bytes of what it has in memory of them.
    pub(crate) fn unarchived_bytes_of(&self, shard: u32) -> usize {
        let owned = self.owned().filter(|partition| self.store.archive.shard(*partition) == shard);
        owned.map(|partition| self.partition(partition).tail.bytes()).sum()
    }

    /// The partitions that this node works on.
    pub(crate) fn owned(&self) -> impl Iterator<Item = TopicPartition> + '_ {
        self.numbering.partitioning.all().filter(|partition| *self.partition(*partition).owned.borrow())
    }
}

/// When the bus may have lost messages, or others did not know whom this node holds, every connection of this node looks into its stream.
/// (DELIVERY 14)
async fn listen_for_losses(shared: Arc<Shared>) {
    let (mut state, mut found) = (shared.bus.state(), shared.registry.found_again());
    let (mut before, mut found_before) = (*state.borrow_and_update(), *found.borrow_and_update());
    loop {
        tokio::select! {
            changed = state.changed() => if changed.is_err() { return },
            changed = found.changed() => if changed.is_err() { return },
            () = shared.stop.cancelled() => return,
        }
        let (now, found_now) = (*state.borrow_and_update(), *found.borrow_and_update());
        let found_again = std::mem::replace(&mut found_before, found_now) != found_now;
        if now.lost > before.lost || (now.whole && !before.whole) || found_again {
            shared.hub.wake_all();
            // What is lost meanwhile wakes once more.
            tokio::select! {
                () = tokio::time::sleep(WAKE_PAUSE) => {}
                () = shared.stop.cancelled() => return,
            }
        }
        before = now;
    }
}
