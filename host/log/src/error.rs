//! Why a log does not open: each error names the object and what to do.

use std::path::PathBuf;

/// Why a directory cannot be used as a log.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A setting that cannot work.
    #[error("log setting {key} is {value}, {remedy}")]
    Setting {
        /// Which field of `LogConfig`.
        key: &'static str,
        /// What it is.
        value: String,
        /// What it may be.
        remedy: String,
    },
    /// The directory is not there.
    #[error("log directory {} does not exist, make it (mkdir -p {}) or mount its disk", dir.display(), dir.display())]
    Missing {
        /// Which.
        dir: PathBuf,
    },
    /// Something else has that name.
    #[error("log directory {} is not a directory, give the path of one", path.display())]
    NoDirectory {
        /// What is there.
        path: PathBuf,
    },
    /// There is a directory, but no log in it.
    #[error("log directory {} holds no log (no {} in it), check the path", dir.display(), crate::directory::META)]
    Empty {
        /// Which.
        dir: PathBuf,
    },
    /// No write permission, or a file system mounted read-only.
    #[error("log directory {} is not writable ({source}), give this user write permission or mount its file system read-write", dir.display())]
    ReadOnly {
        /// Which.
        dir: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// No space for the next segment.
    #[error("log directory {} has no room for {bytes} bytes ({source}), free space on its disk or lower log.segment_bytes", dir.display())]
    Full {
        /// Which.
        dir: PathBuf,
        /// How much was to be written.
        bytes: u64,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another process has it open.
    #[error("log directory {} is in use by process {pid}, stop that process or use another directory", dir.display())]
    InUse {
        /// Which.
        dir: PathBuf,
        /// Who, as it wrote into the lock file.
        pid: String,
    },
    /// Written by a newer build.
    #[error("log directory {} has format {found}, this build reads up to {known}: run a newer heddle", dir.display())]
    Newer {
        /// Which.
        dir: PathBuf,
        /// Its format.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// Made with another partition count.
    #[error("log in {} was made with {found} partitions, the configuration says {configured}: set log.partitions = {found}, the count of a log is fixed", dir.display())]
    Partitions {
        /// Which directory.
        dir: PathBuf,
        /// In the directory.
        found: u32,
        /// In the configuration.
        configured: u32,
    },
    /// A file is broken where no crash can have broken it.
    #[error("log file {} is broken at byte {at}: {reason}; restore the directory from a copy, or move the file and all later ones away to give up the records in them", path.display())]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// Where in it.
        at: u64,
        /// What is wrong.
        reason: String,
    },
    /// The id index cannot be made.
    #[error("id index {} cannot be opened or rebuilt ({reason}), remove that directory and start again: it is made anew from the log", path.display())]
    Ids {
        /// Its directory.
        path: PathBuf,
        /// What happened.
        reason: String,
    },
    /// Anything else from the system.
    #[error("log file {} cannot be {doing}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What was being done, as a participle.
        doing: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Sorts what the system said by what an operator does about it.
pub(crate) fn sort_io(path: &std::path::Path, doing: &'static str, bytes: u64, source: std::io::Error) -> OpenError {
    use std::io::ErrorKind;
    let dir = || path.parent().filter(|_| !path.is_dir()).unwrap_or(path).to_owned();
    match source.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => OpenError::ReadOnly { dir: dir(), source },
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => OpenError::Full { dir: dir(), bytes, source },
        _ => OpenError::Io { path: path.to_owned(), doing, source },
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::path::Path;

    use super::*;

    #[test]
    fn what_the_system_says_is_sorted_by_who_must_act() {
        let remedy = |kind: ErrorKind| sort_io(Path::new("/gone/file"), "written", 7, kind.into()).to_string();
        for kind in [ErrorKind::PermissionDenied, ErrorKind::ReadOnlyFilesystem] {
            assert!(remedy(kind).starts_with("log directory /gone is not writable"), "{}", remedy(kind));
        }
        for kind in [ErrorKind::StorageFull, ErrorKind::QuotaExceeded] {
            assert!(remedy(kind).starts_with("log directory /gone has no room for 7 bytes"), "{}", remedy(kind));
        }
        assert!(remedy(ErrorKind::Other).starts_with("log file /gone/file cannot be written"));
    }
}
