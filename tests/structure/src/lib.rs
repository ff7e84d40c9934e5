//! The rules of the house, read from the tree: which crate stands on which floor, what its manifest names, what its files say.
//!
//! It looks at files and deliberately compiles nothing of the host. Read [`Crate`] first, then the tests: each rule stands there with its
//! reason.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The checkout.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A crate of the host.
#[derive(Debug, Clone)]
pub struct Crate {
    /// The name of its directory under `host/`.
    pub name: String,
    /// Where it is.
    pub dir: PathBuf,
    /// Dependencies of the built crate: normal and build, without those for tests.
    pub dependencies: BTreeSet<String>,
}

impl Crate {
    /// Its Rust files, the tests beside them included.
    ///
    /// # Panics
    /// If the directory cannot be read.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        rust_files(&self.dir)
    }

    /// The file that the crate opens with.
    #[must_use]
    pub fn opening(&self) -> PathBuf {
        let lib = self.dir.join("src/lib.rs");
        if lib.is_file() { lib } else { self.dir.join("src/main.rs") }
    }
}

/// All crates under `host/`.
///
/// # Panics
/// If a manifest cannot be read.
#[must_use]
pub fn crates() -> Vec<Crate> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root().join("host")).expect("host/ is there") {
        let dir = entry.expect("host/ can be listed").path();
        let Ok(text) = std::fs::read_to_string(dir.join("Cargo.toml")) else { continue };
        let manifest: toml::Table = text.parse().unwrap_or_else(|error| panic!("{dir:?}: {error}"));
        let dependencies = ["dependencies", "build-dependencies"]
            .iter()
            .filter_map(|table| manifest.get(*table)?.as_table())
            .flat_map(|table| table.keys().cloned())
            .collect();
        let name = dir.file_name().expect("it has a name").to_string_lossy().into_owned();
        found.push(Crate { name, dir, dependencies });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// Rust files below a directory, without what was built there.
///
/// # Panics
/// If the directory cannot be read.
#[must_use]
pub fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(dir) else { return found };
    for entry in entries {
        let path = entry.expect("the directory can be listed").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && name != "node_modules" {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// A file's text.
///
/// # Panics
/// If it cannot be read.
#[must_use]
pub fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path:?}: {error}"))
}

/// A path as people write it, from the checkout.
#[must_use]
pub fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}
