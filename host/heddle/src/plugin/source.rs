//! A plugin as it is named on the command line: a file, or a directory to build.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use heddle_pack::{BuildOptions, build_plugin};

use crate::failure::Failure;

/// What was named.
#[derive(Debug)]
pub struct Source {
    /// The file that has it: given, or written by the build.
    pub path: PathBuf,
    /// The whole file.
    pub bytes: Vec<u8>,
}

impl Source {
    /// Reads the file, or builds the directory.
    ///
    /// # Errors
    /// There is neither; or the build fails, with what it printed.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        if path.is_dir() {
            return Self::build(path, None);
        }
        match std::fs::read(path) {
            Ok(bytes) => Ok(Self { path: path.to_owned(), bytes }),
            Err(error) => Err(Failure::missing(format!(
                "cannot read {path:?} ({error}): name the file that `heddle plugin build` wrote, or the plugin's directory"
            ))),
        }
    }

    /// Builds, and writes the file: `out`, or NAME.wasm in the directory.
    ///
    /// # Errors
    /// What the build, the manifest or a case says.
    pub fn build(dir: &Path, out: Option<PathBuf>) -> Result<Self, Failure> {
        if !dir.join("plugin.toml").is_file() {
            return Err(Failure::missing(format!("{dir:?} has no plugin.toml: name the directory of a plugin")));
        }
        // The first build takes its time.
        if std::io::stderr().is_terminal() {
            let _ = writeln!(std::io::stderr(), "building {}", dir.display());
        }
        let (manifest, bytes) =
            build_plugin(dir, &BuildOptions::default()).map_err(|error| Failure::new(error.to_string()))?;
        let path = out.unwrap_or_else(|| dir.join(format!("{}.wasm", manifest.name)));
        write_whole(&path, &bytes).map_err(|error| Failure::new(format!("cannot write {path:?}: {error}")))?;
        Ok(Self { path, bytes })
    }
}

/// A reader sees the old file or the new one, never half.
pub fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    std::fs::write(&beside, bytes)?;
    std::fs::rename(&beside, path)
}
