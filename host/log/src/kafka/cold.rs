//! Reading what is no longer in memory, from a broker.

use std::collections::HashMap;
use std::time::Duration;

use heddle_model::{Millis, Offset, TopicPartition};
use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::{Offset as At, TopicPartitionList};

use super::config::KafkaConfig;
use super::context::{Consumer, Quiet};
use crate::Stored;

/// After the first record, how long it waits for one more.
const MORE: Duration = Duration::from_millis(20);
/// Partitions that are looked into together: what a broker sends of each is in memory for a moment.
const TOGETHER: usize = 16;

/// A consumer that jumps; one reader at a time.
pub(crate) struct Cold {
    inner: Mutex<Inner>,
}

struct Inner {
    settings: ClientConfig,
    reader: Option<Reader>,
}

struct Reader {
    consumer: Consumer,
    /// Where it would go on.
    at: Option<(TopicPartition, Offset)>,
}

impl Cold {
    pub(crate) fn new(config: &KafkaConfig) -> Self {
        Self { inner: Mutex::new(Inner { settings: settings(config), reader: None }) }
    }

    /// The next read is by a consumer of that configuration. Waits for the one that is under way.
    pub(crate) fn exchange(&self, config: &KafkaConfig) {
        *self.inner.lock() = Inner { settings: settings(config), reader: None };
    }

    /// Records from `from`, at least one if it comes in time, whether they stand or not. Blocks.
    pub(crate) fn read(
        &self,
        config: &KafkaConfig,
        partition: TopicPartition,
        from: Offset,
        bytes_max: usize,
        patience: Duration,
    ) -> Result<Vec<Stored>, KafkaError> {
        let mut held = self.inner.lock();
        let read = held.read(config, partition, from, bytes_max, patience);
        if read.as_ref().map_or(true, Vec::is_empty) {
            // The next one begins with the brokers that are configured. (`reach.rs`)
            held.reader = None;
        }
        read
    }

    /// When the record at each of these places was appended. Blocks; an error if one does not come in time.
    pub(crate) fn ages(
        &self,
        config: &KafkaConfig,
        places: &[(TopicPartition, Offset)],
        patience: Duration,
    ) -> Result<HashMap<TopicPartition, Millis>, KafkaError> {
        let mut held = self.inner.lock();
        let ages = held.ages(config, places, patience);
        if ages.is_err() {
            held.reader = None;
        }
        ages
    }
}

impl Inner {
    fn read(
        &mut self,
        config: &KafkaConfig,
        partition: TopicPartition,
        from: Offset,
        bytes_max: usize,
        patience: Duration,
    ) -> Result<Vec<Stored>, KafkaError> {
        let reader = self.ready()?;
        if reader.at != Some((partition, from)) {
            reader.consumer.assign(&list(config, &[(partition, from)])?)?;
        }
        reader.at = None;
        let (mut records, mut bytes, mut wait) = (Vec::new(), 0, patience);
        while let Some(message) = reader.consumer.poll(wait) {
            let message = message?;
            let payload = bytes::Bytes::copy_from_slice(message.payload().unwrap_or_default());
            bytes += payload.len();
            let offset = Offset::try_from(message.offset()).unwrap_or(0);
            let appended_at = message.timestamp().to_millis().and_then(|at| u64::try_from(at).ok()).unwrap_or(0);
            records.push(Stored { offset, appended_at, bytes: payload });
            reader.at = Some((partition, offset + 1));
            if bytes >= bytes_max {
                break;
            }
            wait = MORE;
        }
        Ok(records)
    }

    fn ages(
        &mut self,
        config: &KafkaConfig,
        places: &[(TopicPartition, Offset)],
        patience: Duration,
    ) -> Result<HashMap<TopicPartition, Millis>, KafkaError> {
        let mut ages = HashMap::new();
        for some in places.chunks(TOGETHER) {
            let reader = self.ready()?;
            reader.at = None;
            reader.consumer.assign(&list(config, some)?)?;
            let wanted = ages.len() + some.len();
            while ages.len() < wanted {
                let message = reader.consumer.poll(patience).ok_or(KafkaError::NoMessageReceived)??;
                let at = message.timestamp().to_millis().and_then(|at| Millis::try_from(at).ok()).unwrap_or(0);
                let of = |(place, _): &&(TopicPartition, Offset)| {
                    config.topic(place.topic) == message.topic()
                        && i64::from(place.partition) == i64::from(message.partition())
                };
                if let Some((place, _)) = some.iter().find(of) {
                    ages.entry(*place).or_insert(at);
                }
            }
        }
        Ok(ages)
    }

    fn ready(&mut self) -> Result<&mut Reader, KafkaError> {
        Ok(match &mut self.reader {
            Some(reader) => reader,
            empty => empty.insert(Reader { consumer: self.settings.create_with_context(Quiet)?, at: None }),
        })
    }
}

fn settings(config: &KafkaConfig) -> ClientConfig {
    let mut settings = config.reader();
    // Little is read ahead: the next wish is elsewhere.
    settings.set("queued.max.messages.kbytes", "2048").set("queued.min.messages", "100");
    settings
}

fn list(config: &KafkaConfig, places: &[(TopicPartition, Offset)]) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::new();
    for (partition, from) in places {
        let number = i32::try_from(partition.partition).unwrap_or(i32::MAX);
        let from = At::Offset(i64::try_from(*from).unwrap_or(i64::MAX));
        list.add_partition_offset(&config.topic(partition.topic), number, from)?;
    }
    Ok(list)
}
