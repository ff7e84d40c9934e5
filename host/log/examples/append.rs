//! Records a second and commit latency of the embedded log beside a bare writer with the same pattern, and how long reopening takes.
//!
//! `cargo run --release -p heddle-log --example append -- [RECORDS] [CALLERS] [DIR]`: 300-byte records with ids, each caller one at a time.
#![allow(clippy::print_stdout, reason = "it prints figures")]

use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use heddle_log::{EmbeddedLog, Log, LogConfig};
use heddle_model::{Clock, MessageId, SystemClock, TopicPartition};

const RECORD_BYTES: usize = 300;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let records: u64 = arguments.next().map_or(200_000, |text| text.parse().expect("RECORDS is a number"));
    let callers: u64 = arguments.next().map_or(256, |text| text.parse().expect("CALLERS is a number"));
    let scratch = match arguments.next() {
        Some(dir) => tempfile::tempdir_in(dir),
        None => tempfile::tempdir(),
    };
    let scratch = scratch.expect("a scratch directory");
    let clock = Arc::new(SystemClock::new());
    bare(scratch.path(), &clock);
    let dir = scratch.path().join("log");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().expect("a runtime");
    let log = EmbeddedLog::open(LogConfig::new(&dir), clock.clone()).expect("the log opens");
    let began = clock.monotonic();
    let latencies = runtime.block_on(async {
        let tasks: Vec<_> = (0..callers)
            .map(|caller| tokio::spawn(append(log.clone(), clock.clone(), caller, callers, records)))
            .collect();
        let mut latencies = Vec::new();
        for task in tasks {
            latencies.extend(task.await.expect("a caller ends"));
        }
        latencies
    });
    let spent = clock.monotonic() - began;
    println!("log: {} records, {:.0} records/s", latencies.len(), latencies.len() as f64 / spent.as_secs_f64());
    print("log, append to answer", latencies);
    // What a killed process leaves: the files as they are, nothing closed.
    let killed = scratch.path().join("killed");
    copy(&dir, &killed);
    drop(log);
    let began = clock.monotonic();
    let log = EmbeddedLog::open(LogConfig::new(&killed), clock.clone()).expect("the log opens after a kill");
    println!("open after a kill: {:?}", clock.monotonic() - began);
    drop(log);
    let began = clock.monotonic();
    let log = EmbeddedLog::open(LogConfig::new(&dir), clock.clone()).expect("the log opens again");
    println!("reopen: {:?}", clock.monotonic() - began);
    drop(log);
    std::fs::remove_dir_all(dir.join("ids")).expect("the index goes");
    let began = clock.monotonic();
    let log = EmbeddedLog::open(LogConfig::new(&dir), clock.clone()).expect("the log opens again");
    println!("reopen, id index rebuilt: {:?}", clock.monotonic() - began);
    drop(log);
}

/// A directory with all in it.
fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("the directory lists") {
        let entry = entry.expect("an entry");
        let copied = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &copied);
        } else {
            std::fs::copy(entry.path(), copied).expect("a copy");
        }
    }
}

async fn append(
    log: Arc<EmbeddedLog>,
    clock: Arc<SystemClock>,
    caller: u64,
    callers: u64,
    records: u64,
) -> Vec<Duration> {
    let mut latencies = Vec::new();
    for n in (caller..records).step_by(callers as usize) {
        // Ids are hashes: spread the number over the key space.
        let mut id = [0; 16];
        id[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        let began = clock.monotonic();
        let bytes = Bytes::from(vec![n as u8; RECORD_BYTES]);
        log.append(TopicPartition::messages((n % 16) as u32), Some(MessageId(id)), bytes).await.expect("accepted");
        latencies.push(clock.monotonic() - began);
    }
    latencies
}

/// One page into a zero-filled file and fdatasync, again and again.
fn bare(dir: &std::path::Path, clock: &SystemClock) {
    let file = std::fs::File::create(dir.join("bare")).expect("a file");
    file.write_all_at(&vec![0; 16 << 20], 0).expect("room");
    file.sync_all().expect("a sync");
    let page = [7; 4096];
    let latencies = (0..2000u64).map(|n| {
        let began = clock.monotonic();
        file.write_all_at(&page, n * 4096).expect("a write");
        rustix::fs::fdatasync(&file).expect("a sync");
        clock.monotonic() - began
    });
    print("bare write and fdatasync", latencies.collect());
}

fn print(what: &str, mut latencies: Vec<Duration>) {
    latencies.sort_unstable();
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
    println!("{what}: p50 {:?}, p99 {:?}, worst {:?}", at(0.5), at(0.99), at(1.0));
}
