//! `heddle plugin new`: a directory that builds offline with what a checkout's own build has downloaded.

mod name;
mod parts;
mod render;
mod sdk;

use std::io;
use std::path::{Path, PathBuf};

use heddle_pack::Hook;
use serde_json::json;

use crate::cli::Output;
use crate::failure::Failure;

/// Makes the directory, and says what to type next.
///
/// # Errors
/// If the name or a hook is none, or something is in the way.
pub fn command(name: &str, hooks: &[String], dir: Option<PathBuf>, output: Output) -> Result<String, Failure> {
    name::check(name).map_err(Failure::usage)?;
    let mut chosen: Vec<Hook> = Vec::new();
    for text in hooks {
        let hook = Hook::from_name(text).ok_or_else(|| {
            Failure::usage(format!("there is no hook {text:?}: use {}", Hook::ALL.map(Hook::as_str).join(", ")))
        })?;
        if !chosen.contains(&hook) {
            chosen.push(hook);
        }
    }
    chosen.sort();
    let dir = dir.unwrap_or_else(|| PathBuf::from(name));
    free(&dir)?;
    let mut files = render::plugin(name, &chosen);
    files.extend(sdk::files());
    for (path, text) in &files {
        write(&dir.join(path), text)
            .map_err(|error| Failure::new(format!("cannot write {}: {error}", dir.join(path).display())))?;
    }
    let shown = dir.display();
    Ok(match output {
        Output::Json => {
            let hooks: Vec<&str> = chosen.iter().map(|hook| hook.as_str()).collect();
            let paths: Vec<&str> = files.iter().map(|(path, _)| path.as_str()).collect();
            json!({ "dir": dir, "name": name, "hooks": hooks, "files": paths }).to_string()
        }
        Output::Text => format!(
            "{shown} is a plugin, with {cases} case(s) and the SDK that it is built on. Next:

  heddle plugin test {shown}    builds it, and runs its cases
  heddle dev{pad}             a server, in another terminal
  heddle plugin dev {shown}     each save of {shown}/src/lib.rs decides within seconds",
            cases = files.iter().filter(|(path, _)| path.starts_with("cases/")).count(),
            pad = " ".repeat(shown.to_string().chars().count()),
        ),
    })
}

/// Nothing that is there already is written over.
fn free(dir: &Path) -> Result<(), Failure> {
    match std::fs::read_dir(dir).map(|mut entries| entries.next().is_some()) {
        Ok(false) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(true) => Err(Failure::new(format!("{dir:?} is not empty: name another directory, or another plugin"))),
        Err(error) => Err(Failure::new(format!("{dir:?} cannot be used ({error}): name another directory"))),
    }
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(path, text)
}

#[cfg(test)]
mod tests;
