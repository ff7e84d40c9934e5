//! The id index on disk: a cache on fjall, since the log can always tell its ids again.
//!
//! One keyspace: message id to (topic u32, partition u32, offset u64, appended_at u64), big-endian; and under the key 0 the identity of the log and
//! the watermark, the commit up to which all ids are in. Ids come in batches, each written as a sorted table together with its watermark: it is there
//! as a whole or not at all, and nothing waits in a journal that would have to be read again when the index opens.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use fjall::{Database, Keyspace, KeyspaceCreateOptions};
use heddle_model::{MessageId, Millis, TopicPartition};
use parking_lot::Mutex;

use crate::recent::Known;
use crate::slots::{topic_code, topic_of};
use crate::{Identity, OpenError, Place};

/// Entries that one sweep looks at.
const SWEEP_IDS_MAX: usize = 10_000;
/// What fjall may keep of journals, of which nothing is used: the least that it allows.
const JOURNAL_BYTES: u64 = 64 << 20;
/// Of identity and watermark: before every id.
const ABOUT: [u8; 1] = [0];
/// A file of this name in the directory says that it is to be made anew.
const BROKEN: &str = "broken";

pub(crate) struct IdIndex {
    dir: PathBuf,
    identity: Identity,
    /// Held for as long as its keyspace is used.
    _database: Database,
    ids: Keyspace,
    /// One batch at a time: the commit up to which all ids are in.
    watermark: Mutex<u64>,
    /// Where the next sweep goes on.
    swept: Mutex<Option<Vec<u8>>>,
}

impl std::fmt::Debug for IdIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IdIndex")
    }
}

/// Why the index did not answer.
#[derive(Debug)]
pub(crate) struct IdError {
    pub(crate) reason: String,
    /// What it holds is not what was written: it is made anew when it is opened next.
    pub(crate) broken: bool,
    /// Its disk has no room now.
    pub(crate) full: bool,
}

impl From<fjall::Error> for IdError {
    fn from(error: fjall::Error) -> Self {
        use std::io::ErrorKind::{InvalidData, NotFound, QuotaExceeded, StorageFull, UnexpectedEof};
        let kind = match &error {
            fjall::Error::Io(io) | fjall::Error::Storage(fjall::LsmError::Io(io)) => Some(io.kind()),
            _ => None,
        };
        let broken = kind.is_none_or(|kind| matches!(kind, InvalidData | NotFound | UnexpectedEof));
        let full = matches!(kind, Some(StorageFull | QuotaExceeded));
        Self { reason: error.to_string(), broken, full }
    }
}

impl IdIndex {
    /// Opens the index of this log, or an empty one. Answers the watermark: 0 if it is empty.
    ///
    /// An index that is ahead of the log knows ids of records that were cut: it is made anew.
    pub(crate) fn open(
        dir: &Path,
        identity: Identity,
        cache_bytes: u64,
        next_sequence: u64,
    ) -> Result<(Self, u64), OpenError> {
        let failed = |reason: String| OpenError::Ids { path: dir.to_owned(), reason };
        if dir.exists() {
            match Self::existing(dir, identity, cache_bytes) {
                Ok(Some((index, watermark))) if watermark < next_sequence => return Ok((index, watermark)),
                // Of a log whose first commits never reached its index.
                Ok(None) if next_sequence == 1 => {}
                Ok(_) => tracing::warn!(dir = %dir.display(), "id index is of another log or state, rebuilding it"),
                Err(error) => tracing::warn!(dir = %dir.display(), error, "id index does not open, rebuilding it"),
            }
            std::fs::remove_dir_all(dir)
                .or_else(|_| std::fs::remove_file(dir))
                .map_err(|error| failed(error.to_string()))?;
        }
        // What it is of is said with its first batch.
        let index = Self::try_open(dir, identity, cache_bytes).map_err(|error| failed(error.to_string()))?;
        Ok((index, 0))
    }

    /// The index and its watermark, if it is of this log.
    fn existing(dir: &Path, identity: Identity, cache_bytes: u64) -> Result<Option<(Self, u64)>, String> {
        if dir.join(BROKEN).exists() {
            return Err("it was found broken when it was last used".to_owned());
        }
        // Spoilt files make fjall panic here and there.
        let opened = catch_unwind(AssertUnwindSafe(|| -> fjall::Result<_> {
            let index = Self::try_open(dir, identity, cache_bytes)?;
            let about = index.ids.get(ABOUT)?;
            Ok((index, about))
        }));
        let (index, about) =
            opened.map_err(|_| "its files are spoilt".to_owned())?.map_err(|error| error.to_string())?;
        let about = about.and_then(|bytes| <[u8; 24]>::try_from(&*bytes).ok());
        Ok(about.filter(|about| about[..16] == identity.0).map(|about| {
            let watermark = u64::from_be_bytes(about[16..].try_into().expect("8 bytes"));
            *index.watermark.lock() = watermark;
            (index, watermark)
        }))
    }

