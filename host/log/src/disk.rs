//! What the log asks of the disk for its segments, so that tests can make it fail.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The two operations on the way to durable.
pub trait Disk: Send + Sync + 'static {
    /// Writes all of `bytes` at `at`: a piece of a new segment's zeros, which may find the disk full, or a frame over them.
    ///
    /// # Errors
    /// What the system said; part of it may be written.
    fn write(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()>;

    /// Returns when everything written to `file` is on the medium.
    ///
    /// # Errors
    /// What the system said; what is on the medium is then unknown.
    fn sync(&self, file: &File) -> io::Result<()>;
}

/// The system's disk: `pwrite` and `fdatasync`.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemDisk;

impl Disk for SystemDisk {
    fn write(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        file.write_all_at(bytes, at)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        Ok(rustix::fs::fdatasync(file)?)
    }
}
