//! Looks into a directory that another process may have open: `heddle log cat`, and tests that walk the log.

use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use heddle_model::{MessageId, Millis, Offset, TopicPartition};

use crate::directory::{read_meta, segment_name, segment_numbers};
use crate::error::sort_io;
use crate::frame::{Entries, seed};
use crate::scan::Walk;
use crate::segment::{Start, header_bytes, read_at};
use crate::slots::Slots;
use crate::{Identity, Layout, OpenError, Place};

/// A read-only view. It takes no lock and gives complete, valid frames only; the newest may be written but not yet synced.
#[derive(Debug, Clone)]
pub struct LogReader {
    dir: PathBuf,
    identity: Identity,
    slots: Slots,
}

/// A record as it stands in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Where.
    pub place: Place,
    /// The log's clock when it was appended.
    pub appended_at: Millis,
    /// The id that it was appended under.
    pub id: Option<MessageId>,
    /// On Kafka: when a sender's record was handed in. One that landed long after does not stand. (DELIVERY 23)
    pub handed_in: Option<Millis>,
    /// What was appended.
    pub bytes: Bytes,
    /// In which commit of an embedded log: equal for what one fdatasync made durable.
    pub commit: Option<u64>,
}

impl LogReader {
    /// Looks at the log in `dir`.
    ///
    /// # Errors
    /// No directory, no log in it, or one of a newer format.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, OpenError> {
        let dir = dir.as_ref().to_owned();
        if !dir.is_dir() {
            return Err(OpenError::Missing { dir });
        }
        match read_meta(&dir)? {
            None => Err(OpenError::Empty { dir }),
            Some((identity, partitions)) => Ok(Self { dir, identity, slots: Slots { partitions } }),
        }
    }

    /// Identity and partition count.
    #[must_use]
    pub fn layout(&self) -> Layout {
        Layout { identity: self.identity, partitions: self.slots.partitions, shared: false }
    }

    /// All records in the order in which they were committed (within a commit by partition), until the end that is there when it is reached.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub fn entries(&self) -> Result<LogEntries, OpenError> {
        self.walk(None)
    }

    /// The records of one partition from an offset on; from its first if that is gone.
    ///
    /// # Errors
    /// The directory cannot be listed, or the log has no such partition.
    pub fn records(&self, partition: TopicPartition, from: Offset) -> Result<LogEntries, OpenError> {
        if self.slots.index(partition).is_none() {
            let remedy = format!("this log has {} partitions of messages and group_messages", self.slots.partitions);
            return Err(OpenError::Setting { key: "partition", value: partition.to_string(), remedy });
        }
        self.walk(Some((partition, from)))
    }

    fn walk(&self, only: Option<(TopicPartition, Offset)>) -> Result<LogEntries, OpenError> {
        let segments = segment_numbers(&self.dir)?.into();
        Ok(LogEntries { reader: self.clone(), segments, only, open: None, ready: VecDeque::new(), failed: None })
    }

    /// A segment and its header; `None` if retention took it meanwhile, or it was never used.
    fn segment(&self, number: u64) -> Result<Option<(File, Start)>, OpenError> {
        let path = self.dir.join(segment_name(number));
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(sort_io(&path, "opened", 0, source)),
        };
        let page = read_at(&file, 0, header_bytes(self.slots) as usize);
        let page = page.map_err(|source| sort_io(&path, "read", 0, source))?;
        Ok(Start::decode(&page, seed(self.identity, number), self.slots).ok().map(|start| (file, start)))
    }
}

/// Walks the records of a [`LogReader`].
#[derive(Debug)]
pub struct LogEntries {
    reader: LogReader,
    segments: VecDeque<u64>,
    only: Option<(TopicPartition, Offset)>,
    /// The segment being walked, where, and the next sequence.
    open: Option<(File, Start, u64, u64)>,
    ready: VecDeque<LogEntry>,
    /// What ended the walk, told behind the entries that were good.
    failed: Option<OpenError>,
}

impl Iterator for LogEntries {
    type Item = Result<LogEntry, OpenError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.ready.pop_front() {
                return Some(Ok(entry));
            }
            if let Some(error) = self.failed.take() {
                return Some(Err(error));
            }
            match self.advance() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => {
                    self.segments.clear();
                    self.open = None;
                    self.failed = Some(error);
                }
            }
        }
    }
}

impl LogEntries {
    /// Reads one more frame or opens one more segment; `false` at the end.
    fn advance(&mut self) -> Result<bool, OpenError> {
        let slots = self.reader.slots;
        let Some((file, start, at, sequence)) = &mut self.open else {
            let Some(number) = self.segments.pop_front() else { return Ok(false) };
            if self.skips()? {
                return Ok(true);
            }
            self.open = self.reader.segment(number)?.map(|(file, start)| {
                let sequence = start.first_sequence;
                (file, start, header_bytes(slots), sequence)
            });
            return Ok(true);
        };
        let path = self.reader.dir.join(segment_name(start.number));
        let mut walk = Walk::new(file, start.bytes, *at, seed(self.reader.identity, start.number), slots);
        // A piece at a time, so that the window is read once for many small frames.
        for _ in 0..256 {
            match walk.frame().map_err(|source| sort_io(&path, "read", 0, source))? {
                Err(broken) => {
                    let next = self.segments.front();
                    if let Some(next) = next.filter(|next| **next != start.number + 1) {
                        let path = self.reader.dir.join(segment_name(*next));
                        let reason = format!("{} before it is not there", segment_name(next - 1));
                        return Err(OpenError::Corrupt { path, at: 0, reason });
                    }
                    // A segment is followed by another only when it was whole.
                    if let Some(next) = next
                        && let Some((_, after)) = self.reader.segment(*next)?
                        && after.first_sequence != *sequence
                    {
                        return Err(OpenError::Corrupt { path, at: walk.at, reason: broken.to_string() });
                    }
                    self.open = None;
                    return Ok(true);
                }
                Ok((head, frame)) => {
                    *sequence = head.sequence + 1;
                    for section in &head.sections {
                        let from = match self.only {
                            Some((only, _)) if only != section.at => continue,
                            Some((_, from)) => from,
                            None => 0,
                        };
                        let records = Bytes::copy_from_slice(&frame[section.start..section.start + section.bytes]);
                        let entries = (section.first..).zip(Entries(records).flatten());
                        self.ready.extend(entries.filter(|(offset, _)| *offset >= from).map(|(offset, entry)| {
                            let place = Place { partition: section.at, offset };
                            let (appended_at, commit) = (head.appended_at, Some(head.sequence));
                            LogEntry { place, appended_at, id: entry.id, handed_in: None, bytes: entry.bytes, commit }
                        }));
                    }
                }
            }
        }
        *at = walk.at;
        Ok(true)
    }

    /// Whether a segment ends before what is asked for, as the header of the next one says.
    fn skips(&self) -> Result<bool, OpenError> {
        let (Some((partition, from)), Some(next)) = (self.only, self.segments.front()) else { return Ok(false) };
        let slot = self.reader.slots.index(partition).unwrap_or(0);
        Ok(self.reader.segment(*next)?.is_some_and(|(_, after)| after.next[slot] <= from))
    }
}
