//! Which files of a plugin changed. It looks at times and sizes a few times a second: a plugin has few files, looking at them costs less than a
//! millisecond, and unlike notifications of the system it sees every kind of save on every kind of file system.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use super::glob::Glob;

/// A pattern that names more is a mistake.
const FILES_MAX: usize = 10_000;
/// What no build reads.
const SKIPPED: [&str; 3] = [".git", "target", "node_modules"];
/// Packed into the file, whatever the manifest watches.
const ALWAYS: [&str; 2] = ["plugin.toml", "cases/*.json"];

/// When a file was written, since 1970, and its size.
type Stamp = (Duration, u64);

/// The files of a plugin as they were at the last look.
#[derive(Debug)]
pub struct Watch {
    dir: PathBuf,
    globs: Vec<Glob>,
    /// What the build writes.
    output: PathBuf,
    seen: BTreeMap<PathBuf, Stamp>,
}

/// What changed between two looks.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// New, written or removed, relative to the plugin's directory.
    pub files: Vec<PathBuf>,
    /// When the newest of them was written.
    pub at: Option<Duration>,
}

impl Watch {
    /// Nothing is seen yet: the first look finds all of them.
    pub fn new(dir: &Path, globs: &[String], output: &Path) -> Self {
        let globs = all(globs);
        let output = output.strip_prefix(dir).unwrap_or(output).to_owned();
        Self { dir: dir.to_owned(), globs, output, seen: BTreeMap::new() }
    }

    /// The manifest changed: other files may count from now on.
    pub fn follow(&mut self, globs: &[String]) {
        self.globs = all(globs);
    }

    /// How many files it knows.
    pub fn files(&self) -> usize {
        self.seen.len()
    }

    /// Looks again.
    ///
    /// # Errors
    /// A directory cannot be read, or there are too many files.
    pub fn look(&mut self) -> io::Result<Changes> {
        let mut now = BTreeMap::new();
        for root in self.globs.iter().map(Glob::root).collect::<BTreeSet<_>>() {
            self.walk(&root, &mut now)?;
        }
        let mut changes = Changes::default();
        for (path, stamp) in now.iter().filter(|(path, stamp)| self.seen.get(*path) != Some(stamp)) {
            changes.files.push(path.clone());
            changes.at = changes.at.max(Some(stamp.0));
        }
        changes.files.extend(self.seen.keys().filter(|path| !now.contains_key(*path)).cloned());
        self.seen = now;
        Ok(changes)
    }

    fn walk(&self, path: &Path, found: &mut BTreeMap<PathBuf, Stamp>) -> io::Result<()> {
        let place = self.dir.join(path);
        // Gone between listing and looking: the next look says so.
        let Ok(known) = std::fs::metadata(&place) else { return Ok(()) };
        if known.is_file() {
            if path != self.output && self.globs.iter().any(|glob| glob.takes(path)) {
                let written = known.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
                found.insert(path.to_owned(), (written, known.len()));
            }
            if found.len() > FILES_MAX {
                let what = format!("`watch` under [build] names more than {FILES_MAX} files: narrow it");
                return Err(io::Error::other(what));
            }
            return Ok(());
        }
        let skipped = path.file_name().is_some_and(|name| SKIPPED.iter().any(|skipped| name == *skipped));
        if !known.is_dir() || skipped {
            return Ok(());
        }
        let entries = match std::fs::read_dir(&place) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            // A link could lead round in a circle.
            if !entry.file_type()?.is_symlink() {
                self.walk(&path.join(entry.file_name()), found)?;
            }
        }
        Ok(())
    }
}

fn all(globs: &[String]) -> Vec<Glob> {
    ALWAYS.iter().copied().chain(globs.iter().map(String::as_str)).map(Glob::new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, path: &str, text: &str) {
        std::fs::create_dir_all(dir.join(path).parent().unwrap()).unwrap();
        std::fs::write(dir.join(path), text).unwrap();
    }

    fn files(changes: &Changes) -> Vec<&str> {
        changes.files.iter().map(|path| path.to_str().unwrap()).collect()
    }

    #[test]
    fn only_what_the_manifest_watches_counts_and_what_is_packed() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["src/lib.rs", "src/a/b.rs", "plugin.toml", "cases/x.json", "target/y.rs", "notes.txt", "x.wasm"] {
            write(dir.path(), path, "1");
        }
        let mut watch = Watch::new(dir.path(), &["src/**".to_owned(), "*.wasm".to_owned()], &dir.path().join("x.wasm"));
        assert_eq!(files(&watch.look().unwrap()), ["cases/x.json", "plugin.toml", "src/a/b.rs", "src/lib.rs"]);
        assert_eq!(watch.look().unwrap(), Changes::default());
        write(dir.path(), "notes.txt", "22");
        write(dir.path(), "x.wasm", "22");
        assert_eq!(watch.look().unwrap(), Changes::default());
        write(dir.path(), "src/lib.rs", "22");
        std::fs::remove_file(dir.path().join("src/a/b.rs")).unwrap();
        let changes = watch.look().unwrap();
        assert_eq!(files(&changes), ["src/lib.rs", "src/a/b.rs"]);
        assert!(changes.at.is_some());
    }

    #[test]
    fn a_save_by_renaming_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "src/lib.rs", "one");
        let mut watch = Watch::new(dir.path(), &["src/**".to_owned()], Path::new("x.wasm"));
        watch.look().unwrap();
        write(dir.path(), "beside", "a longer text");
        std::fs::rename(dir.path().join("beside"), dir.path().join("src/lib.rs")).unwrap();
        assert_eq!(files(&watch.look().unwrap()), ["src/lib.rs"]);
    }
}
