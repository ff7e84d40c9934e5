//! Opening: finds the segments, checks the tail, cuts what a crash tore, and makes sure that what is read is on the medium.
//!
//! What can be told apart: frames are written one at a time, each synced before the next, so a crash can break the last one only. A frame that is
//! broken while a good one follows it (in its segment, or because a later segment starts behind it) was broken by something else: opening fails and
//! names the place. A broken frame with nothing behind it is cut, and cannot be told from one that was acknowledged and whose bits rotted since.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use heddle_model::Offset;

use crate::directory::{Directory, segment_name, segment_numbers, sidecar_name, sync_dir};
use crate::disk::Disk;
use crate::error::sort_io;
use crate::frame::{Broken, seed};
use crate::scan::{Scanned, later_frame, scan};
use crate::segment::{Index, Segment, Start, header_bytes, read_at, zero_from};
use crate::sidecar::{self, Sealed};
use crate::slots::Slots;
use crate::spare::SpareBox;
use crate::{LogConfig, OpenError};

/// What is in the directory.
pub(crate) struct Recovered {
    pub(crate) segments: Vec<Arc<Segment>>,
    /// Of the active segment.
    pub(crate) file: File,
    pub(crate) sequence: u64,
    pub(crate) next: Box<[Offset]>,
    pub(crate) derived: Box<[Offset]>,
}

struct Opener<'a> {
    directory: &'a Directory,
    slots: Slots,
    disk: &'a dyn Disk,
}

pub(crate) fn recover(
    directory: &Directory,
    config: &LogConfig,
    slots: Slots,
    spare: &SpareBox,
    disk: &dyn Disk,
) -> Result<Recovered, OpenError> {
    spare.adopt(&directory.path, config.segment_bytes);
    let opener = Opener { directory, slots, disk };
    let starts = opener.starts()?;
    remove_orphans(&directory.path, &starts)?;
    let Some((last, sealed)) = starts.split_last() else { return opener.first_segment(config, spare) };
    let mut segments = Vec::new();
    for (index, start) in sealed.iter().enumerate() {
        segments.push(Arc::new(opener.sealed(start, &starts[index + 1])?));
    }
    let (file, scanned) = opener.tail(last)?;
    let Scanned { end, sequence, next, derived, last_at, checkpoints, .. } = scanned;
    let active = Segment::new(&directory.path, last.clone(), end, last_at, Index::Memory(checkpoints));
    segments.push(Arc::new(active));
    Ok(Recovered { segments, file, sequence, next, derived })
}

