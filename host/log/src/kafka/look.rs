//! Looking into the topics of a log without being a node: nothing is made, joined or written.

use std::time::Duration;

use bytes::Bytes;
use heddle_model::{MessageId, Offset, Topic, TopicPartition};
use rdkafka::consumer::Consumer as _;
use rdkafka::message::Message as _;
use rdkafka::{Offset as At, TopicPartitionList};

use super::config::KafkaConfig;
use super::context::{Consumer, Quiet};
use super::follow::handed_in;
use super::topics::{self, KafkaOpenError};
use crate::{LogEntry, Place};

/// The longest that a record which is known to be there may take to come.
const PATIENCE: Duration = Duration::from_secs(10);

/// Reads topics from outside. Blocks.
pub struct KafkaReader {
    config: KafkaConfig,
    partitions: u32,
    consumer: Consumer,
}

impl KafkaReader {
    /// Looks at the topics of this configuration.
    ///
    /// # Errors
    /// librdkafka refuses a setting; no broker answers; the topics are not there.
    pub fn open(config: KafkaConfig) -> Result<Self, KafkaOpenError> {
        let consumer: Consumer = config.reader().create_with_context(Quiet).map_err(KafkaOpenError::Setting)?;
        let mut reader = Self { config, partitions: 0, consumer };
        reader.partitions = reader.shape()?;
        Ok(reader)
    }

    /// Partitions of `messages` and of `group_messages`, each.
    #[must_use]
    pub fn partitions(&self) -> u32 {
        self.partitions
    }

    /// As the brokers have it, whatever the configuration says.
    fn shape(&self) -> Result<u32, KafkaOpenError> {
        let topic = self.config.topic(Topic::Messages);
        let metadata =
            self.consumer.fetch_metadata(Some(&topic), PATIENCE).map_err(|source| self.unreachable(source))?;
        let found = metadata.topics().first().map_or(0, |found| found.partitions().len());
        if found == 0 {
            let remedy = "correct kafka.prefix, or start a node, which makes it".to_owned();
            return Err(KafkaOpenError::Topic { topic, wrong: "is not there".to_owned(), remedy });
        }
        Ok(u32::try_from(found).unwrap_or(u32::MAX))
    }

    fn bounds(&self, partition: TopicPartition) -> Result<(Offset, Offset), KafkaOpenError> {
        topics::bounds(&self.consumer, &self.config, partition).map_err(|source| self.unreachable(source))
    }

    fn unreachable(&self, source: rdkafka::error::KafkaError) -> KafkaOpenError {
        KafkaOpenError::Unreachable { brokers: self.config.brokers.clone(), source }
    }

    /// The records of a partition from `from`, or from the first that is kept, to the end that is there now. Among them are those that do not stand:
    /// of two with one message id, the second.
    ///
    /// # Errors
    /// No broker answers.
    pub fn records(
        &self,
        partition: TopicPartition,
        from: Offset,
    ) -> Result<impl Iterator<Item = Result<LogEntry, KafkaOpenError>> + '_, KafkaOpenError> {
        let (start, end) = self.bounds(partition)?;
        let mut next = from.max(start);
        let mut list = TopicPartitionList::new();
        let number = i32::try_from(partition.partition).unwrap_or(i32::MAX);
        let at = At::Offset(i64::try_from(next).unwrap_or(i64::MAX));
        let topic = self.config.topic(partition.topic);
        list.add_partition_offset(&topic, number, at).map_err(|source| self.unreachable(source))?;
        self.consumer.assign(&list).map_err(|source| self.unreachable(source))?;
        Ok(std::iter::from_fn(move || {
            if next >= end {
                return None;
            }
            let Some(polled) = self.consumer.poll(PATIENCE) else {
                next = end;
                return Some(Err(self.unreachable(rdkafka::error::KafkaError::NoMessageReceived)));
            };
            Some(match polled {
                Ok(message) => {
                    let offset = Offset::try_from(message.offset()).unwrap_or(0);
                    next = offset + 1;
                    Ok(LogEntry {
                        place: Place { partition, offset },
                        appended_at: message.timestamp().to_millis().and_then(|at| u64::try_from(at).ok()).unwrap_or(0),
                        id: message.key().and_then(|key| key.try_into().ok()).map(MessageId),
                        handed_in: handed_in(&message),
                        bytes: Bytes::copy_from_slice(message.payload().unwrap_or_default()),
                        commit: None,
                    })
                }
                Err(source) => {
                    next = end;
                    Err(self.unreachable(source))
                }
            })
        }))
    }
}
