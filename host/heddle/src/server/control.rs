//! The control log as policies see it: a topic of the log, and the nodes of the store.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use heddle_log::Log;
use heddle_model::{NodeId, Topic, TopicPartition};
use heddle_policy::Control;
use heddle_store::Nodes;

use super::roll::LEASE_MS;

const CONTROL: TopicPartition = TopicPartition { topic: Topic::Control, partition: 0 };
/// At one time into memory.
const READ_BYTES_MAX: usize = 1 << 20;

/// The topic `control`.
pub(super) struct LogControl {
    log: Arc<dyn Log>,
    nodes: Arc<dyn Nodes>,
}

impl LogControl {
    pub(super) fn new(log: Arc<dyn Log>, nodes: Arc<dyn Nodes>) -> Self {
        log.follow(CONTROL, 0);
        Self { log, nodes }
    }
}

#[async_trait]
impl Control for LogControl {
    async fn write(&self, record: Bytes) -> Result<(), String> {
        self.log.append(CONTROL, None, record).await.map(drop).map_err(|error| error.to_string())
    }

    async fn head(&self) -> Result<u64, String> {
        self.log.head_now(CONTROL).await
    }

    async fn read(&self, from: u64) -> Result<(Vec<Bytes>, u64), String> {
        let mut head = self.log.head(CONTROL);
        head.wait_for(|head| *head > from).await.map_err(|_| "the log is closed".to_owned())?;
        let batch = self.log.read(CONTROL, from, READ_BYTES_MAX).await.map_err(|error| error.to_string())?;
        Ok((batch.records.into_iter().map(|record| record.bytes).collect(), batch.next))
    }

    async fn members(&self) -> Result<Vec<NodeId>, String> {
        let rows = self.nodes.nodes().await.map_err(|error| error.to_string())?;
        Ok(rows.into_iter().filter(|row| row.age_ms < LEASE_MS).map(|row| row.node).collect())
    }
}
