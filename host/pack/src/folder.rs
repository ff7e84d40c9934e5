//! A folder of files that can be had again, and its bound: of those that nobody needs, what was used longest ago goes first.

use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, utimensat};

/// A file of the folder.
struct Found {
    path: PathBuf,
    bytes: u64,
    used: SystemTime,
}

/// Removes files with one of these endings until there are at most `bytes_max` of them, or only such as are needed; answers how many. Those that
/// are needed count as used now: what the next start wants is not older than what nobody wants.
pub fn trim_folder(dir: &Path, endings: &[&str], bytes_max: u64, needed: impl Fn(&Path) -> bool) -> io::Result<usize> {
    let mut bytes = 0;
    let mut unneeded = Vec::new();
    for entry in fs::read_dir(dir)? {
        let Some(found) = found(&entry?, endings)? else { continue };
        bytes += found.bytes;
        match needed(&found.path) {
            true => touch(&found.path)?,
            false => unneeded.push(found),
        }
    }
    unneeded.sort_unstable_by_key(|found| found.used);
    let mut removed = 0;
    for found in unneeded {
        if bytes <= bytes_max {
            break;
        }
        fs::remove_file(&found.path)?;
        bytes -= found.bytes;
        removed += 1;
    }
    Ok(removed)
}

fn found(entry: &DirEntry, endings: &[&str]) -> io::Result<Option<Found>> {
    let path = entry.path();
    if !path.extension().is_some_and(|end| endings.iter().any(|of| end == *of)) {
        return Ok(None);
    }
    let about = match entry.metadata() {
        Ok(about) => about,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(Some(Found { path, bytes: about.len(), used: about.modified()? }))
}

/// The file was used now.
pub fn touch(path: &Path) -> io::Result<()> {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let times = Timestamps { last_access: now, last_modification: now };
    Ok(utimensat(CWD, path, &times, AtFlags::empty())?)
}
