//! The index of a sealed segment, so that opening trusts the segment without reading it and a read finds its place in a few small reads.
//!
//! The segment itself is checked frame by frame when it is read. Integers are little-endian.
//!
//! ```text
//!  0  magic          48 44 49 44 58 00 ff 01
//!  8  crc            CRC32C (started as in `frame`) of bytes 12 to the end of the table
//! 12  slots          u32
//! 16  next_sequence  u64, after its last frame
//! 24  end            u64, where its frames end
//! 32  last_at        u64, append time of its last frame
//! 40  rows           u64
//! 48  table          per partition: next offset u64, derived cursor u64, at its end
//!     rows           one about each 64 KiB of frames: frame at u64, per partition next offset before it u64, CRC32C of these u32, zero u32
//! ```

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use heddle_model::{Millis, Offset};

use crate::frame::Broken;
use crate::scan::Scanned;
use crate::segment::{Checkpoint, read_at};
use crate::slots::Slots;

const MAGIC: [u8; 8] = [b'H', b'D', b'I', b'D', b'X', 0, 0xff, 1];

/// What a segment was when it was sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sealed {
    pub(crate) next_sequence: u64,
    pub(crate) end: u64,
    pub(crate) last_at: Millis,
    pub(crate) next: Box<[Offset]>,
    pub(crate) derived: Box<[Offset]>,
}

impl From<&Scanned> for Sealed {
    fn from(scanned: &Scanned) -> Self {
        Self {
            next_sequence: scanned.sequence,
            end: scanned.end,
            last_at: scanned.last_at,
            next: scanned.next.clone(),
            derived: scanned.derived.clone(),
        }
    }
}

fn head_bytes(slots: Slots) -> usize {
    48 + 16 * slots.count()
}

fn row_bytes(slots: Slots) -> usize {
    16 + 8 * slots.count()
}

/// Writes the index of a segment under a temporary name, syncs it, then gives it its own.
pub(crate) fn write(path: &Path, sealed: &Sealed, rows: &[Checkpoint], seed: u32) -> io::Result<()> {
    let mut out = Vec::new();
    out.extend(MAGIC);
    out.extend([0; 4]);
    out.extend((sealed.next.len() as u32).to_le_bytes());
    for number in [sealed.next_sequence, sealed.end, sealed.last_at, rows.len() as u64] {
        out.extend(number.to_le_bytes());
    }
    for (next, derived) in sealed.next.iter().zip(&sealed.derived) {
        out.extend(next.to_le_bytes());
        out.extend(derived.to_le_bytes());
    }
    let crc = crc32c::crc32c_append(seed, &out[12..]);
    out[8..12].copy_from_slice(&crc.to_le_bytes());
    for row in rows {
        let from = out.len();
        out.extend(row.at.to_le_bytes());
        for next in &row.next {
            out.extend(next.to_le_bytes());
        }
        let crc = crc32c::crc32c_append(seed, &out[from..]);
        out.extend(crc.to_le_bytes());
        out.extend([0; 4]);
    }
    let fresh = path.with_extension("idx.tmp");
    let mut file = File::create(&fresh)?;
    file.write_all(&out)?;
    file.sync_all()?;
    fs::rename(&fresh, path)
}

/// Reads and checks all but the rows; `None` if it is not there or not whole.
pub(crate) fn read(path: &Path, seed: u32, slots: Slots) -> Option<Sealed> {
    let file = File::open(path).ok()?;
    let head = read_at(&file, 0, head_bytes(slots)).ok()?;
    let whole = head.len() == head_bytes(slots) && head[..8] == MAGIC;
    let u64_at = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("8 bytes"));
    let u32_at = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("4 bytes"));
    if !whole || crc32c::crc32c_append(seed, &head[12..]) != u32_at(8) || u32_at(12) as usize != slots.count() {
        return None;
    }
    let file_bytes = file.metadata().ok()?.len();
    if file_bytes != head_bytes(slots) as u64 + u64_at(40) * row_bytes(slots) as u64 {
        return None;
    }
    Some(Sealed {
        next_sequence: u64_at(16),
        end: u64_at(24),
        last_at: u64_at(32),
        next: (0..slots.count()).map(|slot| u64_at(48 + 16 * slot)).collect(),
        derived: (0..slots.count()).map(|slot| u64_at(56 + 16 * slot)).collect(),
    })
}

/// Where the last frame noted that starts at or below `offset` of `slot` stands; `None` before the first row.
pub(crate) fn find(path: &Path, slot: usize, offset: Offset, seed: u32, slots: Slots) -> io::Result<Option<u64>> {
    let file = File::open(path)?;
    let rows = (file.metadata()?.len() - head_bytes(slots) as u64) / row_bytes(slots) as u64;
    let row = |index: u64| -> io::Result<(u64, Offset)> {
        let at = head_bytes(slots) as u64 + index * row_bytes(slots) as u64;
        let row = read_at(&file, at, row_bytes(slots))?;
        let covered = row.len().saturating_sub(8);
        let u64_at = |at: usize| u64::from_le_bytes(row[at..at + 8].try_into().expect("8 bytes"));
        if row.len() != row_bytes(slots)
            || row[covered..covered + 4] != crc32c::crc32c_append(seed, &row[..covered]).to_le_bytes()
        {
            return Err(io::Error::new(io::ErrorKind::InvalidData, Broken::HeadChecksum));
        }
        Ok((u64_at(0), u64_at(8 + 8 * slot)))
    };
    let (mut low, mut high, mut found) = (0, rows, None);
    while low < high {
        let middle = low + (high - low) / 2;
        let (at, next) = row(middle)?;
        if next <= offset {
            found = Some(at);
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(found)
}
