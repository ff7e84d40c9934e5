//! The id index on disk: fjall, never synced, since the log can always tell its ids again.
//!
//! Keyspace `ids`: message id to (topic u32, partition u32, offset u64, appended_at u64), big-endian. Keyspace `about`: `identity` of the log and
//! `watermark`, the commit up to which all ids are in; it is written in the same batch as the ids that it covers.

use std::path::{Path, PathBuf};

use fjall::{Database, Keyspace, KeyspaceCreateOptions};
use heddle_model::{MessageId, Millis, TopicPartition};
use parking_lot::Mutex;

use crate::recent::Known;
use crate::slots::{topic_code, topic_of};
use crate::{Identity, OpenError, Place};

/// Entries that one sweep looks at.
const SWEEP_IDS_MAX: usize = 10_000;
/// Memory that new ids take before fjall writes them to a table.
const MEMTABLE_BYTES: u64 = 8 << 20;

/// What fjall reads again when it opens: the least that it allows.
const JOURNAL_BYTES: u64 = 64 << 20;

pub(crate) struct IdIndex {
    database: Database,
    ids: Keyspace,
    about: Keyspace,
    /// Where the next sweep goes on.
    swept: Mutex<Option<Vec<u8>>>,
}

impl std::fmt::Debug for IdIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IdIndex")
    }
}

impl IdIndex {
    /// Opens the index of this log, or an empty one. Answers the watermark: 0 if it is empty.
    pub(crate) fn open(
        dir: &Path,
        identity: Identity,
        cache_bytes: u64,
        next_sequence: u64,
    ) -> Result<(Self, u64), OpenError> {
        let existed = dir.exists();
        match Self::try_open(dir, cache_bytes) {
            Ok(index) => match index.about() {
                Ok(Some((found, watermark))) if found == identity.0 && watermark < next_sequence => {
                    return Ok((index, watermark));
                }
                Ok(None) if !existed => return index.claim(dir, identity),
                _ => tracing::warn!(dir = %dir.display(), "id index is of another log or state, rebuilding it"),
            },
            Err(error) => tracing::warn!(dir = %dir.display(), %error, "id index does not open, rebuilding it"),
        }
        let failed = |reason: String| OpenError::Ids { path: dir.to_owned(), reason };
        if dir.exists() {
            std::fs::remove_dir_all(dir).map_err(|error| failed(error.to_string()))?;
        }
        Self::try_open(dir, cache_bytes).map_err(|error| failed(error.to_string()))?.claim(dir, identity)
    }

    fn try_open(dir: &Path, cache_bytes: u64) -> fjall::Result<Self> {
        let database = Database::builder(dir)
            .cache_size(cache_bytes)
            .worker_threads(1)
            .max_journaling_size(JOURNAL_BYTES)
            .open()?;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
        let ids = database.keyspace("ids", options)?;
        let about = database.keyspace("about", options)?;
        Ok(Self { database, ids, about, swept: Mutex::new(None) })
    }

    fn about(&self) -> fjall::Result<Option<([u8; 16], u64)>> {
        let (identity, watermark) = (self.about.get("identity")?, self.about.get("watermark")?);
        let identity = identity.and_then(|bytes| <[u8; 16]>::try_from(&*bytes).ok());
        let watermark = watermark.and_then(|bytes| <[u8; 8]>::try_from(&*bytes).ok()).map(u64::from_be_bytes);
        Ok(identity.map(|identity| (identity, watermark.unwrap_or(0))))
    }

    fn claim(self, dir: &Path, identity: Identity) -> Result<(Self, u64), OpenError> {
        let claimed = self.about.insert("identity", identity.0);
        claimed.map_err(|error| OpenError::Ids { path: PathBuf::from(dir), reason: error.to_string() })?;
        Ok((self, 0))
    }

    pub(crate) fn get(&self, id: &MessageId) -> Result<Option<Known>, String> {
        let value = self.ids.get(id.0).map_err(|error| error.to_string())?;
        value.map(|value| decode(&value).ok_or_else(|| format!("the entry of {id} is broken"))).transpose()
    }

    /// Stores ids and how far they go, together.
    pub(crate) fn store(&self, ids: &[(MessageId, Known)], watermark: u64) -> Result<(), String> {
        let mut batch = self.database.batch();
        for (id, known) in ids {
            batch.insert(&self.ids, id.0, encode(known));
        }
        batch.insert(&self.about, "watermark", watermark.to_be_bytes());
        batch.commit().map_err(|error| error.to_string())
    }

    /// Removes what was appended before `before` among the next [`SWEEP_IDS_MAX`] entries.
    pub(crate) fn sweep(&self, before: Millis) -> Result<usize, String> {
        let mut swept = self.swept.lock();
        let from = swept.take().unwrap_or_default();
        let mut batch = self.database.batch();
        let (mut seen, mut removed, mut last) = (0, 0, None);
        for entry in self.ids.range(from..).take(SWEEP_IDS_MAX) {
            let (key, value) = entry.into_inner().map_err(|error| error.to_string())?;
            seen += 1;
            if decode(&value).is_none_or(|known| known.appended_at < before) {
                batch.remove(&self.ids, &*key);
                removed += 1;
            }
            last = Some(key.to_vec());
        }
        batch.commit().map_err(|error| error.to_string())?;
        *swept = if seen == SWEEP_IDS_MAX { last } else { None };
        Ok(removed)
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
