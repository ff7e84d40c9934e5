//! The next segment's file: zero-filled ahead by the keeper, taken by the commit thread.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;

use parking_lot::Mutex;

use crate::directory::{segment_name, sync_dir};
use crate::disk::Disk;
use crate::segment::zero_fill;

/// A segment that has to be made while a commit waits has at most this many bytes, so that the wait is short.
const URGENT_BYTES: u64 = 8 << 20;
const SPARE: &str = "spare";

/// Holds at most one file.
#[derive(Debug, Default)]
pub(crate) struct SpareBox(Mutex<Option<(File, u64)>>);

impl SpareBox {
    /// Uses the spare that an earlier process left, or removes what is not one.
    pub(crate) fn adopt(&self, dir: &Path, bytes: u64) {
        let path = dir.join(SPARE);
        let file = OpenOptions::new().read(true).write(true).open(&path).ok();
        match file.filter(|file| file.metadata().is_ok_and(|about| about.len() == bytes)) {
            Some(file) => *self.0.lock() = Some((file, bytes)),
            None => drop(fs::remove_file(&path)),
        }
        for leftover in ["spare.tmp", "urgent.tmp"] {
            let _ = fs::remove_file(dir.join(leftover));
        }
    }

    /// Fills a spare if there is none.
    pub(crate) fn ensure(&self, disk: &dyn Disk, dir: &Path, bytes: u64, pause: impl FnMut()) -> io::Result<()> {
        if self.0.lock().is_some() {
            return Ok(());
        }
        let unfinished = dir.join("spare.tmp");
        let file = zero_fill(disk, &unfinished, bytes, pause).inspect_err(|_| drop(fs::remove_file(&unfinished)))?;
        let mut spare = self.0.lock();
        fs::rename(&unfinished, dir.join(SPARE))?;
        *spare = Some((file, bytes));
        Ok(())
    }

    /// A file named for segment `number` that has at least `need` bytes, its name durable.
    pub(crate) fn take(
        &self,
        disk: &dyn Disk,
        dir: &Path,
        number: u64,
        need: u64,
        segment_bytes: u64,
    ) -> io::Result<(File, u64)> {
        let mut spare = self.0.lock();
        let (file, bytes, name) = match spare.take() {
            Some((file, bytes)) if bytes >= need => (file, bytes, SPARE),
            other => {
                *spare = other;
                drop(spare);
                let bytes = segment_bytes.min(URGENT_BYTES).max(need);
                let path = dir.join("urgent.tmp");
                let made = zero_fill(disk, &path, bytes, || {});
                (made.inspect_err(|_| drop(fs::remove_file(&path)))?, bytes, "urgent.tmp")
            }
        };
        fs::rename(dir.join(name), dir.join(segment_name(number)))?;
        sync_dir(dir)?;
        Ok((file, bytes))
    }
}
