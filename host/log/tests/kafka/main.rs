//! What only a log on brokers has to bear: two nodes, duplicates, brokers that die, stand still or forget.

mod exchange;
mod faults;
mod fixture;
mod late;
mod shared;
mod three;
mod topics;

use std::time::Duration;

use heddle_log::{AppendError, Appended, KafkaLog, Log};
use heddle_model::{MessageId, Offset, Topic, TopicPartition};

/// The longest that a log may take to work again after its broker does.
const RECOVER: Duration = Duration::from_secs(30);
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

/// Appends until it works; each failure must say that the outcome is unknown.
async fn append_again(log: &KafkaLog, n: u8) -> Appended {
    let again = async {
        loop {
            match log.append(P0, Some(id(n)), text(n.into())).await {
                Ok(appended) => return appended,
                Err(AppendError::Unknown { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
    tokio::time::timeout(RECOVER, again).await.unwrap()
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