impl Opener<'_> {
    fn seed(&self, number: u64) -> u32 {
        seed(self.directory.identity, number)
    }

    fn corrupt(&self, number: u64, at: u64, reason: impl Into<String>) -> OpenError {
        OpenError::Corrupt { path: self.directory.path.join(segment_name(number)), at, reason: reason.into() }
    }

    fn io(&self, number: u64, doing: &'static str) -> impl FnOnce(std::io::Error) -> OpenError {
        let path = self.directory.path.join(segment_name(number));
        move |source| sort_io(&path, doing, 0, source)
    }

    /// The headers of all segments; a last one whose header never became durable is removed.
    fn starts(&self) -> Result<Vec<Start>, OpenError> {
        let numbers = segment_numbers(&self.directory.path)?;
        let mut starts: Vec<Start> = Vec::new();
        for (index, &number) in numbers.iter().enumerate() {
            if starts.last().is_some_and(|last| last.number + 1 != number) {
                return Err(self.corrupt(number, 0, format!("{} before it is not there", segment_name(number - 1))));
            }
            let path = self.directory.path.join(segment_name(number));
            let file = File::open(&path).map_err(self.io(number, "opened"))?;
            let page = read_at(&file, 0, header_bytes(self.slots) as usize).map_err(self.io(number, "read"))?;
            let bytes = file.metadata().map_err(self.io(number, "read"))?.len();
            match Start::decode(&page, self.seed(number), self.slots) {
                Ok(start) if start.number == number && start.bytes == bytes => starts.push(start),
                // No crash changes a length that was synced, but a copy that ended early does: what is whole in it is kept.
                Ok(start) if start.number == number && index + 1 == numbers.len() => {
                    self.resize(&start, bytes)?;
                    starts.push(start);
                }
                Ok(start) if start.number == number => {
                    let reason = format!("the file has {bytes} bytes, its header says {}", start.bytes);
                    return Err(self.corrupt(number, bytes, reason));
                }
                Ok(_) => return Err(self.corrupt(number, 0, "its header is of another segment")),
                Err(broken) if index + 1 == numbers.len() => {
                    self.remove_unborn(number, &file, bytes, broken)?;
                }
                Err(broken) => return Err(self.corrupt(number, 0, format!("its header is no header: {broken}"))),
            }
        }
        Ok(starts)
    }

    /// Gives the last segment the length that its header says.
    fn resize(&self, start: &Start, found: u64) -> Result<(), OpenError> {
        let path = self.directory.path.join(segment_name(start.number));
        let bytes = start.bytes;
        tracing::warn!(file = %path.display(), found, bytes, "segment has not the length that it was made with, mending it; what stood behind its last whole frame is gone");
        let mend = || {
            let file = OpenOptions::new().write(true).open(&path)?;
            zero_from(self.disk, &file, found, bytes, || {})?;
            file.set_len(bytes)?;
            file.sync_all()
        };
        mend().map_err(|source| sort_io(&path, "filled", bytes.saturating_sub(found), source))
    }

    /// A header is durable before the first frame: without one there is nothing to lose, with a frame behind it something else broke it.
    fn remove_unborn(&self, number: u64, file: &File, bytes: u64, broken: Broken) -> Result<(), OpenError> {
        let start = Start { number, first_sequence: 0, bytes, next: Box::default(), derived: Box::default() };
        let from = header_bytes(self.slots);
        let found = later_frame(file, &start, from, 0, self.seed(number), self.slots);
        if found.map_err(self.io(number, "read"))?.is_some() {
            return Err(self.corrupt(number, 0, format!("its header is no header: {broken}")));
        }
        let path = self.directory.path.join(segment_name(number));
        tracing::warn!(file = %path.display(), "segment has no header and no frame, removing it");
        fs::remove_file(&path).and_then(|()| sync_dir(&self.directory.path)).map_err(self.io(number, "removed"))
    }

    /// A segment before the last: by its sidecar, or walked if that is gone.
    fn sealed(&self, start: &Start, after: &Start) -> Result<Segment, OpenError> {
        let number = start.number;
        let path = self.directory.path.join(sidecar_name(number));
        let (sealed, index) = match sidecar::read(&path, self.seed(number), self.slots) {
            Some(sealed) => (sealed, Index::Sidecar),
            None => {
                let file = File::open(self.directory.path.join(segment_name(number)));
                let file = file.map_err(self.io(number, "opened"))?;
                let scanned = scan(&file, start, self.seed(number), self.slots, |_, _| {});
                let scanned = scanned.map_err(self.io(number, "read"))?;
                if scanned.sequence != after.first_sequence {
                    let reason = format!("{}, though {} follows", scanned.why, segment_name(after.number));
                    return Err(self.corrupt(number, scanned.end, reason));
                }
                (Sealed::from(&scanned), Index::Memory(scanned.checkpoints))
            }
        };
        if sealed.next_sequence != after.first_sequence || sealed.next != after.next || sealed.derived != after.derived
        {
            let reason = format!("it does not start where {} ends", segment_name(number));
            return Err(self.corrupt(after.number, 0, reason));
        }
        Ok(Segment::new(&self.directory.path, start.clone(), sealed.end, sealed.last_at, index))
    }

    /// Walks the last segment, cuts its torn end, and writes its last frame again: after a failed sync the system may show bytes that the medium
    /// does not have.
    fn tail(&self, start: &Start) -> Result<(File, Scanned), OpenError> {
        let number = start.number;
        let path = self.directory.path.join(segment_name(number));
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(self.io(number, "opened"))?;
        let scanned = scan(&file, start, self.seed(number), self.slots, |_, _| {}).map_err(self.io(number, "read"))?;
        if matches!(scanned.why, Broken::Sequence | Broken::Shape) {
            return Err(self.corrupt(number, scanned.end, scanned.why.to_string()));
        }
        let later = later_frame(&file, start, scanned.end, scanned.sequence, self.seed(number), self.slots);
        if let Some(later) = later.map_err(self.io(number, "read"))? {
            let reason = format!("{}, though a good frame follows at byte {later}", scanned.why);
            return Err(self.corrupt(number, scanned.end, reason));
        }
        let rewrite = || {
            for from in [Some(0), scanned.last_frame].into_iter().flatten() {
                let until = if from == 0 { header_bytes(self.slots) } else { scanned.end };
                let bytes = read_at(&file, from, (until - from) as usize)?;
                file.write_all_at(&bytes, from)?;
            }
            let cut = zero_rest(&file, scanned.end, start.bytes)?;
            rustix::fs::fdatasync(&file)?;
            Ok(cut)
        };
        let cut = rewrite().map_err(self.io(number, "written"))?;
        if cut > 0 {
            tracing::warn!(file = %path.display(), at = scanned.end, pages = cut, "cut a frame that a crash tore");
        }
        Ok((file, scanned))
    }

    fn first_segment(&self, config: &LogConfig, spare: &SpareBox) -> Result<Recovered, OpenError> {
        let (dir, count) = (&self.directory.path, self.slots.count());
        let taken = spare.take(self.disk, dir, 1, header_bytes(self.slots), config.segment_bytes);
        let (file, bytes) = taken.map_err(|source| sort_io(dir, "filled", config.segment_bytes, source))?;
        let zeros: Box<[Offset]> = vec![0; count].into();
        let start = Start { number: 1, first_sequence: 1, bytes, next: zeros.clone(), derived: zeros.clone() };
        let header = start.encode(self.seed(1));
        let write = file.write_all_at(&header, 0).and_then(|()| Ok(rustix::fs::fdatasync(&file)?));
        write.map_err(self.io(1, "written"))?;
        let segment = Segment::new(dir, start, header.len() as u64, 0, Index::Memory(Vec::new()));
        Ok(Recovered { segments: vec![Arc::new(segment)], file, sequence: 1, next: zeros.clone(), derived: zeros })
    }
}

