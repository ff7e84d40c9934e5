//! The layout of one group commit.
//!
//! A frame starts at a multiple of 4 KiB and is padded with zeros to the next, so that no two frames share a page: a page that a power cut tears
//! belongs to the one frame whose fdatasync had not returned. Integers are little-endian.
//!
//! ```text
//! header, 40 bytes
//!   0  magic        ff 48 44 46
//!   4  head_crc     CRC32C of bytes 8 to the end of the directory
//!   8  sequence     u64, one more than the frame before, across segments
//!  16  appended_at  u64, milliseconds since 1970, of all its records
//!  24  frame_bytes  u32, header to last record, without padding
//!  28  sections     u32
//!  32  cursors      u32
//!  36  zero         u32
//! directory
//!   sections, 28 bytes each: topic u32, partition u32, first offset u64, records u32, bytes u32, CRC32C of those bytes u32
//!   cursors, 16 bytes each:  topic u32, partition u32, derived up to u64
//! records, section by section
//!   flags u8 (1: an id follows), length u32, [id 16 bytes], bytes
//! ```
//!
//! Checksums are CRC32C (RFC 3720, appendix B.4), started from that of the log's identity and the segment's number: bytes of another log or
//! segment, or of a record that looks like a frame, never pass.

use bytes::Bytes;
use heddle_model::{MessageId, Millis, Offset, TopicPartition};

use crate::Identity;
use crate::slots::{Slots, topic_code, topic_of};

/// Frames start at multiples of this.
pub(crate) const PAGE_BYTES: usize = 4096;
pub(crate) const HEADER_BYTES: usize = 40;
pub(crate) const SECTION_BYTES: usize = 28;
pub(crate) const CURSOR_BYTES: usize = 16;
/// Flags, length and id before a record's bytes.
pub(crate) const RECORD_OVERHEAD_BYTES: usize = 21;
const MAGIC: [u8; 4] = [0xff, b'H', b'D', b'F'];

/// Rounds up to whole pages.
pub(crate) fn pages(bytes: usize) -> usize {
    bytes.next_multiple_of(PAGE_BYTES)
}

/// The longest header and directory of a frame.
pub(crate) fn head_bytes_max(slots: Slots) -> usize {
    HEADER_BYTES + slots.count() * (SECTION_BYTES + CURSOR_BYTES)
}

/// Where checksums of a segment start.
pub(crate) fn seed(identity: Identity, segment: u64) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&identity.0), &segment.to_le_bytes())
}

/// Header and directory of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) sequence: u64,
    pub(crate) appended_at: Millis,
    /// Header to last record, without padding.
    pub(crate) frame_bytes: usize,
    pub(crate) sections: Vec<Section>,
    pub(crate) cursors: Vec<(TopicPartition, Offset)>,
}

/// The records of one partition in a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Section {
    pub(crate) at: TopicPartition,
    pub(crate) first: Offset,
    pub(crate) count: u32,
    /// Where its records start in the frame.
    pub(crate) start: usize,
    pub(crate) bytes: usize,
    pub(crate) crc: u32,
}

/// Why bytes are not a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Broken {
    #[error("nothing was written here")]
    Zero,
    #[error("no frame starts here")]
    Magic,
    #[error("the file ends inside a frame")]
    Short,
    #[error("the checksum of the frame's head is wrong")]
    HeadChecksum,
    #[error("the checksum of the frame's records is wrong")]
    RecordsChecksum,
    #[error("the frame contradicts itself")]
    Shape,
    #[error("the frame is of another place in the log")]
    Sequence,
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