    fn try_open(dir: &Path, identity: Identity, cache_bytes: u64) -> fjall::Result<Self> {
        let database = Database::builder(dir)
            .cache_size(cache_bytes)
            .worker_threads(1)
            .max_journaling_size(JOURNAL_BYTES)
            .open()?;
        let ids = database.keyspace("ids", KeyspaceCreateOptions::default)?;
        let (watermark, swept) = (Mutex::new(0), Mutex::new(None));
        Ok(Self { dir: dir.to_owned(), identity, _database: database, ids, watermark, swept })
    }

    pub(crate) fn get(&self, id: &MessageId) -> Result<Option<Known>, IdError> {
        let Some(value) = self.ids.get(id.0)? else { return Ok(None) };
        let broken = || IdError { reason: format!("the entry of {id} is broken"), broken: true, full: false };
        decode(&value).ok_or_else(broken).map(Some)
    }

    /// Has the index made anew when it is opened next.
    pub(crate) fn condemn(&self) {
        if let Err(error) = std::fs::write(self.dir.join(BROKEN), []) {
            tracing::warn!(dir = %self.dir.display(), %error, "id index is broken and cannot be marked, remove it");
        }
    }

    /// Stores ids and how far they go, together; of entries of one id the last stands.
    pub(crate) fn store(&self, ids: &[(MessageId, Known)], watermark: u64) -> Result<(), IdError> {
        let mut rows: Vec<_> = ids.iter().map(|(id, known)| (id.0, Some(encode(known)))).collect();
        rows.reverse();
        rows.sort_by_key(|(id, _)| *id);
        rows.dedup_by_key(|(id, _)| *id);
        let mut known = self.watermark.lock();
        self.ingest(&rows, watermark)?;
        *known = watermark;
        Ok(())
    }

    /// Writes a table: ids in order, each with its entry or without one to remove it.
    fn ingest(&self, rows: &[([u8; 16], Option<[u8; 24]>)], watermark: u64) -> Result<(), IdError> {
        let write = || -> fjall::Result<()> {
            let mut table = self.ids.start_ingestion()?;
            let mut about = [0; 24];
            about[..16].copy_from_slice(&self.identity.0);
            about[16..].copy_from_slice(&watermark.to_be_bytes());
            table.write(ABOUT, about)?;
            for (id, entry) in rows {
                match entry {
                    Some(entry) => table.write(*id, *entry)?,
                    None => table.write_tombstone(*id)?,
                }
            }
            table.finish()
        };
        Ok(write()?)
    }

    /// Removes what was appended before `before` among the next [`SWEEP_IDS_MAX`] entries.
    pub(crate) fn sweep(&self, before: Millis) -> Result<usize, IdError> {
        let mut swept = self.swept.lock();
        let from = swept.take().unwrap_or_else(|| vec![0; 16]);
        let (mut seen, mut old, mut last) = (0, Vec::new(), None);
        for entry in self.ids.range(from..).take(SWEEP_IDS_MAX) {
            let (key, value) = entry.into_inner()?;
            seen += 1;
            last = Some(key.to_vec());
            if decode(&value).is_none_or(|known| known.appended_at < before) {
                old.extend(<[u8; 16]>::try_from(&*key).map(|id| (id, None)));
            }
        }
        if !old.is_empty() {
            let watermark = self.watermark.lock();
            self.ingest(&old, *watermark)?;
        }
        *swept = if seen == SWEEP_IDS_MAX { last } else { None };
        Ok(old.len())
    }
}

fn encode(known: &Known) -> [u8; 24] {
    let mut out = [0; 24];
    out[..4].copy_from_slice(&topic_code(known.place.partition.topic).to_be_bytes());
    out[4..8].copy_from_slice(&known.place.partition.partition.to_be_bytes());
    out[8..16].copy_from_slice(&known.place.offset.to_be_bytes());
    out[16..].copy_from_slice(&known.appended_at.to_be_bytes());
    out
}

