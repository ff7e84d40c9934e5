//! Reads what is no longer in the cache: finds the segment, then the frame, then checks what it gives out.

use std::fs::File;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use heddle_model::Offset;

use crate::cache::take;
use crate::frame::{Head, head_bytes_max, seed};
use crate::segment::{Index, Segment, after, header_bytes, read_at};
use crate::sidecar;
use crate::state::Shared;
use crate::{Batch, ReadError};

const WINDOW_BYTES: usize = 128 << 10;

/// Durable records of `slot` from `from`, which is below its head.
pub(crate) fn read(shared: &Shared, slot: usize, from: Offset, bytes_max: usize) -> Result<Batch, ReadError> {
    let partition = shared.slots.at(slot);
    let (head, mut batch, mut bytes) = (shared.head(slot), Batch { next: from, ..Batch::default() }, 0);
    while batch.next < head {
        let Some(segment) = segment_of(shared, slot, batch.next) else { return Err(gone(shared, slot, from)) };
        let before = batch.next;
        match read_segment(shared, &segment, slot, bytes_max, &mut bytes, &mut batch) {
            Ok(true) if batch.next > before => {}
            Ok(_) if !batch.records.is_empty() => return Ok(batch),
            Ok(_) => {
                let reason = format!("{} has no record of it, restore it from a copy", segment.path().display());
                return Err(ReadError::Unavailable { partition, from, reason });
            }
            Err(_) if !batch.records.is_empty() => return Ok(batch),
            Err(_) if from < shared.start(slot) => return Err(gone(shared, slot, from)),
            Err(error) => {
                let reason = format!("{} cannot be read ({error}), check its disk", segment.path().display());
                tracing::error!(file = %segment.path().display(), %error, "segment cannot be read");
                return Err(ReadError::Unavailable { partition, from, reason });
            }
        }
    }
    Ok(batch)
}

pub(crate) fn gone(shared: &Shared, slot: usize, from: Offset) -> ReadError {
    ReadError::Gone { partition: shared.slots.at(slot), from, start: shared.start(slot) }
}

/// The last segment that starts at or below the offset.
fn segment_of(shared: &Shared, slot: usize, offset: Offset) -> Option<Arc<Segment>> {
    let segments = shared.segments.read();
    let index = segments.partition_point(|segment| segment.start.next[slot] <= offset);
    index.checked_sub(1).map(|index| segments[index].clone())
}

/// Adds records of one segment; `false` when the batch is full.
fn read_segment(
    shared: &Shared,
    segment: &Segment,
    slot: usize,
    bytes_max: usize,
    bytes: &mut usize,
    batch: &mut Batch,
) -> io::Result<bool> {
    let (slots, seed) = (shared.slots, seed(shared.identity(), segment.start.number));
    let partition = slots.at(slot);
    let file = File::open(segment.path())?;
    let mut at = first_frame(shared, segment, slot, batch.next, seed)?;
    let end = segment.end();
    let (mut window, mut window_at) = (Vec::new(), at);
    while at < end {
        let want = head_bytes_max(slots).min((end - at) as usize);
        if (at - window_at) as usize + want > window.len() {
            window = read_at(&file, at, WINDOW_BYTES.min((end - at) as usize))?;
            window_at = at;
        }
        let frame = &window[(at - window_at) as usize..];
        let head = Head::parse(frame, seed, slots).map_err(|broken| broken_at(at, broken))?;
        let section = head.sections.iter().find(|section| section.at == partition);
        if let Some(section) = section.filter(|section| section.first + u64::from(section.count) > batch.next) {
            if section.first > batch.next {
                return Err(broken_at(at, crate::frame::Broken::Sequence));
            }
            let range = section.start..section.start + section.bytes;
            let records = match frame.get(range) {
                Some(records) => Bytes::copy_from_slice(records),
                None => read_at(&file, at + section.start as u64, section.bytes)?.into(),
            };
            section.check(&records, seed).map_err(|broken| broken_at(at, broken))?;
            if !take(section.first, head.appended_at, &records, batch.next, bytes_max, bytes, batch) {
                return Ok(false);
            }
        }
        at = after(at, head.frame_bytes);
    }
    Ok(true)
}

fn broken_at(at: u64, broken: crate::frame::Broken) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("byte {at}: {broken}"))
}

/// Where to begin to walk.
fn first_frame(shared: &Shared, segment: &Segment, slot: usize, offset: Offset, seed: u32) -> io::Result<u64> {
    let found = match &*segment.index.read() {
        Index::Memory(checkpoints) => {
            let index = checkpoints.partition_point(|checkpoint| checkpoint.next[slot] <= offset);
            index.checked_sub(1).map(|index| checkpoints[index].at)
        }
        Index::Sidecar => sidecar::find(&segment.sidecar_path(), slot, offset, seed, shared.slots).unwrap_or_else(
            |error| {
                tracing::warn!(file = %segment.sidecar_path().display(), %error, "index cannot be read, walking the segment");
                None
            },
        ),
    };
    Ok(found.unwrap_or(header_bytes(shared.slots)))
}
