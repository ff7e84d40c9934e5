//! Which partitions this node works on: a consumer group that only shares them out. (DELIVERY 24)

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use heddle_model::{Topic, TopicPartition};
use parking_lot::Mutex;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, Rebalance};
use rdkafka::error::KafkaError;
use rdkafka::{ClientContext, TopicPartitionList};
use tokio::sync::watch;

use super::Shared;
use super::config::KafkaConfig;
use super::context::Quiet;

/// How long it waits for news of the group at a time.
const LOOK: Duration = Duration::from_millis(100);

/// Takes in what the group gives to this node and takes away.
pub(crate) struct Member {
    topics: Vec<(String, Topic)>,
    held: Mutex<BTreeSet<TopicPartition>>,
    assigned: watch::Sender<Vec<TopicPartition>>,
}

impl ClientContext for Member {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        Quiet.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        Quiet.error(error, reason);
    }
}

impl ConsumerContext for Member {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        // Workers stop before another node may begin.
        if let Rebalance::Revoke(gone) = rebalance {
            self.change(|held| held.retain(|partition| !self.named(gone).contains(partition)));
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(come) => {
                // The readers read; this consumer only holds.
                if let Err(error) = consumer.pause(come) {
                    tracing::debug!(%error, "partitions that are held are not paused");
                }
                self.change(|held| held.extend(self.named(come)));
            }
            Rebalance::Revoke(_) => {}
            Rebalance::Error(error) => tracing::warn!(%error, "the group of workers"),
        }
    }
}

impl Member {
    fn named(&self, list: &TopicPartitionList) -> BTreeSet<TopicPartition> {
        let one = |topic: &str, partition: i32| {
            let (_, topic) = self.topics.iter().find(|(name, _)| name == topic)?;
            Some(TopicPartition { topic: *topic, partition: u32::try_from(partition).ok()? })
        };
        list.elements().iter().filter_map(|element| one(element.topic(), element.partition())).collect()
    }

    fn change(&self, change: impl FnOnce(&mut BTreeSet<TopicPartition>)) {
        let mut held = self.held.lock();
        change(&mut held);
        tracing::info!(partitions = held.len(), "works on partitions");
        self.assigned.send_replace(held.iter().copied().collect());
    }
}

/// A consumer that is in the group.
pub(crate) fn join(
    config: &KafkaConfig,
    assigned: watch::Sender<Vec<TopicPartition>>,
) -> Result<BaseConsumer<Member>, KafkaError> {
    let consumer = outside(config, assigned)?;
    enter(&consumer)?;
    Ok(consumer)
}

/// A consumer that is not in the group yet.
fn outside(
    config: &KafkaConfig,
    assigned: watch::Sender<Vec<TopicPartition>>,
) -> Result<BaseConsumer<Member>, KafkaError> {
    let topics: Vec<_> =
        [Topic::Messages, Topic::GroupMessages].into_iter().map(|topic| (config.topic(topic), topic)).collect();
    config.member().create_with_context(Member { topics, held: Mutex::default(), assigned })
}

fn enter(consumer: &BaseConsumer<Member>) -> Result<(), KafkaError> {
    consumer.subscribe(&consumer.context().topics.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>())
}

/// Stays in the group until the log is closed. `clients`: how consumers are made, which may change.
pub(crate) fn run(
    shared: &Weak<Shared>,
    mut consumer: Arc<BaseConsumer<Member>>,
    mut clients: watch::Receiver<KafkaConfig>,
) {
    while let Some(shared) = shared.upgrade().filter(|shared| !shared.stopped()) {
        if clients.has_changed().unwrap_or(false) {
            let next = outside(&clients.borrow_and_update(), consumer.context().assigned.clone());
            match next {
                Ok(next) => {
                    // One goes before the other comes, so that what is taken from the first is not taken from the second.
                    leave(&consumer);
                    consumer = shared.reach.watch(next);
                    if let Err(error) = enter(&consumer) {
                        tracing::error!(%error, "this node is not in the group of workers");
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "the member of the group cannot be made anew yet");
                    clients.mark_changed();
                }
            }
        }
        drop(shared);
        if let Some(Err(error)) = consumer.poll(LOOK) {
            tracing::debug!(%error, "the group of workers");
        }
    }
    leave(&consumer);
}

fn leave(consumer: &BaseConsumer<Member>) {
    consumer.unsubscribe();
    // The revocation comes as an event: others may then begin at once.
    for _ in 0..10 {
        drop(consumer.poll(LOOK));
        if consumer.context().held.lock().is_empty() {
            break;
        }
    }
}