impl Head {
    /// Reads and checks header and directory at the start of `window`.
    pub(crate) fn parse(window: &[u8], seed: u32, slots: Slots) -> Result<Self, Broken> {
        let header = window.get(..HEADER_BYTES).ok_or(Broken::Short)?;
        if header[..4] != MAGIC {
            return Err(if header.iter().all(|&byte| byte == 0) { Broken::Zero } else { Broken::Magic });
        }
        let (sections, cursors) = (u32_at(header, 28) as usize, u32_at(header, 32) as usize);
        if sections > slots.count() || cursors > slots.count() {
            return Err(Broken::HeadChecksum);
        }
        let head_bytes = HEADER_BYTES + sections * SECTION_BYTES + cursors * CURSOR_BYTES;
        let head = window.get(..head_bytes).ok_or(Broken::Short)?;
        if crc32c::crc32c_append(seed, &head[8..]) != u32_at(head, 4) {
            return Err(Broken::HeadChecksum);
        }
        let frame_bytes = u32_at(head, 24) as usize;
        let mut start = head_bytes;
        let partition = |at: usize| {
            let topic = topic_of(u32_at(head, at)).ok_or(Broken::Shape)?;
            let at = TopicPartition { topic, partition: u32_at(head, at + 4) };
            slots.index(at).map(|_| at).ok_or(Broken::Shape)
        };
        let mut out = Vec::with_capacity(sections);
        for at in (HEADER_BYTES..).step_by(SECTION_BYTES).take(sections) {
            let bytes = u32_at(head, at + 20) as usize;
            out.push(Section {
                at: partition(at)?,
                first: u64_at(head, at + 8),
                count: u32_at(head, at + 16),
                start,
                bytes,
                crc: u32_at(head, at + 24),
            });
            start += bytes;
        }
        let first_cursor = HEADER_BYTES + sections * SECTION_BYTES;
        let cursors = (first_cursor..).step_by(CURSOR_BYTES).take(cursors);
        let cursors = cursors.map(|at| Ok((partition(at)?, u64_at(head, at + 8)))).collect::<Result<_, Broken>>()?;
        if start != frame_bytes {
            return Err(Broken::Shape);
        }
        let (sequence, appended_at) = (u64_at(head, 8), u64_at(head, 16));
        Ok(Self { sequence, appended_at, frame_bytes, sections: out, cursors })
    }

    /// Checks the records of all sections; `frame` starts at the header.
    pub(crate) fn check(&self, frame: &[u8], seed: u32) -> Result<(), Broken> {
        for section in &self.sections {
            let records = frame.get(section.start..section.start + section.bytes).ok_or(Broken::Short)?;
            section.check(records, seed)?;
        }
        Ok(())
    }
}

impl Section {
    /// Checks the section's records.
    pub(crate) fn check(&self, records: &[u8], seed: u32) -> Result<(), Broken> {
        if crc32c::crc32c_append(seed, records) == self.crc { Ok(()) } else { Err(Broken::RecordsChecksum) }
    }
}

/// One record of a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) id: Option<MessageId>,
    pub(crate) bytes: Bytes,
}

/// Walks the records of a section, sharing its memory.
#[derive(Debug, Clone)]
pub(crate) struct Entries(pub(crate) Bytes);

impl Iterator for Entries {
    type Item = Result<Entry, Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        Some(self.entry().ok_or(Broken::Shape).inspect_err(|_| self.0.clear()))
    }
}

impl Entries {
    fn entry(&mut self) -> Option<Entry> {
        let flags = *self.0.first()?;
        let id_bytes = if flags & 1 == 1 { 16 } else { 0 };
        let length = u32_at(self.0.get(1..5)?, 0) as usize;
        let id = self.0.get(5..5 + id_bytes)?;
        let id = (id_bytes == 16).then(|| MessageId(id.try_into().expect("the slice has 16 bytes")));
        self.0.get(5 + id_bytes..5 + id_bytes + length)?;
        let bytes = self.0.slice(5 + id_bytes..5 + id_bytes + length);
        self.0 = self.0.slice(5 + id_bytes + length..);
        Some(Entry { id, bytes })
    }
}

/// Gathers the records of a commit, then lays them out.
#[derive(Debug)]
pub(crate) struct FrameBuilder {
    slots: Slots,
    runs: Vec<Run>,
    cursors: Vec<Option<Offset>>,
    records: usize,
    bytes: usize,
}

#[derive(Debug, Default, Clone)]
struct Run {
    first: Offset,
    count: u32,
    bytes: Vec<u8>,
}

impl FrameBuilder {
    pub(crate) fn new(slots: Slots) -> Self {
        let count = slots.count();
        Self { slots, runs: vec![Run::default(); count], cursors: vec![None; count], records: 0, bytes: 0 }
    }

