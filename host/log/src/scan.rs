//! Walks the frames of a segment from its start, checking everything.

use std::fs::File;
use std::io;

use heddle_model::{Millis, Offset};

use crate::frame::{Broken, Entries, Head, PAGE_BYTES, head_bytes_max};
use crate::segment::{Checkpoint, Start, after, header_bytes, push_checkpoint, read_at};
use crate::slots::Slots;

const WINDOW_BYTES: usize = 1 << 20;

/// A place in a segment that is walked frame by frame.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    file: &'a File,
    seed: u32,
    slots: Slots,
    bytes: u64,
    window: Vec<u8>,
    window_at: u64,
    /// Where the next frame is expected.
    pub(crate) at: u64,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(file: &'a File, bytes: u64, at: u64, seed: u32, slots: Slots) -> Self {
        Self { file, seed, slots, bytes, window: Vec::new(), window_at: at, at }
    }

    /// The frame at [`at`](Self::at), checked, and its bytes; then stands behind it. Stays where a frame is broken.
    pub(crate) fn frame(&mut self) -> io::Result<Result<(Head, &[u8]), Broken>> {
        let room = self.bytes.saturating_sub(self.at) as usize;
        let (seed, slots) = (self.seed, self.slots);
        let head = Head::parse(self.window(head_bytes_max(slots).min(room))?, seed, slots);
        let head = match head {
            Ok(head) if head.frame_bytes <= room => head,
            Ok(_) => return Ok(Err(Broken::Short)),
            Err(broken) => return Ok(Err(if room == 0 { Broken::Zero } else { broken })),
        };
        let (at, length) = (self.at, head.frame_bytes);
        if let Err(broken) = head.check(self.window(length)?, seed) {
            return Ok(Err(broken));
        }
        self.at = after(at, length);
        let from = (at - self.window_at) as usize;
        Ok(Ok((head, &self.window[from..from + length])))
    }

    /// At least `bytes` at the current place, unless the file ends.
    fn window(&mut self, bytes: usize) -> io::Result<&[u8]> {
        let from = (self.at.saturating_sub(self.window_at)) as usize;
        if self.at < self.window_at || from + bytes > self.window.len() {
            self.window = read_at(self.file, self.at, bytes.max(WINDOW_BYTES))?;
            self.window_at = self.at;
        }
        Ok(&self.window[(self.at - self.window_at) as usize..])
    }
}

/// What a scan found.
#[derive(Debug)]
pub(crate) struct Scanned {
    /// Behind the last good frame.
    pub(crate) end: u64,
    /// The sequence after it.
    pub(crate) sequence: u64,
    pub(crate) next: Box<[Offset]>,
    pub(crate) derived: Box<[Offset]>,
    pub(crate) last_at: Millis,
    /// Where the last good frame starts.
    pub(crate) last_frame: Option<u64>,
    pub(crate) checkpoints: Vec<Checkpoint>,
    /// Why it ended there.
    pub(crate) why: Broken,
}

/// Walks a segment from its first frame to the first that is not good. `seen` gets each good one.
pub(crate) fn scan(
    file: &File,
    start: &Start,
    seed: u32,
    slots: Slots,
    mut seen: impl FnMut(&Head, &[u8]),
) -> io::Result<Scanned> {
    let mut walk = Walk::new(file, start.bytes, header_bytes(slots), seed, slots);
    let mut out = Scanned {
        end: walk.at,
        sequence: start.first_sequence,
        next: start.next.clone(),
        derived: start.derived.clone(),
        last_at: 0,
        last_frame: None,
        checkpoints: Vec::new(),
        why: Broken::Zero,
    };
    loop {
        let at = walk.at;
        let (head, frame) = match walk.frame()? {
            Ok(good) => good,
            Err(broken) => {
                out.why = broken;
                return Ok(out);
            }
        };
        if let Err(broken) = fits(&head, frame, &out, slots) {
            out.why = broken;
            return Ok(out);
        }
        push_checkpoint(&mut out.checkpoints, at, &out.next);
        for section in &head.sections {
            out.next[slots.index(section.at).expect("parsed")] += u64::from(section.count);
        }
        for (partition, upto) in &head.cursors {
            out.derived[slots.index(*partition).expect("parsed")] = *upto;
        }
        seen(&head, frame);
        out.last_frame = Some(at);
        out.last_at = head.appended_at;
        out.sequence += 1;
        out.end = walk.at;
    }
}

/// Whether a frame with good checksums follows what was scanned.
fn fits(head: &Head, frame: &[u8], before: &Scanned, slots: Slots) -> Result<(), Broken> {
    if head.sequence != before.sequence {
        return Err(Broken::Sequence);
    }
    for section in &head.sections {
        if before.next[slots.index(section.at).ok_or(Broken::Shape)?] != section.first {
            return Err(Broken::Sequence);
        }
        let records = bytes::Bytes::copy_from_slice(&frame[section.start..section.start + section.bytes]);
        let mut count = 0;
        for entry in Entries(records) {
            entry?;
            count += 1;
        }
        if count != section.count {
            return Err(Broken::Shape);
        }
    }
    Ok(())
}

/// Whether a good frame with a sequence above `sequence` starts at any page from `at`: then what is broken before it was no torn tail.
pub(crate) fn later_frame(
    file: &File,
    start: &Start,
    at: u64,
    sequence: u64,
    seed: u32,
    slots: Slots,
) -> io::Result<Option<u64>> {
    let mut walk = Walk::new(file, start.bytes, at, seed, slots);
    let mut at = at;
    while at < start.bytes {
        walk.at = at;
        if let Ok((head, _)) = walk.frame()?
            && head.sequence > sequence
        {
            return Ok(Some(at));
        }
        at += PAGE_BYTES as u64;
    }
    Ok(None)
}
