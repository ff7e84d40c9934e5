//! Who decided a message, asked of the log and of the archive.

use std::sync::Arc;

use heddle_model::{Decision, Message, MessageId, Position, Record, Topic, TopicPartition, UserId};
use heddle_store::StoreError;

use crate::delivery::{Delivery, Shared};

/// Who decided a message, and where it stands.
#[derive(Debug, Clone)]
pub struct Explained {
    /// The message, with its stamp.
    pub message: Arc<Message>,
    /// Where its first record stands.
    pub partition: TopicPartition,
    /// At which position: its `order`.
    pub position: Position,
    /// How its members were sorted, if it went to a group and this much is in the archive.
    pub sorted: Vec<Decision>,
}

impl Delivery {
    /// Who decided a message. Asks the log first, then the archive.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn explain(&self, id: &MessageId) -> Result<Option<Explained>, StoreError> {
        let Some((partition, position, message)) = self.shared.first_record(id).await? else { return Ok(None) };
        let mut sorted = Vec::new();
        if partition.topic == Topic::GroupMessages {
            let home = self.shared.numbering.partitioning.home(&message.sender);
            sorted = self.shared.sorted(home, &message, position).await;
        }
        Ok(Some(Explained { message, partition, position, sorted }))
    }
}

impl Shared {
    /// The first record of a message.
    pub(crate) async fn first_record(
        &self,
        id: &MessageId,
    ) -> Result<Option<(TopicPartition, Position, Arc<Message>)>, StoreError> {
        let place = self.log.lookup(id, false).await.ok().flatten();
        let place = place.filter(|at| self.starts.get(&at.partition).is_none_or(|start| at.offset >= *start));
        if let Some(place) = place {
            let read = self.log.read(place.partition, place.offset, 1).await;
            let first = read.ok().and_then(|batch| batch.records.into_iter().next());
            let record = first.filter(|stored| stored.offset == place.offset).map(|stored| stored.bytes);
            if let Some(message) = record.and_then(|bytes| decode_message(&bytes)) {
                return Ok(Some((place.partition, self.numbering.position(place.offset), message)));
            }
        }
        let archived = self.store.archive.message(id).await?;
        Ok(archived.and_then(|row| decode_message(&row.bytes).map(|message| (row.partition, row.position, message))))
    }

    /// How the chunk that its sender has was sorted.
    async fn sorted(&self, home: TopicPartition, message: &Message, order: Position) -> Vec<Decision> {
        let sender: &UserId = &message.sender;
        let tail = &self.partition(home).tail;
        let tail = match tail.read(sender, tail.low(), usize::MAX) {
            crate::tail::TailRead::Events { events, .. } => events,
            crate::tail::TailRead::Below => Vec::new(),
        };
        let chunk = tail.iter().find_map(|event| chunk_decisions(&event.record, message));
        if let Some(decisions) = chunk {
            return decisions;
        }
        let query = self.store.archive.history(heddle_store::HistoryQuery {
            viewer: sender.clone(),
            conversation: message.to.clone(),
            home,
            group_home: None,
            anchor: heddle_store::HistoryAnchor::Newest,
            limit: self.config.page_events,
        });
        let rows = query.await.map(|page| page.rows).unwrap_or_default();
        rows.iter()
            .filter(|row| row.order == order)
            .find_map(|row| Record::decode(&row.bytes).ok().and_then(|record| chunk_decisions(&record, message)))
            .unwrap_or_default()
    }
}

fn chunk_decisions(record: &Record, message: &Message) -> Option<Vec<Decision>> {
    match record {
        Record::GroupChunk(chunk) if chunk.message.id == message.id => Some(chunk.decisions.clone()),
        _ => None,
    }
}

fn decode_message(bytes: &[u8]) -> Option<Arc<Message>> {
    match Record::decode(bytes) {
        Ok(Record::Direct(message) | Record::Group(message)) => Some(message),
        _ => None,
    }
}
