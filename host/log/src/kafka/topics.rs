//! The topics of a log: made if they are missing, checked if they are there. (DELIVERY 22)

use std::time::Duration;

use heddle_model::{Millis, Offset, Topic, TopicPartition};
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{Offset as At, TopicPartitionList};

use super::config::KafkaConfig;
use super::context::{Consumer, Quiet};
use super::{security, settings};
use crate::Identity;

/// The longest that a broker may take to answer one question at start.
const ANSWER: Duration = Duration::from_secs(10);
/// How often what was just made is asked for, and the pause between.
const TRIES: u32 = 40;
const PAUSE: Duration = Duration::from_millis(250);
/// The key of the record that says which log this is.
const IDENTITY_KEY: &[u8] = b"identity";

/// Why a log on Kafka does not open.
#[derive(Debug, thiserror::Error)]
pub enum KafkaOpenError {
    /// A setting that librdkafka refuses.
    #[error("Kafka client refuses its settings: {0}")]
    Setting(KafkaError),
    /// Nobody answers.
    #[error("no broker of {brokers:?} answers: {source}; start one, or correct kafka.brokers")]
    Unreachable {
        /// As configured.
        brokers: String,
        /// What librdkafka says.
        source: KafkaError,
    },
    /// Somebody takes connections, and ends them for what they hear.
    #[error("no broker of {brokers:?} answers: {source}; start one, or correct kafka.brokers")]
    Ended {
        /// As configured.
        brokers: String,
        /// What librdkafka says.
        source: KafkaError,
    },
    /// Somebody answers, and does not believe us, or we do not believe them.
    #[error("{key}: no broker of {brokers:?} lets us in: {reason}; {remedy}")]
    Refused {
        /// As configured.
        brokers: String,
        /// The key that most likely is wrong.
        key: &'static str,
        /// What librdkafka says.
        reason: String,
        /// What mends it.
        remedy: String,
        /// It is the broker's certificate that is not believed; librdkafka does not say why.
        certificate: bool,
    },
    /// A topic is not as it must be.
    #[error("Kafka topic {topic} {wrong}; {remedy}")]
    Topic {
        /// Which.
        topic: String,
        /// What it has.
        wrong: String,
        /// What mends it.
        remedy: String,
    },
}

/// What the topics are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    /// Which log.
    pub(crate) identity: Identity,
    /// In how many partitions it is cut.
    pub(crate) partitions: u32,
    /// How long records are kept; none: for ever.
    pub(crate) retention: Option<Millis>,
}

/// Makes what is missing, checks what is there, and reads what it is.
pub(crate) async fn prepare(config: &KafkaConfig) -> Result<Found, KafkaOpenError> {
    let arriving = config.clone();
    let arrived = tokio::task::spawn_blocking(move || security::arrive(&arriving, security::ASKS)).await;
    arrived.unwrap_or(Err(KafkaOpenError::Setting(KafkaError::Canceled)))?;
    let admin: AdminClient<Quiet> = config.admin().create_with_context(Quiet).map_err(KafkaOpenError::Setting)?;
    let unreachable = |source| KafkaOpenError::Unreachable { brokers: config.brokers.clone(), source };
    make(config, &admin).await.map_err(unreachable)??;
    let asking = config.clone();
    // librdkafka blocks.
    let read = tokio::task::spawn_blocking(move || patiently(|| identity(&asking))).await;
    let identity = read.unwrap_or(Err(KafkaError::Canceled)).map_err(unreachable)?;
    let known = config.known.filter(|(known, _)| *known == identity).map(|(_, partitions)| partitions);
    if let Some(partitions) = known {
        grow(config, &admin, partitions).await?;
    }
    let retention = check(config, &admin, known).await?;
    Ok(Found { identity, partitions: known.unwrap_or(config.partitions), retention })
}

/// Gives topics with fewer partitions as many.
async fn grow(config: &KafkaConfig, admin: &AdminClient<Quiet>, partitions: u32) -> Result<(), KafkaOpenError> {
    let unreachable = |source| KafkaOpenError::Unreachable { brokers: config.brokers.clone(), source };
    for topic in [Topic::Messages, Topic::GroupMessages] {
        let name = config.topic(topic);
        let metadata = admin.inner().fetch_metadata(Some(&name), ANSWER).map_err(unreachable)?;
        let has = metadata.topics().first().map_or(0, |found| found.partitions().len());
        let wanted = usize::try_from(partitions).unwrap_or(usize::MAX);
        if has >= wanted {
            continue;
        }
        let more = [NewPartitions::new(&name, wanted)];
        let options = AdminOptions::new().request_timeout(Some(ANSWER)).operation_timeout(Some(ANSWER));
        for made in admin.create_partitions(&more, &options).await.map_err(unreachable)? {
            match made {
                // Another node was quicker.
                Ok(_) | Err((_, RDKafkaErrorCode::InvalidPartitions)) => {}
                Err((topic, code)) => {
                    return Err(wrong(
                        topic,
                        format!("has {has} partitions, and {wanted} cannot be made: {code}"),
                        "allow this user to alter it, or make them by hand",
                    ));
                }
            }
        }
    }
    Ok(())
}

