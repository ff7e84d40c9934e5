//! Files of native code that are in use, which the bound of their folder leaves alone.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use heddle_pack::trim_folder;
use parking_lot::Mutex;

/// Files that loaded plugins came from: the next start needs them.
#[derive(Default)]
pub(crate) struct InUse(Mutex<HashMap<PathBuf, Weak<Path>>>);

impl InUse {
    /// As long as the answer lives, the file is in use.
    pub(crate) fn hold(&self, path: &Path) -> Arc<Path> {
        let mut held = self.0.lock();
        if let Some(held) = held.get(path).and_then(Weak::upgrade) {
            return held;
        }
        held.retain(|_, held| held.strong_count() > 0);
        let file: Arc<Path> = path.into();
        held.insert(path.to_owned(), Arc::downgrade(&file));
        file
    }

    fn has(&self, path: &Path) -> bool {
        self.0.lock().get(path).is_some_and(|held| held.strong_count() > 0)
    }
}

/// Keeps the folder within so many bytes, what a process left half-written included.
pub(crate) fn trim(dir: &Path, bytes_max: u64, in_use: &InUse) -> io::Result<()> {
    let removed = trim_folder(dir, &["native", "partial"], bytes_max, |path| in_use.has(path))?;
    if removed > 0 {
        tracing::debug!(removed, "native code that was not used for longest is removed");
    }
    Ok(())
}