    /// Adds a record that will stand at `offset`, one after the last of that slot.
    pub(crate) fn push(&mut self, slot: usize, offset: Offset, id: Option<&MessageId>, bytes: &[u8]) {
        let run = &mut self.runs[slot];
        if run.count == 0 {
            run.first = offset;
        }
        debug_assert_eq!(run.first + u64::from(run.count), offset, "offsets are dense");
        run.count += 1;
        self.records += 1;
        let before = run.bytes.len();
        run.bytes.push(u8::from(id.is_some()));
        run.bytes.extend((bytes.len() as u32).to_le_bytes());
        if let Some(id) = id {
            run.bytes.extend(id.0);
        }
        run.bytes.extend(bytes);
        self.bytes += run.bytes.len() - before;
    }

    /// Moves a `derived` cursor.
    pub(crate) fn cursor(&mut self, slot: usize, upto: Offset) {
        self.cursors[slot] = Some(upto);
    }

    /// Records so far.
    pub(crate) fn records(&self) -> usize {
        self.records
    }

    /// Bytes of records so far.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Neither records nor cursors.
    pub(crate) fn is_empty(&self) -> bool {
        self.records == 0 && self.cursors.iter().all(Option::is_none)
    }

    /// What it takes in a segment.
    pub(crate) fn frame_bytes(&self) -> usize {
        let sections = self.runs.iter().filter(|run| run.count > 0).count();
        let cursors = self.cursors.iter().flatten().count();
        HEADER_BYTES + sections * SECTION_BYTES + cursors * CURSOR_BYTES + self.bytes
    }

    /// Lays the frame out in `out`, padded to whole pages.
    pub(crate) fn encode(&self, sequence: u64, appended_at: Millis, seed: u32, out: &mut Vec<u8>) {
        let sections = self.runs.iter().filter(|run| run.count > 0).count();
        let cursors = self.cursors.iter().flatten().count();
        let frame_bytes = self.frame_bytes();
        out.clear();
        out.reserve(pages(frame_bytes));
        out.extend(MAGIC);
        out.extend([0; 4]);
        out.extend(sequence.to_le_bytes());
        out.extend(appended_at.to_le_bytes());
        for number in [frame_bytes, sections, cursors, 0] {
            out.extend((number as u32).to_le_bytes());
        }
        for (slot, run) in self.runs.iter().enumerate().filter(|(_, run)| run.count > 0) {
            let at = self.slots.at(slot);
            out.extend(topic_code(at.topic).to_le_bytes());
            out.extend(at.partition.to_le_bytes());
            out.extend(run.first.to_le_bytes());
            out.extend(run.count.to_le_bytes());
            out.extend((run.bytes.len() as u32).to_le_bytes());
            out.extend(crc32c::crc32c_append(seed, &run.bytes).to_le_bytes());
        }
        for (slot, upto) in self.cursors.iter().enumerate() {
            let Some(upto) = upto else { continue };
            let at = self.slots.at(slot);
            out.extend(topic_code(at.topic).to_le_bytes());
            out.extend(at.partition.to_le_bytes());
            out.extend(upto.to_le_bytes());
        }
        let head_crc = crc32c::crc32c_append(seed, &out[8..]);
        out[4..8].copy_from_slice(&head_crc.to_le_bytes());
        for run in &self.runs {
            out.extend(&run.bytes);
        }
        debug_assert_eq!(out.len(), frame_bytes, "the frame is as long as it says");
        out.resize(pages(frame_bytes), 0);
    }

    /// The runs of the commit: slot, first offset, number of records, their bytes as in the frame.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (usize, Offset, u32, &[u8])> {
        let runs = self.runs.iter().enumerate().filter(|(_, run)| run.count > 0);
        runs.map(|(slot, run)| (slot, run.first, run.count, run.bytes.as_slice()))
    }

    /// The cursors of the commit.
    pub(crate) fn cursors(&self) -> impl Iterator<Item = (usize, Offset)> {
        self.cursors.iter().enumerate().filter_map(|(slot, upto)| upto.map(|upto| (slot, upto)))
    }

    /// Empty again; keeps its memory unless one commit made it unusually large.
    pub(crate) fn clear(&mut self) {
        for run in &mut self.runs {
            run.count = 0;
            run.bytes.clear();
            run.bytes.shrink_to(64 << 10);
        }
        self.cursors.fill(None);
        (self.records, self.bytes) = (0, 0);
    }
}

#[cfg(test)]
mod tests;
