use std::fs::{self, DirBuilder, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use heddle_pack::touch;
use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::compile::CompileError;
use crate::engine::Inner;
use crate::native::trim;

const SUM_BYTES: usize = 32;

/// Where native code is kept.
#[derive(Clone, Debug)]
pub struct NativeCache {
    /// A folder of this user alone.
    pub dir: PathBuf,
    /// Of all files in it. What loaded plugins came from is kept whatever it takes; of the rest what was used longest ago goes first.
    pub bytes_max: u64,
}

impl NativeCache {
    /// As large as it gets.
    #[must_use]
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), bytes_max: u64::MAX }
    }
}

/// A component, and the file that it came from: held, that is not removed.
pub(crate) struct Native {
    pub(crate) component: Component,
    pub(crate) file: Option<Arc<Path>>,
}

/// Compiles, or takes native code that this host compiled before. `digest` names the component's bytes.
///
/// Trouble with the folder costs time, never correctness: it is logged, and the component is compiled.
pub(crate) fn compile(
    inner: &Inner,
    bytes: &[u8],
    digest: &str,
    cache: Option<&NativeCache>,
) -> Result<Native, CompileError> {
    let placed = cache.and_then(|cache| Some((cache, place(&inner.engine, digest, &cache.dir)?)));
    let Some((cache, path)) = placed else {
        let component = native(inner, bytes).and_then(|code| component(&inner.engine, &code))?;
        return Ok(Native { component, file: None });
    };
    // Before anything else: who compiles another one at this moment does not remove it.
    let file = Some(inner.in_use.hold(&path));
    if let Some(component) = kept(&inner.engine, &path) {
        return Ok(Native { component, file });
    }
    let _only = inner.compiling.lock();
    // Who had the lock before may have compiled the same.
    if let Some(component) = kept(&inner.engine, &path) {
        return Ok(Native { component, file });
    }
    let code = made(inner, bytes)?;
    // What does not fit this engine (its memory is above the pool's) is not worth a file.
    let component = component(&inner.engine, &code)?;
    if let Err(error) = write(&path, &code) {
        tracing::warn!(path = %path.display(), %error, "native code is not cached");
    }
    if let Err(error) = trim(&cache.dir, cache.bytes_max, &inner.in_use) {
        tracing::warn!(dir = %cache.dir.display(), %error, "old native code cannot be removed");
    }
    Ok(Native { component, file })
}

/// The file for it; none if the folder is not safe to use.
fn place(engine: &Engine, digest: &str, dir: &Path) -> Option<PathBuf> {
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    match own_folder(dir) {
        Ok(()) => Some(dir.join(format!("{digest}-{:016x}.native", hasher.finish()))),
        Err(error) => {
            tracing::warn!(dir = %dir.display(), %error, "native code is not cached");
            None
        }
    }
}

fn kept(engine: &Engine, path: &Path) -> Option<Component> {
    read(engine, path).unwrap_or_else(|error| {
        tracing::warn!(path = %path.display(), %error, "cached native code is not usable, compiling");
        None
    })
}

fn native(inner: &Inner, bytes: &[u8]) -> Result<Vec<u8>, CompileError> {
    let _only = inner.compiling.lock();
    made(inner, bytes)
}

/// Native code, from the engine's compiler or from the engine itself.
fn made(inner: &Inner, bytes: &[u8]) -> Result<Vec<u8>, CompileError> {
    match &inner.compiler {
        Some(compiler) => compiler.compile(bytes),
        None => inner.engine.precompile_component(bytes).map_err(refused),
    }
}

fn refused(error: wasmtime::Error) -> CompileError {
    CompileError::Refused { problem: format!("{error:#}") }
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
    let component = component(engine, code).map_err(io::Error::other)?;
    if let Err(error) = touch(path) {
        tracing::debug!(path = %path.display(), %error, "when native code was used cannot be noted");
    }
    Ok(Some(component))
}

/// Called with two kinds of bytes only: what `made` has just returned, and what `write` left of that.
#[allow(unsafe_code)]
fn component(engine: &Engine, code: &[u8]) -> Result<Component, CompileError> {
    // SAFETY: `deserialize` trusts what it is given: it is to be what the compiler of this engine's version made. What `made` returns is, whether this
    // process compiled it or a child did: the child is this program (`ChildCompiler::this_program`), which got the component as plain input, ran none
    // of it, and whose output nobody else holds. What `write` left is that too, whole as its checksum shows, in a folder that nobody but this user can
    // write to (`own_folder`); whoever can write there could change this binary as well. Code of another version or configuration is refused by its
    // header.
    unsafe { Component::deserialize(engine, code) }.map_err(refused)
}

fn write(path: &Path, code: &[u8]) -> io::Result<()> {
    let partial = path.with_extension(format!("{}.partial", std::process::id()));
    let mut file = File::create(&partial)?;
    file.write_all(&Sha256::digest(code))?;
    file.write_all(code)?;
    fs::rename(&partial, path)
}
