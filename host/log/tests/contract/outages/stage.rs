//! Logs on something that breaks and is mended.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use heddle_log::{Disk, EmbeddedLog, Log, LogConfig, OpenError, SystemDisk};
use heddle_model::{Clock as _, ManualClock, SystemClock, Topic, TopicPartition};
use heddle_test_servers::{Kafka, or_skip};
use parking_lot::Mutex;
use tokio::sync::{Barrier, MutexGuard};

use crate::kafka;

/// Rules that share an outage.
const RULES: u32 = 3;
/// The longest that anything may take; what takes longer hangs.
const LATE: Duration = Duration::from_secs(60);
/// Between two looks at a condition.
const LOOK: Duration = Duration::from_millis(20);
/// What fills a disk.
const FILLER: TopicPartition = TopicPartition { topic: Topic::Control, partition: 0 };

/// The one broker of all outages, for a broker takes seconds to start; one outage at a time has it.
static BROKER: tokio::sync::Mutex<Option<Kafka>> = tokio::sync::Mutex::const_new(None);

/// Partitions of one rule: what is appended, and what is derived from it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lane {
    pub(super) source: TopicPartition,
    pub(super) target: TopicPartition,
}

/// A log, and a way to break what it stands on.
pub(super) struct Stage {
    /// None while it gives way to its successor.
    log: Mutex<Option<Arc<dyn Log>>>,
    ground: tokio::sync::Mutex<Ground>,
    met: Barrier,
    /// How long an append may take that fails.
    pub(super) append_max: Duration,
    /// A derivation waits for what is away instead of failing.
    pub(super) derivations_wait: bool,
    clock: SystemClock,
}

