//! Rows per second that the archive takes, on SQLite and on PostgreSQL, in turn on the same disk, both durable:
//! `cargo run --release -p heddle-store --example archive_rate`.
#![allow(clippy::print_stdout, reason = "it prints what it measured")]

use std::error::Error;
use std::sync::Arc;

use bytes::Bytes;
use heddle_model::{Clock as _, Conversation, MessageId, Partitioning, Position, SystemClock, UserId};
use heddle_store::{
    Archive, ArchiveBatch, ArchivedRecord, Cursor, PostgresConfig, PostgresStore, SqliteStore, StoreConfig, StreamRow,
};
use heddle_test_servers::Postgres;

/// As `store.archive_records_max` has it.
const RECORDS: u64 = 2_000;
const BATCHES: u64 = 10;
const ROUNDS: u64 = 7;
const USERS: u64 = 5_000;
const BODY_BYTES: usize = 300;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let clock = Arc::new(SystemClock::new());
    let config = StoreConfig::at(directory.path().join("store.db"));
    let sqlite = SqliteStore::open(config, Arc::clone(&clock) as _).await?.store().archive;
    let server = Postgres::start_durable()?;
    let postgres = PostgresStore::open(PostgresConfig::at(server.database()), Arc::clone(&clock) as _).await?;
    println!(
        "PostgreSQL {}, {RECORDS} records of {BODY_BYTES} bytes a batch, each with an event",
        postgres.server_version()
    );
    let postgres = postgres.store().archive;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        theirs.push(rate(&*sqlite, &clock, round).await?);
        ours.push(rate(&*postgres, &clock, round).await?);
    }
    for (name, rates) in [("SQLite", &mut theirs), ("Postgres", &mut ours)] {
        rates.sort_by(f64::total_cmp);
        let (least, most) = (rates[0], rates[rates.len() - 1]);
        println!("{name}: {:.0} rows/s ({least:.0} to {most:.0})", rates[rates.len() / 2]);
    }
    Ok(())
}

/// Records and events per second of a round.
async fn rate(archive: &dyn Archive, clock: &SystemClock, round: u64) -> Result<f64, Box<dyn Error>> {
    let batches: Vec<_> = (0..BATCHES).map(|nth| batch(round * BATCHES + nth)).collect::<Result<_, _>>()?;
    let started = clock.monotonic();
    for batch in batches {
        archive.write(batch).await?;
    }
    Ok((2 * RECORDS * BATCHES) as f64 / (clock.monotonic() - started).as_secs_f64())
}

/// Direct messages among many users, whose homes are 16 partitions.
fn batch(nth: u64) -> Result<ArchiveBatch, Box<dyn Error>> {
    let partitioning = Partitioning { count: 16 };
    let mut batch = ArchiveBatch::default();
    for number in nth * RECORDS..(nth + 1) * RECORDS {
        // Spread, and never the same again.
        let scattered = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let user = UserId::new(&format!("user-{}", scattered % USERS))?;
        let from = UserId::new(&format!("user-{}", (scattered >> 20) % USERS))?;
        let (partition, position) = (partitioning.home(&user), Position(number + 1));
        let mut id = [0; 16];
        id[..8].copy_from_slice(&scattered.to_be_bytes());
        id[8..].copy_from_slice(&number.to_be_bytes());
        batch.records.push(ArchivedRecord {
            partition,
            position,
            appended_at: number,
            message_id: Some(MessageId(id)),
            bytes: Bytes::from(vec![number as u8; BODY_BYTES]),
        });
        batch.stream.push(StreamRow {
            user,
            partition,
            position,
            conversation: Some(Conversation::Direct(from)),
            order: position,
            lamport: number,
            message_id: Some(MessageId(id)),
            incoming: true,
        });
        batch.cursors.push(Cursor { partition, upto: position, judge: Bytes::from_static(b"judge") });
    }
    Ok(batch)
}
