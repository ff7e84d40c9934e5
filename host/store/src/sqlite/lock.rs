//! One process per database.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

/// The lock file beside a database: locked (flock) as long as this lives, its text the process id of the holder.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
}

/// Why the lock was not had.
#[derive(Debug)]
pub(super) enum LockError {
    /// Another process holds it; its id, if it can be read.
    Held(Option<u32>),
    Io(io::Error),
}

impl Lock {
    /// `store.db` is guarded by `store.lock`.
    pub(super) fn path(database: &Path) -> PathBuf {
        database.with_extension("lock")
    }

    pub(super) fn take(database: &Path) -> Result<Self, LockError> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(Self::path(database))
            .map_err(LockError::Io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let read = file.read_to_string(&mut text);
                return Err(LockError::Held(read.ok().and_then(|_| text.trim().parse().ok())));
            }
            Err(TryLockError::Error(error)) => return Err(LockError::Io(error)),
        }
        file.set_len(0).and_then(|()| file.rewind()).map_err(LockError::Io)?;
        writeln!(file, "{}", std::process::id()).map_err(LockError::Io)?;
        Ok(Self { file })
    }
}

impl Drop for Lock {
    /// A process that is being started holds a copy of every file until it runs: closing ours alone would leave the lock taken for that long.
    fn drop(&mut self) {
        let _ = self.file.unlock();
    }
}