enum Ground {
    FullDisk { disk: Arc<BadDisk>, _directory: tempfile::TempDir },
    FailedSync { disk: Arc<BadDisk>, directory: tempfile::TempDir },
    DeadBroker(MutexGuard<'static, Option<Kafka>>),
    FrozenBroker(MutexGuard<'static, Option<Kafka>>),
}

impl Stage {
    pub(super) async fn when_its_disk_is_full() -> Option<Self> {
        let (disk, directory) = (Arc::new(BadDisk::default()), tempfile::tempdir().unwrap());
        let log = open(&directory, &disk).unwrap();
        Some(Self::on(log, Ground::FullDisk { disk, _directory: directory }))
    }

    pub(super) async fn when_a_sync_fails() -> Option<Self> {
        let (disk, directory) = (Arc::new(BadDisk::default()), tempfile::tempdir().unwrap());
        let log = open(&directory, &disk).unwrap();
        Some(Self::on(log, Ground::FailedSync { disk, directory }))
    }

    pub(super) async fn when_its_broker_dies() -> Option<Self> {
        Self::on_kafka(Ground::DeadBroker).await
    }

    pub(super) async fn when_its_broker_stands_still() -> Option<Self> {
        Self::on_kafka(Ground::FrozenBroker).await
    }

    async fn on_kafka(ground: impl FnOnce(MutexGuard<'static, Option<Kafka>>) -> Ground) -> Option<Self> {
        let mut held = BROKER.lock().await;
        match &mut *held {
            // An outage that failed may have left it as it was.
            Some(broker) => tokio::task::block_in_place(|| broker.restart()),
            none => *none = Some(or_skip(tokio::task::block_in_place(Kafka::start))?),
        }
        let config = kafka::config(held.as_ref()?, RULES);
        let log = kafka::follow(kafka::log(&config).await) as Arc<dyn Log>;
        let append_max = 10 * Duration::from_millis(config.append_ms);
        Some(Self { append_max, derivations_wait: true, ..Self::on(log, ground(held)) })
    }

    fn on(log: Arc<dyn Log>, ground: Ground) -> Self {
        Self {
            log: Mutex::new(Some(log)),
            ground: tokio::sync::Mutex::new(ground),
            met: Barrier::new(RULES as usize),
            append_max: Duration::from_secs(10),
            derivations_wait: false,
            clock: SystemClock::new(),
        }
    }

    pub(super) fn lane(&self, rule: u32) -> Lane {
        Lane { source: TopicPartition::messages(rule), target: TopicPartition::groups(rule) }
    }

    /// The log as it is now: one that closed for good has a successor when all is mended.
    pub(super) fn log(&self) -> Arc<dyn Log> {
        Arc::clone(self.log.lock().as_ref().unwrap())
    }

    /// Waits for all rules, and breaks what the log stands on.
    pub(super) async fn broken(&self) {
        if self.met.wait().await.is_leader() {
            self.ground.lock().await.broken(&*self.log()).await;
        }
        self.met.wait().await;
    }

    /// Waits for all rules, and mends it. None of them may hold the log meanwhile.
    pub(super) async fn mended(&self) {
        if self.met.wait().await.is_leader() {
            let ground = &mut *self.ground.lock().await;
            ground.mended();
            if let Ground::FailedSync { disk, directory } = ground {
                // It does not go on by itself: its port says that it is opened anew. Its last holder may be on the way out.
                drop(self.log.lock().take());
                self.until("it opens anew", async || match open(directory, disk) {
                    Ok(successor) => self.log.lock().replace(successor).is_none(),
                    Err(OpenError::InUse { .. }) => false,
                    Err(error) => panic!("{error}"),
                })
                .await;
            }
        }
        self.met.wait().await;
    }

    /// What comes in time, and how long it took.
    pub(super) async fn timed<T>(&self, what: &str, future: impl Future<Output = T>) -> (T, Duration) {
        let began = self.clock.monotonic();
        let Ok(answer) = tokio::time::timeout(LATE, future).await else { panic!("it hangs: {what}") };
        (answer, self.clock.monotonic() - began)
    }

    /// Waits until something holds.
    pub(super) async fn until(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let holds = async {
            while !holds().await {
                tokio::time::sleep(LOOK).await;
            }
        };
        self.timed(what, holds).await;
    }
}

impl Ground {
    async fn broken(&mut self, log: &dyn Log) {
        match self {
            Self::FullDisk { disk, .. } => {
                disk.full.store(true, Ordering::SeqCst);
                // What is in a file already can be written over: until that is used up, records find room.
                let mut records = 0;
                while log.append(FILLER, None, Bytes::from_static(b"filler")).await.is_ok() {
                    records += 1;
                    assert!(records < 500, "the disk is never full");
                }
            }
            Self::FailedSync { disk, .. } => disk.unsound.store(true, Ordering::SeqCst),
            Self::DeadBroker(broker) => broker.as_mut().unwrap().kill(),
            Self::FrozenBroker(broker) => broker.as_mut().unwrap().freeze(),
        }
    }

    fn mended(&mut self) {
        match self {
            Self::FullDisk { disk, .. } => disk.full.store(false, Ordering::SeqCst),
            Self::FailedSync { disk, .. } => disk.unsound.store(false, Ordering::SeqCst),
            Self::DeadBroker(broker) => tokio::task::block_in_place(|| broker.as_mut().unwrap().restart()),
            Self::FrozenBroker(broker) => broker.as_mut().unwrap().thaw(),
        }
    }
}

fn open(directory: &tempfile::TempDir, disk: &Arc<BadDisk>) -> Result<Arc<EmbeddedLog>, OpenError> {
    let config = LogConfig { partitions: RULES, segment_bytes: 64 << 10, ..LogConfig::new(directory.path()) };
    EmbeddedLog::open_with(config, Arc::new(ManualClock::at(1_000_000)), Arc::clone(disk) as _)
}

/// A disk that can be full, so that no file grows, and one that can fail to sync.
#[derive(Default)]
struct BadDisk {
    full: AtomicBool,
    unsound: AtomicBool,
}

impl Disk for BadDisk {
    fn write(&self, file: &File, bytes: &[u8], at: u64) -> std::io::Result<()> {
        if self.full.load(Ordering::SeqCst) && at + bytes.len() as u64 > file.metadata()?.len() {
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        SystemDisk.write(file, bytes, at)
    }

    fn sync(&self, file: &File) -> std::io::Result<()> {
        if self.unsound.load(Ordering::SeqCst) { Err(std::io::ErrorKind::Other.into()) } else { SystemDisk.sync(file) }
    }
}
