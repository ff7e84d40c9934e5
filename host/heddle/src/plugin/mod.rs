//! `heddle plugin`: what a plugin's author makes and tries, and what a running server decides with.

pub mod args;
mod author;
mod cases;
mod change;
mod dev;
mod inspect;
mod logs;
mod new;
mod progress;
mod replay;
mod sign;
mod source;
mod trial;

use std::path::{Path, PathBuf};

use crate::cli::Output;
use crate::failure::Failure;

pub use args::PluginCommand;
pub use change::command;
use source::Source;

/// Builds, writes the file, and says what stdout should show.
///
/// # Errors
/// What the build, the manifest or a case says.
fn build(dir: &Path, out: Option<PathBuf>, output: Output) -> Result<String, Failure> {
    let Source { path, bytes } = Source::build(dir, out)?;
    let packed = heddle_pack::unpack(bytes).map_err(|error| Failure::new(error.to_string()))?;
    let (manifest, size) = (&packed.manifest, packed.bytes.len());
    Ok(match output {
        Output::Text => format!(
            "{}\n{} {}, {size} bytes, sha256 {}",
            path.display(),
            manifest.name,
            manifest.version,
            packed.digest
        ),
        Output::Json => serde_json::json!({
            "path": path, "name": manifest.name, "version": manifest.version,
            "bytes": size, "digest": packed.digest,
        })
        .to_string(),
    })
}
