//! The way to the shared states, and what can happen on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use async_trait::async_trait;
use heddle_model::{Clock, ManualClock, Millis};
use heddle_registry::{EmbeddedStates, KeyedStates, RegistryError, Swap, Versioned};
use parking_lot::Mutex;

/// What happens to calls.
#[derive(Debug, Clone)]
pub(crate) enum Trouble {
    None,
    /// An error at once.
    Fails,
    /// No answer, ever.
    Hangs,
    /// A change is stored, and its answer never comes.
    LosesAnswers,
    /// Before the next change somebody else stores this.
    Overtaken {
        key: &'static str,
        bytes: Vec<u8>,
    },
    /// Before every change somebody else was there.
    AlwaysOvertaken,
    /// Calls take turns by chance; of sixteen changes so many are told that somebody else was first though nobody was.
    Jitter {
        seed: u64,
        forced: u64,
    },
}

/// Shared states in memory.
pub(crate) struct Line {
    pub(crate) inner: EmbeddedStates,
    trouble: Mutex<Trouble>,
    pub(crate) calls: AtomicU64,
    pub(crate) swaps: AtomicU64,
    keys: Mutex<Vec<String>>,
}

impl Line {
    pub(crate) fn new() -> Arc<Self> {
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(1));
        let inner = EmbeddedStates::new(clock, 1_000.try_into().unwrap());
        let (calls, swaps) = (AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Self { inner, trouble: Mutex::new(Trouble::None), calls, swaps, keys: Mutex::default() })
    }

    pub(crate) fn trouble(&self, trouble: Trouble) {
        *self.trouble.lock() = trouble;
    }

    /// All that were asked for.
    pub(crate) fn keys(&self) -> Vec<String> {
        let mut keys = self.keys.lock().clone();
        keys.sort();
        keys.dedup();
        keys
    }

    /// What the next call meets.
    fn next(&self) -> Trouble {
        self.calls.fetch_add(1, SeqCst);
        let mut trouble = self.trouble.lock();
        if let Trouble::Jitter { seed, .. } = &mut *trouble {
            *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        }
        trouble.clone()
    }

    async fn pass(&self, trouble: &Trouble) -> Result<(), RegistryError> {
        match trouble {
            Trouble::Fails => Err(RegistryError::Unavailable("it fails".to_owned())),
            Trouble::Hangs => std::future::pending().await,
            Trouble::Jitter { seed, .. } => {
                for _ in 0..(seed >> 33) % 8 {
                    tokio::task::yield_now().await;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl KeyedStates for Line {
    async fn get(&self, key: &str) -> Result<Option<Versioned>, RegistryError> {
        let trouble = self.next();
        self.keys.lock().push(key.to_owned());
        self.pass(&trouble).await?;
        self.inner.get(key).await
    }

    async fn swap(&self, key: &str, seen: u64, bytes: &[u8], keep: Millis) -> Result<Swap, RegistryError> {
        let trouble = self.next();
        self.swaps.fetch_add(1, SeqCst);
        self.pass(&trouble).await?;
        match trouble {
            Trouble::LosesAnswers => {
                self.inner.swap(key, seen, bytes, keep).await?;
                std::future::pending().await
            }
            Trouble::Overtaken { key, bytes } => {
                self.trouble(Trouble::None);
                let there = self.inner.get(key).await?.map_or(0, |state| state.version);
                self.inner.swap(key, there, &bytes, 60_000).await?;
                Ok(Swap::Conflict(self.inner.get(key).await?))
            }
            Trouble::AlwaysOvertaken => Ok(Swap::Conflict(self.inner.get(key).await?)),
            Trouble::Jitter { seed, forced } if (seed >> 40) % 16 < forced => {
                Ok(Swap::Conflict(self.inner.get(key).await?))
            }
            _ => self.inner.swap(key, seen, bytes, keep).await,
        }
    }
}
