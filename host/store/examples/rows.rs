//! How fast the archive is written: direct messages in batches as the archiver makes them.
//!
//! `cargo run --release -p heddle-store --example rows -- [MESSAGES] [BATCH] [DIR]`: 300-byte records; a message is a record, an event of the
//! recipient and a user seen.
#![allow(clippy::print_stdout, reason = "it prints figures")]

use std::sync::Arc;

use bytes::Bytes;
use heddle_model::{Clock, Conversation, MessageId, Partitioning, Position, SystemClock, UserId};
use heddle_store::{ArchiveBatch, ArchivedRecord, Cursor, SqliteStore, StoreConfig, StreamRow};

const RECORD_BYTES: usize = 300;
const USERS: u64 = 5_000;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let messages: u64 = arguments.next().map_or(200_000, |text| text.parse().expect("MESSAGES is a number"));
    let batch: u64 = arguments.next().map_or(1_000, |text| text.parse().expect("BATCH is a number"));
    let scratch = match arguments.next() {
        Some(dir) => tempfile::tempdir_in(dir),
        None => tempfile::tempdir(),
    };
    let scratch = scratch.expect("a scratch directory");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(run(&scratch.path().join("store.db"), messages, batch));
}

async fn run(path: &std::path::Path, messages: u64, batch: u64) {
    let clock = Arc::new(SystemClock::new());
    let opened = SqliteStore::open(StoreConfig::at(path), clock.clone()).await.expect("the store opens");
    let archive = opened.store().archive;
    let mut latencies = Vec::new();
    for first in (0..messages).step_by(batch as usize) {
        let rows = rows(first..(first + batch).min(messages));
        let began = clock.monotonic();
        archive.write(rows).await.expect("written");
        latencies.push(clock.monotonic() - began);
    }
    let spent: std::time::Duration = latencies.iter().sum();
    let rate = messages as f64 / spent.as_secs_f64();
    println!("{messages} messages in batches of {batch}: {rate:.0} messages/s, {:.0} rows/s", 2.0 * rate);
    latencies.sort_unstable();
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
    println!("a batch: p50 {:?}, p99 {:?}, worst {:?}", at(0.5), at(0.99), at(1.0));
    let began = clock.monotonic();
    opened.close().await;
    println!("close: {:?}", clock.monotonic() - began);
    let began = clock.monotonic();
    let opened = SqliteStore::open(StoreConfig::at(path), clock.clone()).await.expect("the store opens again");
    println!("open: {:?}", clock.monotonic() - began);
    opened.close().await;
}

/// The rows of these messages, each from one user to another, spread over all.
fn rows(numbers: std::ops::Range<u64>) -> ArchiveBatch {
    let partitioning = Partitioning { count: 16 };
    let mut batch = ArchiveBatch::default();
    let user = |number: u64| UserId::new(&format!("user-{:06}", number % USERS)).expect("an id");
    for number in numbers {
        let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let (from, to) = (user(spread >> 40), user(spread >> 20));
        let (partition, position) = (partitioning.home(&to), Position(number + 1));
        let mut id = [0; 16];
        id[..8].copy_from_slice(&spread.to_be_bytes());
        let bytes = Bytes::from(vec![number as u8; RECORD_BYTES]);
        let message_id = Some(MessageId(id));
        batch.records.push(ArchivedRecord { partition, position, appended_at: number, message_id, bytes });
        batch.users.push((from.clone(), number));
        batch.stream.push(StreamRow {
            user: to,
            partition,
            position,
            conversation: Some(Conversation::Direct(from)),
            order: position,
            lamport: number,
            message_id,
            incoming: true,
        });
        batch.cursors.retain(|cursor: &Cursor| cursor.partition != partition);
        batch.cursors.push(Cursor { partition, upto: position, judge: Bytes::new() });
    }
    batch
}
