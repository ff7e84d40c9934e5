//! How a log on Kafka is set up, and what each setting becomes for librdkafka.

use heddle_model::{Millis, Topic};
use rdkafka::ClientConfig;

use super::pem::KafkaTls;
use super::security::{KafkaLogin, secure};
use crate::Identity;

/// A log on Kafka or Redpanda.
#[derive(Debug, Clone)]
pub struct KafkaConfig {
    /// `host:port` of some brokers, with commas.
    pub brokers: String,
    /// How connections are encrypted; without it they are not.
    pub tls: Option<KafkaTls>,
    /// Who we are, where brokers ask.
    pub login: Option<KafkaLogin>,
    /// Topics are called `PREFIX.messages`, `PREFIX.group_messages` and `PREFIX.control`; the consumer group is `PREFIX.workers`.
    pub prefix: String,
    /// This node, as brokers show it.
    pub client: String,
    /// Partitions of `messages` and of `group_messages`, each, when the topics are made.
    pub partitions: u32,
    /// The log that is known, and the partitions that it has, whatever `partitions` says: topics that have fewer get more.
    pub known: Option<(Identity, u32)>,
    /// Copies of each partition, when a topic is made.
    pub replication: u32,
    /// Copies that an append waits for.
    pub min_in_sync: u32,
    /// Takes topics with fewer than 3 copies or fewer than 2 in sync, which lose records with a broker.
    pub lenient: bool,
    /// How long records are kept, when a topic is made.
    pub retention_ms: Millis,
    /// Of two records with one id so near each other, the second does not stand.
    pub dedupe_ms: Millis,
    /// An append that is not acknowledged in this time has an unknown outcome.
    pub append_ms: Millis,
    /// A node that the group has not heard of for this long loses its partitions.
    pub session_ms: Millis,
    /// A broker answers the reader once it has so many bytes for it,
    pub fetch_bytes: usize,
    /// or after this time.
    pub fetch_wait_ms: Millis,
    /// Records kept in memory.
    pub cache_bytes: usize,
    /// Ids of the last `dedupe_ms` that are remembered, and as many that are not archived yet; each partition has an equal share. The same at all
    /// nodes: with it the window becomes shorter.
    pub ids_max: usize,
    /// Records of one partition that do not stand and are not archived yet; beyond it the partition is read no further.
    pub skipped_max: usize,
    /// Records that wait for brokers in each of the two producers.
    pub queue_max: usize,
    /// Bytes of them.
    pub queue_bytes_max: usize,
    /// The longest record.
    pub record_bytes_max: usize,
    /// Works on partitions. A node that does not only follows them.
    pub works: bool,
}

/// An append that lands so much later than it was asked for is void: its sender was told that it failed. (DELIVERY 23)
pub(crate) const LATE_MAX_MS: Millis = 30_000;
/// Brokers' clocks may be behind ours by this much.
pub(crate) const EARLY_MAX_MS: Millis = 5_000;

impl KafkaConfig {
    /// Defaults, for one node of that name.
    #[must_use]
    pub fn new(brokers: &str, client: &str) -> Self {
        Self {
            brokers: brokers.to_owned(),
            tls: None,
            login: None,
            prefix: "heddle".to_owned(),
            client: client.to_owned(),
            partitions: 100,
            known: None,
            replication: 3,
            min_in_sync: 2,
            lenient: false,
            retention_ms: 7 * 24 * 3_600_000,
            dedupe_ms: 600_000,
            append_ms: 5_000,
            session_ms: 10_000,
            fetch_bytes: 1,
            fetch_wait_ms: 100,
            cache_bytes: 256 << 20,
            ids_max: 4_000_000,
            skipped_max: 20_000,
            queue_max: 100_000,
            queue_bytes_max: 128 << 20,
            record_bytes_max: 1 << 20,
            works: true,
        }
    }

    pub(crate) fn topic(&self, topic: Topic) -> String {
        format!("{}.{topic}", self.prefix)
    }

    /// The longest record with what Kafka lays around it.
    pub(crate) fn message_bytes_max(&self) -> usize {
        self.record_bytes_max + 4_096
    }

    fn base(&self) -> ClientConfig {
        let mut base = ClientConfig::new();
        base.set("bootstrap.servers", &self.brokers)
            .set("client.id", &self.client)
            // A broker that comes back is found within a second.
            .set("reconnect.backoff.max.ms", "1000")
            .set("socket.keepalive.enable", "true")
            .set("socket.timeout.ms", "10000")
            .set("topic.metadata.refresh.interval.ms", "60000");
        secure(&mut base, self.tls.as_ref(), self.login.as_ref());
        base
    }

    pub(crate) fn admin(&self) -> ClientConfig {
        self.base()
    }

    fn producer(&self) -> ClientConfig {
        let mut producer = self.base();
        producer
            .set("acks", "all")
            .set("enable.idempotence", "true")
            // Waiting 2 ms makes batches of what comes together; a batch that is under way makes more wait anyway.
            .set("linger.ms", "2")
            .set("batch.size", "1000000")
            .set("compression.type", "lz4")
            .set("message.max.bytes", self.message_bytes_max().to_string())
            .set("queue.buffering.max.messages", self.queue_max.to_string())
            .set("queue.buffering.max.kbytes", (self.queue_bytes_max >> 10).max(1).to_string());
        producer
    }

    /// For what clients send: an answer within a deadline, whatever it is.
    pub(crate) fn sender(&self) -> ClientConfig {
        let mut sender = self.producer();
        sender.set("message.timeout.ms", self.append_ms.to_string());
        sender
    }

    /// For what workers derive: no time-out and no gap, so that a later record never stands without an earlier. (DELIVERY 8, 22)
    pub(crate) fn deriver(&self) -> ClientConfig {
        let mut deriver = self.producer();
        deriver.set("message.timeout.ms", "0").set("enable.gapless.guarantee", "true");
        deriver
    }

    /// For reading at places that we choose.
    pub(crate) fn reader(&self) -> ClientConfig {
        let mut reader = self.base();
        reader
            .set("group.id", format!("{}.readers", self.prefix))
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("check.crcs", "true")
            .set("fetch.wait.max.ms", "100")
            .set("fetch.error.backoff.ms", "100")
            // Per partition, before our own bound stops it.
            .set("queued.min.messages", "1000")
            .set("queued.max.messages.kbytes", "16384");
        reader
    }

    /// For following all partitions.
    pub(crate) fn follower(&self) -> ClientConfig {
        let mut follower = self.reader();
        follower
            .set("fetch.min.bytes", self.fetch_bytes.to_string())
            .set("fetch.wait.max.ms", self.fetch_wait_ms.to_string());
        follower
    }

    /// For sharing partitions among the nodes that work.
    pub(crate) fn member(&self) -> ClientConfig {
        let mut member = self.base();
        member
            .set("group.id", self.group())
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", self.session_ms.to_string())
            .set("heartbeat.interval.ms", (self.session_ms / 4).max(100).to_string())
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // It fetches nothing: its partitions are paused.
            .set("auto.offset.reset", "latest")
            .set("queued.max.messages.kbytes", "1024");
        member
    }

    pub(crate) fn group(&self) -> String {
        format!("{}.workers", self.prefix)
    }
}
