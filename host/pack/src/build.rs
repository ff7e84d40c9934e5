use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::case::cases_from_dir;
use crate::error::PackError;
use crate::file::pack;
use crate::manifest::Manifest;

const OUTPUT_BYTES_SHOWN: usize = 4_096;

/// How a build differs from what the manifest says.
#[derive(Clone, Debug, Default)]
pub struct BuildOptions {
    /// Where cargo builds, and where the artifact is looked for instead of `target/`. None: the plugin's own `target`.
    pub target_dir: Option<PathBuf>,
}

/// Runs the build command of the plugin in `dir` and packs what it wrote with manifest and cases.
///
/// The command sees neither cargo's nor rustc's variables of an outer build, so that it may run inside a build script.
pub fn build_plugin(dir: &Path, options: &BuildOptions) -> Result<(Manifest, Vec<u8>), PackError> {
    let path = dir.join("plugin.toml");
    let text =
        std::fs::read_to_string(&path).map_err(|source| PackError::Io { what: "read", path: path.clone(), source })?;
    let manifest = Manifest::parse(&text, &path.display().to_string())?;
    let cases = cases_from_dir(&dir.join("cases"))?;
    let Some(build) = &manifest.build else {
        let problems = vec!["build: missing, say how to build it with `command` and `artifact`".to_owned()];
        return Err(PackError::Manifest { place: path.display().to_string(), problems });
    };
    run(&build.command, dir, options)?;
    let artifact = artifact(dir, &build.artifact, options);
    let component = match std::fs::read(&artifact) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(PackError::NoArtifact { path: artifact }),
        Err(source) => return Err(PackError::Io { what: "read", path: artifact, source }),
    };
    let packed = pack(&component, &manifest, &cases)?;
    Ok((manifest, packed))
}

fn artifact(dir: &Path, artifact: &str, options: &BuildOptions) -> PathBuf {
    match (&options.target_dir, artifact.strip_prefix("target/")) {
        (Some(target), Some(rest)) => target.join(rest),
        _ => dir.join(artifact),
    }
}

fn run(command: &[String], dir: &Path, options: &BuildOptions) -> Result<(), PackError> {
    let shown = command.join(" ");
    let [program, arguments @ ..] = command else {
        return Err(PackError::NoArtifact { path: dir.to_owned() });
    };
    let mut child = Command::new(program);
    child.args(arguments).current_dir(dir);
    for (name, _) in std::env::vars_os() {
        if outer_build(&name.to_string_lossy()) {
            child.env_remove(name);
        }
    }
    if let Some(target) = &options.target_dir {
        child.env("CARGO_TARGET_DIR", target);
    }
    let Output { status, stdout, stderr } =
        child.output().map_err(|source| PackError::Io { what: "run", path: PathBuf::from(program), source })?;
    if status.success() {
        return Ok(());
    }
    let printed = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    let missing = printed.contains("target may not be installed")
        || printed.contains("can't find crate for `std`")
        || printed.contains("can't find crate for `core`");
    let hint = if missing { ": run `rustup target add wasm32-wasip2`" } else { "" };
    Err(PackError::Build {
        command: shown,
        dir: dir.to_owned(),
        status: status.to_string(),
        hint: hint.to_owned(),
        output: tail(&printed).to_owned(),
    })
}

/// Variables that a cargo or rustc around us set for itself. `CARGO_HOME` stays, and what a user says about the network.
fn outer_build(name: &str) -> bool {
    let network = ["CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTR", "CARGO_SOURCE_"];
    if network.iter().any(|prefix| name.starts_with(prefix)) {
        return false;
    }
    matches!(name, "RUSTFLAGS" | "RUSTC_WORKSPACE_WRAPPER" | "RUSTC_WRAPPER" | "RUSTDOCFLAGS" | "RUSTC" | "RUSTDOC")
        || matches!(name, "TARGET" | "HOST" | "OUT_DIR" | "PROFILE" | "DEBUG" | "OPT_LEVEL" | "NUM_JOBS")
        || (name.starts_with("CARGO_") && name != "CARGO_HOME")
        || name == "CARGO"
}

fn tail(text: &str) -> &str {
    let mut start = text.len().saturating_sub(OUTPUT_BYTES_SHOWN);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    text[start..].trim_end()
}

#[cfg(test)]
mod tests {
    use super::outer_build;

    #[test]
    fn what_a_user_says_about_the_network_reaches_the_build_and_an_outer_cargo_does_not() {
        for kept in ["CARGO_HOME", "CARGO_NET_OFFLINE", "CARGO_HTTP_PROXY", "CARGO_REGISTRIES_OURS_INDEX", "PATH"] {
            assert!(!outer_build(kept), "{kept}");
        }
        for gone in
            ["CARGO", "CARGO_MANIFEST_DIR", "CARGO_TARGET_DIR", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "OUT_DIR"]
        {
            assert!(outer_build(gone), "{gone}");
        }
    }
}