/// Zeros every page from `at` that is not zero; answers how many.
fn zero_rest(file: &File, mut at: u64, bytes: u64) -> std::io::Result<usize> {
    const PIECE_BYTES: usize = 1 << 20;
    let mut cut = 0;
    while at < bytes {
        let piece = read_at(file, at, PIECE_BYTES.min((bytes - at) as usize))?;
        for (index, page) in piece.chunks(crate::frame::PAGE_BYTES).enumerate() {
            if page.iter().any(|&byte| byte != 0) {
                let zeros = [0; crate::frame::PAGE_BYTES];
                file.write_all_at(&zeros[..page.len()], at + (index * crate::frame::PAGE_BYTES) as u64)?;
                cut += 1;
            }
        }
        at += piece.len().max(1) as u64;
    }
    Ok(cut)
}

/// Removes indexes whose segment is gone, and half-written ones.
fn remove_orphans(dir: &Path, starts: &[Start]) -> Result<(), OpenError> {
    let entries = fs::read_dir(dir).map_err(|source| sort_io(dir, "listed", 0, source))?;
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let number = name.strip_suffix(".idx").and_then(|stem| stem.parse::<u64>().ok());
        let orphan = number.is_some_and(|number| !starts.iter().any(|start| start.number == number));
        // The active segment has no index: one that is there is of a file that was moved away.
        let active = number.is_some() && number == starts.last().map(|start| start.number);
        if orphan || active || name.ends_with(".idx.tmp") {
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}