fn wrong(topic: String, wrong: String, remedy: &str) -> KafkaOpenError {
    KafkaOpenError::Topic { topic, wrong, remedy: remedy.to_owned() }
}

async fn make(config: &KafkaConfig, admin: &AdminClient<Quiet>) -> Result<Result<(), KafkaOpenError>, KafkaError> {
    let retention = config.retention_ms.to_string();
    let (min_in_sync, bytes) = (config.min_in_sync.to_string(), config.message_bytes_max().to_string());
    let names: Vec<(String, Topic)> = Topic::ALL.into_iter().map(|topic| (config.topic(topic), topic)).collect();
    let topics: Vec<NewTopic<'_>> = names
        .iter()
        .map(|(name, topic)| {
            let control = *topic == Topic::Control;
            let partitions = if control { 1 } else { config.partitions };
            let replication = TopicReplication::Fixed(config.replication.try_into().unwrap_or(i32::MAX));
            NewTopic::new(name, partitions.try_into().unwrap_or(i32::MAX), replication)
                .set("cleanup.policy", "delete")
                .set("retention.ms", if control { "-1" } else { &retention })
                // Age decides, and rule 24 watches it.
                .set("retention.bytes", "-1")
                // The brokers' clock decides age, whatever a node's says.
                .set("message.timestamp.type", "LogAppendTime")
                .set("min.insync.replicas", &min_in_sync)
                .set("unclean.leader.election.enable", "false")
                .set("max.message.bytes", &bytes)
        })
        .collect();
    let options = AdminOptions::new().request_timeout(Some(ANSWER)).operation_timeout(Some(ANSWER));
    for made in admin.create_topics(&topics, &options).await? {
        match made {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, RDKafkaErrorCode::InvalidReplicationFactor)) => {
                let copies = format!("cannot have {} copies: there are fewer brokers", config.replication);
                return Ok(Err(wrong(topic, copies, "start more brokers, or set kafka.replication and kafka.lenient")));
            }
            Err((topic, code)) => {
                return Ok(Err(wrong(
                    topic,
                    format!("cannot be made: {code}"),
                    "allow this user to make it, or make it by hand",
                )));
            }
        }
    }
    Ok(Ok(()))
}

/// Whether the topics are as they must be; and how long they keep records.
async fn check(
    config: &KafkaConfig,
    admin: &AdminClient<Quiet>,
    known: Option<u32>,
) -> Result<Option<Millis>, KafkaOpenError> {
    let mut retention = None;
    let unreachable = |source| KafkaOpenError::Unreachable { brokers: config.brokers.clone(), source };
    for topic in Topic::ALL {
        let name = config.topic(topic);
        let wanted = if topic == Topic::Control { 1 } else { known.unwrap_or(config.partitions) };
        let (partitions, copies) = shape(admin, &name, wanted).await.map_err(unreachable)?;
        if partitions > wanted && known.is_some() {
            tracing::warn!(
                topic = name,
                partitions,
                used = wanted,
                "a topic has more partitions than are used: `heddle log partitions` cuts the log"
            );
        } else if partitions != wanted {
            return Err(wrong(
                name,
                format!("has {partitions} partitions, kafka.partitions is {wanted}"),
                "correct the key; `heddle log partitions` raises their number, with people on line",
            ));
        }
        let specifier = [ResourceSpecifier::Topic(&name)];
        let options = AdminOptions::new().request_timeout(Some(ANSWER));
        let described = admin.describe_configs(&specifier, &options).await.map_err(unreachable)?;
        let Some(Ok(described)) = described.into_iter().next() else {
            return Err(wrong(name, "does not say how it is set up".to_owned(), "allow this user to describe it"));
        };
        let value = |key: &str| described.get(key).and_then(|entry| entry.value.clone()).unwrap_or_default();
        if let Some(wrong) = settings::first_wrong(config, topic, value) {
            return Err(KafkaOpenError::Topic {
                topic: name.clone(),
                remedy: wrong.remedy(config, &name),
                wrong: wrong.has,
            });
        }
        if let Some(has) = settings::too_few(copies, &value("min.insync.replicas")).filter(|_| !config.lenient) {
            return Err(wrong(name, has, "raise them, or set kafka.lenient = true to lose records with a broker"));
        }
        if topic != Topic::Control {
            retention = settings::shorter(retention, settings::retention(value("retention.ms")));
        }
    }
    if retention != Some(config.retention_ms) {
        tracing::warn!(
            topics_ms = retention,
            configured_ms = config.retention_ms,
            "the topics keep records for another time than kafka.retention says: theirs counts"
        );
    }
    Ok(retention)
}

