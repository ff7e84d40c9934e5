//! Lives of the log.

use async_trait::async_trait;
use heddle_model::TopicPartition;

use super::StoreError;

/// Which life of a log has which epoch. (DELIVERY rule 2.)
#[async_trait]
pub trait Epochs: Send + Sync + 'static {
    /// The epoch of the log with this identity and partition count: the one on record; a new pair gets the largest plus one (the very first: 0).
    /// `heads` are the positions' log offsets that the log has (next offsets): if, for the epoch on record, one lies below a stored cursor, the pair gets a new epoch too.
    ///
    /// # Errors
    /// The store does not answer, or holds a broken row.
    async fn epoch(
        &self,
        identity: [u8; 16],
        partitions: u32,
        heads: &[(TopicPartition, u64)],
    ) -> Result<u32, StoreError>;
}
