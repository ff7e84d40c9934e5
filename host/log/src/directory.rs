//! The directory: its lock, its format file, the names in it.
//!
//! ```text
//! LOCK              flock by the process that has the log open; its pid, for messages
//! heddle-log        format, identity, partitions: text, never changed after the log was made
//! 0000000001.seg    segments, see `segment`
//! 0000000001.idx    index of a sealed segment, see `sidecar`; made anew from the segment if it is gone
//! spare             zero-filled, becomes the next segment
//! ids/              message ids, see `ids`; made anew from the segments if it is gone
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::error::sort_io;
use crate::{Identity, LogConfig, OpenError};

/// The format file.
pub(crate) const META: &str = "heddle-log";
/// The format that this build writes; it reads no other yet.
const FORMAT: u32 = 1;
const LOCK: &str = "LOCK";

/// A directory that this process holds.
#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) path: PathBuf,
    pub(crate) identity: Identity,
    pub(crate) partitions: u32,
    lock: File,
}

impl Drop for Directory {
    /// A process that is being started holds a copy of every file until it runs: closing ours alone would leave the lock taken for that long.
    fn drop(&mut self) {
        let _ = flock(&self.lock, FlockOperation::Unlock);
    }
}

impl Directory {
    /// Takes the lock, then reads the format file or makes it.
    pub(crate) fn open(config: &LogConfig) -> Result<Self, OpenError> {
        let path = config.dir.clone();
        if !path.exists() {
            if !config.create {
                return Err(OpenError::Missing { dir: path });
            }
            fs::create_dir_all(&path).map_err(|source| match path.ancestors().find(|above| above.is_file()) {
                Some(file) => OpenError::NoDirectory { path: file.to_owned() },
                None => sort_io(&path, "made", 0, source),
            })?;
        }
        if !path.is_dir() {
            return Err(OpenError::NoDirectory { path });
        }
        let lock = lock(&path)?;
        let no_segments = segment_numbers(&path)?.is_empty();
        let (identity, partitions) = match read_meta(&path)? {
            Some((_, found)) if found != config.partitions => {
                return Err(OpenError::Partitions { dir: path, found, configured: config.partitions });
            }
            Some((identity, partitions)) if !no_segments => (identity, partitions),
            Some(_) => {
                // Its offsets start at 0 again: under the old identity they would look like those that are gone.
                tracing::warn!(dir = %path.display(), "log has no segment, making it anew under another identity");
                (write_meta(&path, config.partitions)?, config.partitions)
            }
            None => {
                refuse_segments_without_meta(&path)?;
                (write_meta(&path, config.partitions)?, config.partitions)
            }
        };
        Ok(Self { path, identity, partitions, lock })
    }
}

fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join(LOCK);
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = file.map_err(|source| sort_io(&path, "opened", 0, source))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut pid = String::new();
            let _ = file.read_to_string(&mut pid);
            let pid = if pid.trim().is_empty() { "(unknown)" } else { pid.trim() };
            return Err(OpenError::InUse { dir: dir.to_owned(), pid: pid.to_owned() });
        }
        Err(error) => return Err(sort_io(&path, "locked", 0, error.into())),
    }
    let write = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    write.map_err(|source| sort_io(&path, "written", 0, source))?;
    Ok(file)
}

/// Identity and partition count of the log in `dir`; `None` if there is no format file.
pub(crate) fn read_meta(dir: &Path) -> Result<Option<(Identity, u32)>, OpenError> {
    let path = dir.join(META);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(sort_io(&path, "read", 0, source)),
    };
    let corrupt = |reason: &str| OpenError::Corrupt { path: path.clone(), at: 0, reason: reason.to_owned() };
    let mut words = text.lines().map(|line| line.split_once(' ').unwrap_or((line, "")));
    let mut value = |key: &str| match words.next() {
        Some((word, value)) if word == key => Ok(value),
        _ => Err(corrupt(&format!("it has no line {key:?} where one is due"))),
    };
    let format: u32 = value("format")?.parse().map_err(|_| corrupt("its format is not a number"))?;
    if format > FORMAT {
        return Err(OpenError::Newer { dir: dir.to_owned(), found: format, known: FORMAT });
    }
    let identity = value("identity")?.parse::<Hex>().map_err(|()| corrupt("its identity is not 32 hex digits"))?;
    let partitions = value("partitions")?.parse().map_err(|_| corrupt("its partition count is not a number"))?;
    if value("crc32c")? != format!("{:08x}", meta_crc(identity.0, partitions)) {
        return Err(corrupt("its checksum is wrong"));
    }
    Ok(Some((Identity(identity.0), partitions)))
}

fn meta_text(identity: [u8; 16], partitions: u32) -> String {
    let hex: String = identity.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("format {FORMAT}\nidentity {hex}\npartitions {partitions}\n")
}

fn meta_crc(identity: [u8; 16], partitions: u32) -> u32 {
    crc32c::crc32c(meta_text(identity, partitions).as_bytes())
}

fn write_meta(dir: &Path, partitions: u32) -> Result<Identity, OpenError> {
    let path = dir.join(META);
    let mut identity = [0; 16];
    let random = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut identity));
    random.map_err(|source| sort_io(Path::new("/dev/urandom"), "read", 0, source))?;
    let text = format!("{}crc32c {:08x}\n", meta_text(identity, partitions), meta_crc(identity, partitions));
    let fresh = dir.join("heddle-log.tmp");
    let write = || {
        let mut file = File::create(&fresh)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, &path)?;
        sync_dir(dir)
    };
    write().map_err(|source| sort_io(&path, "written", text.len() as u64, source))?;
    Ok(Identity(identity))
}

/// A lost format file beside segments is no new log.
fn refuse_segments_without_meta(dir: &Path) -> Result<(), OpenError> {
    match segment_numbers(dir)?.first() {
        None => Ok(()),
        Some(number) => Err(OpenError::Corrupt {
            path: dir.join(META),
            at: 0,
            reason: format!("it is not there, though {} is", segment_name(*number)),
        }),
    }
}

/// Makes names in a directory durable.
pub(crate) fn sync_dir(dir: &Path) -> std::io::Result<()> {
    File::open(dir)?.sync_all()
}

/// The numbers of the segments in a directory, ascending.
pub(crate) fn segment_numbers(dir: &Path) -> Result<Vec<u64>, OpenError> {
    let read = || -> std::io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(dir)? {
            let name = entry?.file_name();
            let Some(name) = name.to_str() else { continue };
            let number = name.strip_suffix(".seg").and_then(|stem| stem.parse::<u64>().ok());
            // A copy under a name of its own ("1.seg") is no segment.
            numbers.extend(number.filter(|number| segment_name(*number) == name));
        }
        numbers.sort_unstable();
        Ok(numbers)
    };
    read().map_err(|source| sort_io(dir, "listed", 0, source))
}

/// The file name of a segment.
pub(crate) fn segment_name(number: u64) -> String {
    format!("{number:010}.seg")
}

/// The file name of a segment's index.
pub(crate) fn sidecar_name(number: u64) -> String {
    format!("{number:010}.idx")
}

struct Hex([u8; 16]);

impl std::str::FromStr for Hex {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut out = [0; 16];
        if text.len() != 32 || !text.is_ascii() {
            return Err(());
        }
        for (index, byte) in out.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).map_err(|_| ())?;
        }
        Ok(Self(out))
    }
}