/// Partitions, and the fewest copies of one. What was just made may take a moment to show.
async fn shape(admin: &AdminClient<Quiet>, topic: &str, wanted: u32) -> Result<(u32, usize), KafkaError> {
    let mut last = Err(KafkaError::Canceled);
    for _ in 0..TRIES {
        last = admin.inner().fetch_metadata(Some(topic), ANSWER).map(|metadata| {
            let found = metadata.topics().first();
            let partitions = found.map_or(&[][..], |topic| topic.partitions());
            let led = partitions.iter().filter(|partition| partition.leader() >= 0).count();
            let copies = partitions.iter().map(|partition| partition.replicas().len()).min().unwrap_or(0);
            (u32::try_from(led).unwrap_or(u32::MAX), copies)
        });
        if matches!(last, Ok((partitions, _)) if partitions >= wanted) {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    last
}

/// Tries again while topics that were just made find their leaders. Blocks.
pub(crate) fn patiently<T>(mut ask: impl FnMut() -> Result<T, KafkaError>) -> Result<T, KafkaError> {
    for _ in 1..TRIES {
        match ask() {
            Err(error) if error.rdkafka_error_code().is_some_and(passes) => std::thread::park_timeout(PAUSE),
            other => return other,
        }
    }
    ask()
}

fn passes(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::NotLeaderForPartition
            | Code::LeaderNotAvailable
            | Code::UnknownTopicOrPartition
            | Code::UnknownPartition
            | Code::NotEnoughReplicas
            | Code::NotEnoughReplicasAfterAppend
    )
}

/// The first record of `control` says which log this is; whoever comes first writes it.
fn identity(config: &KafkaConfig) -> Result<Identity, KafkaError> {
    let control = config.topic(Topic::Control);
    let consumer: Consumer = config.reader().create_with_context(Quiet)?;
    if let Some(identity) = first(&consumer, &control)? {
        return Ok(identity);
    }
    let producer: FutureProducer<Quiet> = config.sender().create_with_context(Quiet)?;
    let mut fresh = [0; 16];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom").map_err(|_| KafkaError::Canceled)?, &mut fresh)
        .map_err(|_| KafkaError::Canceled)?;
    let record = FutureRecord::to(&control).partition(0).key(IDENTITY_KEY).payload(&fresh[..]);
    let sent = producer.send_result(record).map_err(|(error, _)| error)?;
    tokio::runtime::Handle::current().block_on(sent).map_err(|_| KafkaError::Canceled)?.map_err(|(error, _)| error)?;
    // Another node may have been quicker.
    first(&consumer, &control)?.ok_or(KafkaError::NoMessageReceived)
}

fn first(consumer: &Consumer, control: &str) -> Result<Option<Identity>, KafkaError> {
    let (low, high) = consumer.fetch_watermarks(control, 0, ANSWER)?;
    let mut from = TopicPartitionList::new();
    from.add_partition_offset(control, 0, At::Offset(low))?;
    consumer.assign(&from)?;
    let mut found = None;
    let mut next = low;
    while next < high && found.is_none() {
        let message = consumer.poll(ANSWER).ok_or(KafkaError::NoMessageReceived)??;
        next = message.offset() + 1;
        if message.key() == Some(IDENTITY_KEY) {
            found = message.payload().and_then(|bytes| bytes.try_into().ok()).map(Identity);
        }
    }
    consumer.unassign()?;
    Ok(found)
}

/// Where each of these partitions begins and ends now.
pub(crate) fn bounds(
    consumer: &Consumer,
    config: &KafkaConfig,
    partition: TopicPartition,
) -> Result<(Offset, Offset), KafkaError> {
    let (topic, number) = (config.topic(partition.topic), i32::try_from(partition.partition).unwrap_or(i32::MAX));
    let bounds = || consumer.fetch_watermarks(&topic, number, ANSWER);
    let (low, high) = bounds().or_else(|_| {
        // What it knows may be that nobody leads the partition: that it would believe for a minute.
        consumer.fetch_metadata(Some(&topic), ANSWER)?;
        bounds()
    })?;
    Ok((low.try_into().unwrap_or(0), high.try_into().unwrap_or(0)))
}
