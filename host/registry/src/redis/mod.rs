//! Registry, bus and shared states on Redis or Valkey. The keys are described for operators in deploy/redis.md.
//!
//! [`Redis`] is a process's connections; what it hands out shares them. Nothing here waits for Redis at start, and nothing here is the truth.

mod bus;
mod config;
mod current;
mod frame;
mod keys;
mod lease;
mod link;
mod own;
mod receive;
mod registry;
mod states;
mod tls;

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use heddle_model::Clock;

pub use bus::{Codec, RedisBus};
pub use config::{RedisConfig, RedisMode, RedisSettingError};
pub use registry::RedisRegistry;
pub use states::RedisStates;
pub use tls::RedisTls;

use crate::Inbox;
use keys::Keys;
use link::Link;

/// A process's way to Redis: one connection for calls; the bus opens one more to listen on.
#[derive(Clone)]
pub struct Redis {
    link: Arc<Link>,
    config: Arc<RedisConfig>,
    keys: Arc<Keys>,
    life: Life,
    clock: Arc<dyn Clock>,
}

/// Which life of a node: a process that starts anew under the same name is another one, and what its predecessor left does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Life(pub(crate) u64);

impl Life {
    fn new() -> Self {
        Self(chance() | 1)
    }
}

impl std::fmt::Display for Life {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A number that no other process draws: for lives and for pauses, where nothing is to be repeated.
fn chance() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

impl Redis {
    /// Begins to connect, and goes on until it is dropped. Does not wait.
    ///
    /// # Errors
    /// A setting that cannot be used.
    pub fn connect(config: RedisConfig, clock: Arc<dyn Clock>) -> Result<Self, RedisSettingError> {
        let link = Link::open(&config)?;
        let keys = Keys::new(&config.prefix, config.mode == RedisMode::Cluster);
        Ok(Self { link, keys: Arc::new(keys), config: Arc::new(config), life: Life::new(), clock })
    }

    /// Reads these files; what comes of it makes them count from the next connection on. Those that are there go on.
    ///
    /// # Errors
    /// A file that cannot be used. Nothing has changed.
    pub fn exchange(&self, tls: &RedisTls) -> Result<impl FnOnce() + use<>, RedisSettingError> {
        let exchanged = self.link.current().map(|current| Ok((Arc::clone(current), tls.read()?))).transpose()?;
        Ok(move || {
            if let Some((current, proof)) = exchanged {
                current.exchange(proof);
            }
        })
    }

    /// The registry of this node. One per process.
    #[must_use]
    pub fn registry(&self) -> RedisRegistry {
        RedisRegistry::start(
            Arc::clone(&self.link),
            Arc::clone(&self.keys),
            &self.config,
            self.life,
            Arc::clone(&self.clock),
        )
    }

    /// The bus of this node. One per process and `T`.
    #[must_use]
    pub fn bus<T: Send + Sync + 'static>(&self, inbox: Inbox<T>, codec: Codec<T>) -> RedisBus<T> {
        RedisBus::start(Arc::clone(&self.link), Arc::clone(&self.keys), &self.config, self.life, inbox, codec)
    }

    /// States that all nodes share.
    #[must_use]
    pub fn states(&self) -> RedisStates {
        RedisStates::new(Arc::clone(&self.link), Arc::clone(&self.keys))
    }

    /// Does Redis answer now? What the last calls say.
    #[must_use]
    pub fn answers(&self) -> bool {
        self.link.answers()
    }

    /// Says in the log, once Redis answers, what answers.
    pub async fn announce(&self) {
        let mut came = self.link.came();
        while came.changed().await.is_ok() {
            if let Some(version) = self.version().await {
                tracing::info!(%version, node = %self.config.node, life = %self.life, "nodes find each other over Redis");
                return;
            }
        }
    }

    /// The version that the server tells, as "redis 7.0.15".
    pub async fn version(&self) -> Option<String> {
        self.link.version().await
    }
}