fn decode(value: &[u8]) -> Option<Known> {
    let value: &[u8; 24] = value.try_into().ok()?;
    let u32_at = |at: usize| u32::from_be_bytes(value[at..at + 4].try_into().expect("4 bytes"));
    let u64_at = |at: usize| u64::from_be_bytes(value[at..at + 8].try_into().expect("8 bytes"));
    let partition = TopicPartition { topic: topic_of(u32_at(0))?, partition: u32_at(4) };
    Some(Known { place: Place { partition, offset: u64_at(8) }, appended_at: u64_at(16) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: Identity = Identity([3; 16]);

    /// Ids of this range, spread over the key space, appended at their number.
    fn entries(numbers: std::ops::Range<u64>) -> Vec<(MessageId, Known)> {
        let entry = |n: u64| {
            let place = Place { partition: TopicPartition::messages(0), offset: n };
            (id(n), Known { place, appended_at: n })
        };
        numbers.map(entry).collect()
    }

    fn id(n: u64) -> MessageId {
        MessageId(u128::from(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).reverse_bits().to_be_bytes())
    }

    fn offset(index: &IdIndex, n: u64) -> Option<u64> {
        index.get(&id(n)).unwrap().map(|known| known.place.offset)
    }

    #[test]
    fn many_batches_read_back_now_and_when_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let (index, watermark) = IdIndex::open(&dir.path().join("ids"), LOG, 1 << 20, 1).unwrap();
        assert_eq!(watermark, 0);
        for batch in 0..120 {
            index.store(&entries(batch * 50..(batch + 1) * 50), batch + 1).unwrap();
        }
        // An id that comes again, within a batch and in a later one, stands where it came last.
        let mut again = entries(0..2);
        again[0].1.place.offset = 7_000;
        again[1] = again[0];
        again[1].1.place.offset = 7_001;
        index.store(&again, 121).unwrap();
        let check = |index: &IdIndex| {
            assert_eq!(offset(index, 0), Some(7_001));
            assert!((1..6_000).all(|n| offset(index, n) == Some(n)));
            assert_eq!(offset(index, 6_000), None);
        };
        check(&index);
        drop(index);
        let (index, watermark) = IdIndex::open(&dir.path().join("ids"), LOG, 1 << 20, 122).unwrap();
        assert_eq!(watermark, 121);
        check(&index);
    }

    #[test]
    fn a_sweep_removes_what_is_old_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (index, _) = IdIndex::open(&dir.path().join("ids"), LOG, 1 << 20, 1).unwrap();
        let count = SWEEP_IDS_MAX as u64 + 500;
        index.store(&entries(0..count), 9).unwrap();
        // The first sweep looks at a bounded part, the second at the rest.
        let removed = index.sweep(1_000).unwrap();
        assert!(removed < 1_000, "{removed}");
        assert_eq!(removed + index.sweep(1_000).unwrap(), 1_000);
        assert_eq!(index.sweep(1_000).unwrap(), 0);
        assert!((0..count).all(|n| offset(&index, n) == (n >= 1_000).then_some(n)));
        drop(index);
        let (index, watermark) = IdIndex::open(&dir.path().join("ids"), LOG, 1 << 20, 10).unwrap();
        assert_eq!((watermark, offset(&index, 999), offset(&index, 1_000)), (9, None, Some(1_000)));
    }

    #[test]
    fn one_that_is_ahead_condemned_or_of_another_log_opens_empty() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ids");
        let fill = || {
            let (index, _) = IdIndex::open(&path, LOG, 1 << 20, 1).unwrap();
            index.store(&entries(0..10), 5).unwrap();
            index
        };
        drop(fill());
        assert_eq!(IdIndex::open(&path, LOG, 1 << 20, 6).unwrap().1, 5, "neither ahead nor behind");
        let (index, watermark) = IdIndex::open(&path, LOG, 1 << 20, 5).unwrap();
        assert_eq!((watermark, offset(&index, 1)), (0, None), "ahead");
        drop(index);
        fill().condemn();
        let (index, watermark) = IdIndex::open(&path, LOG, 1 << 20, 6).unwrap();
        assert_eq!((watermark, offset(&index, 1)), (0, None), "condemned");
        drop(index);
        drop(fill());
        let (index, watermark) = IdIndex::open(&path, Identity([4; 16]), 1 << 20, 6).unwrap();
        assert_eq!((watermark, offset(&index, 1)), (0, None), "of another log");
    }
}
