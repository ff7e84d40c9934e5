//! A segment: a zero-filled file of fixed size, a header page, then frames.
//!
//! The header says where every partition stands when the segment starts, so that a segment is understood without those before it. It is written and
//! synced before the first frame. Integers are little-endian; it takes as many pages as it needs.
//!
//! ```text
//!  0  magic           48 44 53 45 47 00 ff 01
//!  8  crc             CRC32C (started as in `frame`) of bytes 12 to the end of the table
//! 12  slots           u32, entries in the table
//! 16  number          u64
//! 24  first_sequence  u64, of its first frame
//! 32  bytes           u64, of the file
//! 40  table           per partition (messages, group_messages, control): next offset u64, derived cursor u64
//! ```

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use heddle_model::{Millis, Offset};
use parking_lot::RwLock;

use crate::directory::{segment_name, sidecar_name};
use crate::disk::Disk;
use crate::frame::{Broken, PAGE_BYTES, pages};
use crate::slots::Slots;

const MAGIC: [u8; 8] = [b'H', b'D', b'S', b'E', b'G', 0, 0xff, 1];
/// A checkpoint is kept about each so many bytes of frames.
pub(crate) const CHECKPOINT_BYTES: u64 = 64 << 10;

/// What the header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) number: u64,
    pub(crate) first_sequence: u64,
    /// Of the file.
    pub(crate) bytes: u64,
    pub(crate) next: Box<[Offset]>,
    pub(crate) derived: Box<[Offset]>,
}

/// Bytes before the first frame.
pub(crate) fn header_bytes(slots: Slots) -> u64 {
    pages(40 + 16 * slots.count()) as u64
}

impl Start {
    /// Whole pages.
    pub(crate) fn encode(&self, seed: u32) -> Vec<u8> {
        let mut out = Vec::with_capacity(pages(40 + 16 * self.next.len()));
        out.extend(MAGIC);
        out.extend([0; 4]);
        out.extend((self.next.len() as u32).to_le_bytes());
        for number in [self.number, self.first_sequence, self.bytes] {
            out.extend(number.to_le_bytes());
        }
        for (next, derived) in self.next.iter().zip(&self.derived) {
            out.extend(next.to_le_bytes());
            out.extend(derived.to_le_bytes());
        }
        let crc = crc32c::crc32c_append(seed, &out[12..]);
        out[8..12].copy_from_slice(&crc.to_le_bytes());
        out.resize(pages(out.len()), 0);
        out
    }

    /// Reads and checks a header.
    pub(crate) fn decode(page: &[u8], seed: u32, slots: Slots) -> Result<Self, Broken> {
        let count = slots.count();
        let head = page.get(..40 + 16 * count).ok_or(Broken::Short)?;
        if head[..8] != MAGIC {
            return Err(if page.iter().all(|&byte| byte == 0) { Broken::Zero } else { Broken::Magic });
        }
        let u32_at = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("4 bytes"));
        let u64_at = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("8 bytes"));
        if crc32c::crc32c_append(seed, &head[12..]) != u32_at(8) || u32_at(12) as usize != count {
            return Err(Broken::HeadChecksum);
        }
        Ok(Self {
            number: u64_at(16),
            first_sequence: u64_at(24),
            bytes: u64_at(32),
            next: (0..count).map(|slot| u64_at(40 + 16 * slot)).collect(),
            derived: (0..count).map(|slot| u64_at(48 + 16 * slot)).collect(),
        })
    }
}

/// Where partitions stand at a frame of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    /// Where the frame starts.
    pub(crate) at: u64,
    /// Each partition's next offset before it.
    pub(crate) next: Box<[Offset]>,
}

/// How to find a frame in a segment.
#[derive(Debug)]
pub(crate) enum Index {
    /// The active segment, and one whose sidecar is not written yet.
    Memory(Vec<Checkpoint>),
    /// In the sidecar.
    Sidecar,
}

/// A segment of an open log.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) dir: PathBuf,
    pub(crate) start: Start,
    /// Where its durable frames end; grows while it is active.
    pub(crate) end: AtomicU64,
    /// The append time of its last frame.
    pub(crate) last_at: AtomicU64,
    pub(crate) index: RwLock<Index>,
}

impl Segment {
    pub(crate) fn new(dir: &Path, start: Start, end: u64, last_at: Millis, index: Index) -> Self {
        let (end, last_at) = (AtomicU64::new(end), AtomicU64::new(last_at));
        Self { dir: dir.to_owned(), start, end, last_at, index: RwLock::new(index) }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.join(segment_name(self.start.number))
    }

    pub(crate) fn sidecar_path(&self) -> PathBuf {
        self.dir.join(sidecar_name(self.start.number))
    }

    pub(crate) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// Remembers a frame that is about to end at `end`, if the last checkpoint is far enough.
    pub(crate) fn note(&self, frame_at: u64, next_before: &[Offset]) {
        if let Index::Memory(checkpoints) = &mut *self.index.write() {
            push_checkpoint(checkpoints, frame_at, next_before);
        }
    }
}

/// Adds a checkpoint if the last one lies at least [`CHECKPOINT_BYTES`] before.
pub(crate) fn push_checkpoint(checkpoints: &mut Vec<Checkpoint>, frame_at: u64, next_before: &[Offset]) {
    if checkpoints.last().is_none_or(|last| frame_at - last.at >= CHECKPOINT_BYTES) {
        checkpoints.push(Checkpoint { at: frame_at, next: next_before.into() });
    }
}

/// Fills a new file with zeros; `pause` is asked between pieces. Synced when it returns.
pub(crate) fn zero_fill(disk: &dyn Disk, path: &Path, bytes: u64, pause: impl FnMut()) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
    zero_from(disk, &file, 0, bytes, pause)?;
    file.sync_all()?;
    Ok(file)
}

/// Writes zeros from `at` until the file has `bytes`, a piece at a time.
pub(crate) fn zero_from(
    disk: &dyn Disk,
    file: &File,
    mut at: u64,
    bytes: u64,
    mut pause: impl FnMut(),
) -> io::Result<()> {
    const PIECE_BYTES: u64 = 1 << 20;
    let zeros = vec![0; PIECE_BYTES.min(bytes) as usize];
    while at < bytes {
        let piece = PIECE_BYTES.min(bytes - at);
        disk.write(file, &zeros[..piece as usize], at)?;
        at += piece;
        if at < bytes {
            pause();
        }
    }
    Ok(())
}

/// Reads at most what the file has.
pub(crate) fn read_at(file: &File, at: u64, bytes: usize) -> io::Result<Vec<u8>> {
    let mut out = vec![0; bytes];
    let mut filled = 0;
    while filled < bytes {
        match file.read_at(&mut out[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    out.truncate(filled);
    Ok(out)
}

/// Where the next frame after one of `frame_bytes` at `at` starts.
pub(crate) fn after(at: u64, frame_bytes: usize) -> u64 {
    at + frame_bytes.next_multiple_of(PAGE_BYTES) as u64
}
