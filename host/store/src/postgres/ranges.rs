//! The tables of the archive: `records` and `stream` are cut into ranges of positions, made as the log grows.
//!
//! By position and not by time: a resume walks a stream in the order of positions, and so touches the tables above its own position only,
//! one after the other; and a row's key holds its position, so that writing it twice finds it, whatever the log's clock said.
//! Partitions of the log grow at much the same pace, users being spread by hash, so a range holds about one stretch of time.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor as _};

use super::connections::Connections;
use super::migrate::LOCK_RANGES;
use crate::StoreError;
use crate::fault::Fault;

/// Positions are below it: 10 bits of epoch over 43 of offset.
pub(super) const POSITION_END: i64 = 1 << 53;

/// What this process knows of the tables that are there: as many entries as the archive has ranges.
#[derive(Debug)]
pub(super) struct Ranges {
    length: i64,
    /// From low to high, exclusive.
    known: Mutex<BTreeMap<i64, i64>>,
}

impl Ranges {
    /// New ones have this length, rounded up to a power of two.
    pub(super) fn new(length: u64) -> Self {
        let length = length.clamp(1, 1 << 43).next_power_of_two();
        Self { length: length as i64, known: Mutex::new(BTreeMap::new()) }
    }

    /// Sees to it that every position has its tables.
    pub(super) async fn ensure(
        &self,
        connections: &Connections,
        positions: impl Iterator<Item = &i64>,
    ) -> Result<(), StoreError> {
        let missing: Vec<i64> = {
            let known = self.known.lock();
            positions.filter(|position| !covered(&known, **position)).copied().collect()
        };
        if missing.is_empty() {
            return Ok(());
        }
        let length = self.length;
        let found = connections
            .write("make tables", move |connection| Box::pin(make(connection, missing.clone(), length)))
            .await?;
        self.known.lock().extend(found);
        Ok(())
    }

    /// An operator dropped one, or the database is another one.
    pub(super) fn forget(&self) {
        self.known.lock().clear();
    }
}

fn covered(ranges: &BTreeMap<i64, i64>, position: i64) -> bool {
    ranges.range(..=position).next_back().is_some_and(|(_, high)| position < *high)
}

/// Makes what is missing, and tells all that is there.
async fn make(connection: &mut PgConnection, missing: Vec<i64>, length: i64) -> Result<BTreeMap<i64, i64>, Fault> {
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(LOCK_RANGES).execute(&mut *connection).await?;
    let rows: Vec<(i64, i64)> =
        sqlx::query_as("SELECT low, high FROM archive_ranges").fetch_all(&mut *connection).await?;
    let mut ranges: BTreeMap<i64, i64> = rows.into_iter().collect();
    for position in missing {
        if !covered(&ranges, position) {
            let (low, high) = around(&ranges, position, length);
            // Attached, not made as a part: that would wait for every reader and writer of the archive.
            let sql = format!(
                "CREATE TABLE records_{low} (LIKE records INCLUDING ALL);
                 CREATE TABLE stream_{low} (LIKE stream INCLUDING ALL);
                 ALTER TABLE records ATTACH PARTITION records_{low} FOR VALUES FROM ({low}) TO ({high});
                 ALTER TABLE stream ATTACH PARTITION stream_{low} FOR VALUES FROM ({low}) TO ({high});"
            );
            connection.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await?;
            sqlx::query("INSERT INTO archive_ranges (low, high) VALUES ($1, $2)")
                .bind(low)
                .bind(high)
                .execute(&mut *connection)
                .await?;
            ranges.insert(low, high);
        }
    }
    Ok(ranges)
}

/// The range of this length that holds the position, cut where another length left its neighbours.
fn around(ranges: &BTreeMap<i64, i64>, position: i64, length: i64) -> (i64, i64) {
    let low = position - position.rem_euclid(length);
    let high = low.saturating_add(length).min(POSITION_END.max(position.saturating_add(1)));
    let below = ranges.range(..=position).next_back().map_or(low, |(_, high)| *high);
    let above = ranges.range(position..).next().map_or(high, |(low, _)| *low);
    (low.max(below), high.min(above))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_changing_lengths_cover_every_position_once() {
        let mut ranges = BTreeMap::new();
        let positions = [5, 4_096, 70, 1 << 20, 65, 9_000, 0, (1 << 53) - 1, i64::MAX - 1, 63, 64, 8_192];
        for (nth, position) in positions.into_iter().cycle().take(60).enumerate() {
            if !covered(&ranges, position) {
                let (low, high) = around(&ranges, position, 1 << (nth % 14));
                assert!(low <= position && position < high, "[{low}, {high}) misses {position}");
                assert!(!ranges.iter().any(|(other, end)| *other < high && low < *end), "[{low}, {high}) overlaps");
                ranges.insert(low, high);
            }
            assert!(covered(&ranges, position));
        }
    }
}
