//! Components that are loaded already. A swap that leaves a plugin as it is keeps it, warm instances and all: only what is new costs anything.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use heddle_model::{Digest, Hook};
use heddle_pack::Packed;
use parking_lot::Mutex;

use crate::{Component, Loader};

/// All that a loaded component depends on: limits are the manifest's, which the digest covers, or the process's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    digest: Digest,
    hook: Hook,
    /// As `configure` got it.
    config: String,
}

/// Those that some generation holds; the last one that lets go of a component unloads it.
pub(crate) struct Reuse {
    loader: Arc<dyn Loader>,
    held: Mutex<HashMap<Key, Weak<dyn Component>>>,
}

impl Reuse {
    pub(crate) fn new(loader: Arc<dyn Loader>) -> Self {
        Self { loader, held: Mutex::default() }
    }

    /// The component that is there, or a new one. A policy is a pure function, so that it does not matter who called its instances before;
    /// what is counted of it is counted by each generation for itself.
    pub(crate) async fn load(
        &self,
        plugin: &Packed,
        digest: Digest,
        hook: Hook,
        config: String,
    ) -> Result<Arc<dyn Component>, String> {
        let key = Key { digest, hook, config };
        if let Some(component) = self.held.lock().get(&key).and_then(Weak::upgrade) {
            return Ok(component);
        }
        let component = self.loader.load(plugin, hook, &key.config).await?;
        let mut held = self.held.lock();
        held.retain(|_, component| component.strong_count() > 0);
        held.insert(key, Arc::downgrade(&component));
        Ok(component)
    }
}
