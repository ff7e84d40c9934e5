//! What an embedded log is told when it is opened; every bound that it keeps stands here.

use std::path::PathBuf;

use heddle_model::Millis;

/// Settings of an [`EmbeddedLog`](crate::EmbeddedLog). `LogConfig::new(dir)` has the defaults.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// The directory; one process at a time opens it.
    pub dir: PathBuf,
    /// Make the directory if it is not there. Without it a missing directory (a disk that was not mounted) is an error.
    pub create: bool,
    /// Partitions of `messages` and of `group_messages`, each. Fixed when the log is made. 1 to 1,024.
    pub partitions: u32,
    /// Size of a segment's file; retention removes whole segments. At least 16 KiB.
    pub segment_bytes: u64,
    /// One commit collects requests until its records have this many bytes.
    pub frame_bytes_max: usize,
    /// One commit collects at most this many records (a single `derive` may bring more).
    pub frame_records_max: usize,
    /// For how long a commit that nobody waits for collects more, in milliseconds; what somebody waits for ends it at once.
    pub derive_linger_ms: Millis,
    /// A larger record is refused.
    pub record_bytes_max: usize,
    /// Requests that wait for the commit thread.
    pub queue_requests_max: usize,
    /// Bytes of requests that wait for the commit thread or are being committed.
    pub queue_bytes_max: usize,
    /// Newest records kept in memory, so that workers and archiver read them without the disk.
    pub cache_bytes_max: usize,
    /// Age by the log's clock from which records may be removed, in milliseconds.
    pub retention_ms: Millis,
    /// How often retention runs by itself, in milliseconds.
    pub retention_interval_ms: Millis,
    /// Bound on the bytes of all segments. At it appends are refused, nothing is dropped; what workers derive may go a quarter (at least two
    /// segments) above it, since retention waits for them. `None`: the disk is the bound.
    pub bytes_max: Option<u64>,
    /// For how long a message id is remembered, in milliseconds.
    pub dedupe_window_ms: Millis,
    /// How often a bounded part of the id index is swept for older ids, in milliseconds.
    pub dedupe_sweep_interval_ms: Millis,
    /// Ids that may wait for the index on disk before commits wait too; half of it, at most 65,536, go there at once.
    pub ids_pending_max: usize,
    /// Block cache of the id index.
    pub ids_cache_bytes: u64,
}

impl LogConfig {
    /// The defaults, for a log in `dir`.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            create: true,
            partitions: 16,
            segment_bytes: 64 << 20,
            frame_bytes_max: 4 << 20,
            frame_records_max: 4096,
            derive_linger_ms: 5,
            record_bytes_max: 4 << 20,
            queue_requests_max: 8192,
            queue_bytes_max: 64 << 20,
            cache_bytes_max: 32 << 20,
            retention_ms: 7 * 24 * 3600 * 1000,
            retention_interval_ms: 60_000,
            bytes_max: None,
            dedupe_window_ms: 30 * 24 * 3600 * 1000,
            dedupe_sweep_interval_ms: 60_000,
            ids_pending_max: 131_072,
            ids_cache_bytes: 16 << 20,
        }
    }
}
