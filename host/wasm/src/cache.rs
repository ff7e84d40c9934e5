use std::fs::{self, DirBuilder, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

const SUM_BYTES: usize = 32;

/// Compiles, or takes native code that this host compiled before. `digest` names the component's bytes.
///
/// Trouble with the folder costs time, never correctness: it is logged, and the component is compiled.
pub(crate) fn compile(engine: &Engine, bytes: &[u8], digest: &str, dir: Option<&Path>) -> wasmtime::Result<Component> {
    let Some(dir) = dir else { return Component::new(engine, bytes) };
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    let path = dir.join(format!("{digest}-{:016x}.native", hasher.finish()));
    if let Err(error) = own_folder(dir) {
        tracing::warn!(dir = %dir.display(), %error, "native code is not cached");
        return Component::new(engine, bytes);
    }
    match read(engine, &path) {
        Ok(Some(component)) => return Ok(component),
        Ok(None) => {}
        Err(error) => tracing::warn!(path = %path.display(), %error, "cached native code is not usable, compiling"),
    }
    let component = Component::new(engine, bytes)?;
    if let Err(error) = component.serialize().map_err(io::Error::other).and_then(|code| write(&path, &code)) {
        tracing::warn!(path = %path.display(), %error, "native code is not cached");
    }
    Ok(component)
}

/// Makes the folder, or refuses one that others could write to.
fn own_folder(dir: &Path) -> io::Result<()> {
    if !dir.exists() {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    let found = fs::symlink_metadata(dir)?;
    let ours = found.uid() == rustix::process::geteuid().as_raw();
    if !found.is_dir() || !ours || found.mode() & 0o077 != 0 {
        return Err(io::Error::other("not a folder of this user with mode 0700, run `chmod 700` on it"));
    }
    Ok(())
}

#[allow(unsafe_code)]
fn read(engine: &Engine, path: &Path) -> io::Result<Option<Component>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let (sum, code) = bytes.split_at_checked(SUM_BYTES).ok_or_else(|| io::Error::other("too short"))?;
    if Sha256::digest(code)[..] != *sum {
        return Err(io::Error::other("its checksum is wrong"));
    }
    // SAFETY: `deserialize` runs what it is given. It is given only what `write` left, whole as its checksum shows, in a folder that
    // nobody but this user can write to (`own_folder`); whoever can write there could change this binary as well.
    unsafe { Component::deserialize(engine, code) }.map(Some).map_err(io::Error::other)
}

fn write(path: &Path, code: &[u8]) -> io::Result<()> {
    let partial = path.with_extension(format!("{}.partial", std::process::id()));
    let mut file = File::create(&partial)?;
    file.write_all(&Sha256::digest(code))?;
    file.write_all(code)?;
    fs::rename(&partial, path)
}
