//! `heddle plugin`: one file out of a plugin's directory, and what a running server decides with.

mod args;
mod change;
mod replay;
mod trial;

use std::path::{Path, PathBuf};

use heddle_pack::{BuildOptions, build_plugin};

use crate::cli::Output;
use crate::failure::Failure;

pub use args::PluginCommand;
pub use change::command;

/// Builds, writes the file, and says what stdout should show.
///
/// # Errors
/// What the build, the manifest or a case says.
fn build(dir: &Path, out: Option<PathBuf>, output: Output) -> Result<String, Failure> {
    if !dir.join("plugin.toml").is_file() {
        return Err(Failure::missing(format!("{dir:?} has no plugin.toml: name the directory of a plugin")));
    }
    let (manifest, bytes) =
        build_plugin(dir, &BuildOptions::default()).map_err(|error| Failure::new(error.to_string()))?;
    let path = out.unwrap_or_else(|| dir.join(format!("{}.wasm", manifest.name)));
    write_whole(&path, &bytes).map_err(|error| Failure::new(format!("cannot write {path:?}: {error}")))?;
    let digest = heddle_model::Digest::of(&bytes);
    Ok(match output {
        Output::Text => format!(
            "{}\n{} {}, {} bytes, sha256 {digest}",
            path.display(),
            manifest.name,
            manifest.version,
            bytes.len()
        ),
        Output::Json => serde_json::json!({
            "path": path, "name": manifest.name, "version": manifest.version,
            "bytes": bytes.len(), "digest": digest.to_string(),
        })
        .to_string(),
    })
}

/// A reader sees the old file or the new one, never half.
fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let beside = path.with_extension("wasm.new");
    std::fs::write(&beside, bytes)?;
    std::fs::rename(&beside, path)
}
