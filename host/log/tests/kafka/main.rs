//! What only a log on brokers has to bear: two nodes, duplicates, brokers that die, stand still or forget.

mod exchange;
mod faults;
mod fixture;
mod shared;
mod topics;

use heddle_log::{Appended, KafkaLog, Log};
use heddle_model::{MessageId, Offset, Topic, TopicPartition};

/// One partition.
const P0: TopicPartition = TopicPartition { topic: Topic::Messages, partition: 0 };

fn id(n: u8) -> MessageId {
    MessageId([n; 16])
}

fn text(n: usize) -> bytes::Bytes {
    format!("record {n}").into()
}

async fn append(log: &KafkaLog, id: Option<MessageId>, n: usize) -> Appended {
    log.append(P0, id, text(n)).await.unwrap()
}

/// What readers see of a partition, up to its head.
async fn all(log: &KafkaLog) -> Vec<(Offset, String)> {
    let (mut from, head, mut seen) = (0, *log.head(P0).borrow(), Vec::new());
    while from < head {
        let batch = log.read(P0, from, 1 << 16).await.unwrap();
        let texts = batch.records.into_iter();
        seen.extend(texts.map(|record| (record.offset, String::from_utf8(record.bytes.to_vec()).unwrap())));
        from = batch.next;
    }
    seen
}
