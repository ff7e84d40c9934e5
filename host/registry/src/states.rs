//! Small states that several nodes change: compare-and-set by version. What rate limits share between nodes.

use std::num::NonZeroUsize;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use heddle_model::{Clock, Millis};
use lru::LruCache;
use parking_lot::Mutex;

use crate::RegistryError;

/// A state as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned {
    /// What was stored.
    pub bytes: Bytes,
    /// Grows with every change of the key, also over an expiry.
    pub version: u64,
}

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Swap {
    /// Stored under this version; 0: forgotten.
    Done(u64),
    /// Somebody else was first: this is there now, and nothing was changed.
    Conflict(Option<Versioned>),
}

/// States by key. How often to try, and what decides when it does not answer, is the caller's.
#[async_trait]
pub trait KeyedStates: Send + Sync + 'static {
    /// What is remembered under a key and has not expired.
    ///
    /// # Errors
    /// If the backend is away.
    async fn get(&self, key: &str) -> Result<Option<Versioned>, RegistryError>;

    /// Remembers `bytes` for `keep` milliseconds if the key still has the version `seen` (0: is not there). No bytes, or no time: forgets.
    ///
    /// # Errors
    /// If the backend is away; whether it was stored is then unknown.
    async fn swap(&self, key: &str, seen: u64, bytes: &[u8], keep: Millis) -> Result<Swap, RegistryError>;
}

struct Kept {
    state: Versioned,
    until: Millis,
}

/// In process: one node. Bounded; the least recently used go first.
pub struct EmbeddedStates {
    clock: Arc<dyn Clock>,
    kept: Mutex<(LruCache<Box<str>, Kept>, u64)>,
}

impl EmbeddedStates {
    /// Empty, for at most `keys_max`.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, keys_max: NonZeroUsize) -> Self {
        Self { clock, kept: Mutex::new((LruCache::new(keys_max), 0)) }
    }
}

#[async_trait]
impl KeyedStates for EmbeddedStates {
    async fn get(&self, key: &str) -> Result<Option<Versioned>, RegistryError> {
        let now = self.clock.now();
        let mut kept = self.kept.lock();
        Ok(kept.0.get(key).filter(|kept| kept.until > now).map(|kept| kept.state.clone()))
    }

    async fn swap(&self, key: &str, seen: u64, bytes: &[u8], keep: Millis) -> Result<Swap, RegistryError> {
        let now = self.clock.now();
        let (kept, last) = &mut *self.kept.lock();
        let there = kept.get(key).filter(|kept| kept.until > now).map(|kept| kept.state.clone());
        if there.as_ref().map_or(0, |state| state.version) != seen {
            return Ok(Swap::Conflict(there));
        }
        if bytes.is_empty() || keep == 0 {
            kept.pop(key);
            return Ok(Swap::Done(0));
        }
        *last += 1;
        let state = Versioned { bytes: Bytes::copy_from_slice(bytes), version: *last };
        kept.put(key.into(), Kept { state, until: now.saturating_add(keep) });
        Ok(Swap::Done(*last))
    }
}
