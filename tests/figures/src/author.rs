//! A plugin author's desk: a copy of a first-party policy with the SDK beside it, files built from it, and the commands that are typed there.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::machine::Machine;
use crate::server::Server;

const POLICY: &str = "inbox-routing";

/// The folder of a policy that can be built and edited.
pub(crate) struct Desk {
    folder: PathBuf,
    files: usize,
    /// Seconds that the first build took, in an empty target directory.
    pub(crate) first_build: f64,
}

impl Desk {
    /// Copies the policy, and builds it once: what it depends on is compiled by then.
    pub(crate) fn new(machine: &Machine, dir: &Path) -> anyhow::Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        copy(&root.join("sdk/rust"), &dir.join("sdk/rust"))?;
        let folder = dir.join("plugins").join(POLICY);
        copy(&root.join("plugins").join(POLICY), &folder)?;
        let began = machine.now();
        said(Command::new(&machine.binary).args(["plugin", "build"]).arg(&folder))?;
        Ok(Self { folder, files: 0, first_build: machine.now() - began })
    }

    /// The policy under a digest that nobody has seen: only its manifest is another, the component is the built one.
    pub(crate) fn file(&mut self, machine: &Machine) -> anyhow::Result<PathBuf> {
        self.files += 1;
        let folder = self.folder.with_file_name(format!("fresh-{}", self.files));
        std::fs::create_dir_all(&folder)?;
        let artifact = self.folder.join("target/wasm32-wasip2/release/inbox_routing.wasm");
        let manifest = format!(
            "name = \"{POLICY}\"\nversion = \"0.2.{}\"\n[hooks.routing]\non_failure = \"builtin\"\n\
             [build]\ncommand = [\"true\"]\nartifact = {:?}\n",
            self.files, artifact
        );
        std::fs::write(folder.join("plugin.toml"), manifest)?;
        copy(&self.folder.join("cases"), &folder.join("cases"))?;
        let file = folder.join("fresh.wasm");
        said(Command::new(&machine.binary).args(["plugin", "build"]).arg(&folder).arg("--out").arg(&file))?;
        Ok(file)
    }

    /// Saves another source, as an editor does. `number`: each one is another.
    pub(crate) fn edit(&self, number: usize) -> anyhow::Result<()> {
        let source = self.folder.join("src/lib.rs");
        let text = std::fs::read_to_string(&source)?;
        // Of what no case speaks.
        let (before, line) = ("would refuse every message,", format!("would refuse every message of {number},"));
        let old = match text.contains(before) {
            true => before.to_owned(),
            false => format!("would refuse every message of {},", number - 1),
        };
        ensure!(text.contains(&old), "{} has no {old:?} to edit", source.display());
        let beside = source.with_extension("swp");
        std::fs::write(&beside, text.replace(&old, &line))?;
        Ok(std::fs::rename(beside, source)?)
    }

    /// `heddle plugin dev` on the folder.
    pub(crate) fn dev(&self, machine: &Machine, server: &Server) -> anyhow::Result<Dev> {
        let mut child = Command::new(&machine.binary)
            .args(["plugin", "dev", "--output", "json"])
            .arg(&self.folder)
            .arg("--data")
            .arg(&server.data)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("starting heddle plugin dev")?;
        let lines = BufReader::new(child.stdout.take().context("it has no output")?);
        Ok(Dev { child, lines: Box::new(lines) })
    }
}

/// A running `heddle plugin dev`, ended by its handle.
pub(crate) struct Dev {
    child: Child,
    lines: Box<dyn std::io::BufRead>,
}

impl Dev {
    /// Reads until it says that what was saved serves.
    pub(crate) fn serving(&mut self) -> anyhow::Result<()> {
        loop {
            let mut line = String::new();
            ensure!(self.lines.read_line(&mut line)? > 0, "heddle plugin dev ended");
            let event: Value = serde_json::from_str(&line)?;
            match event["event"].as_str() {
                Some("serving") => return Ok(()),
                Some("stays") => anyhow::bail!("the edit does not serve: {event}"),
                _ => {}
            }
        }
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// `heddle plugin WORDS` on that server, to its end.
pub(crate) fn operate(machine: &Machine, server: &Server, words: &[&str]) -> anyhow::Result<()> {
    said(Command::new(&machine.binary).arg("plugin").args(words).arg("--data").arg(&server.data)).map(drop)
}

fn said(command: &mut Command) -> anyhow::Result<String> {
    let done = command.stdin(Stdio::null()).output().context("starting heddle")?;
    ensure!(done.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&done.stderr));
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// A folder, without what was built in it.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        if name == "target" || path.extension().is_some_and(|ending| ending == "wasm") {
            continue;
        }
        if entry.file_type()?.is_dir() {
            copy(&path, &to.join(name))?;
        } else {
            std::fs::copy(&path, to.join(name))?;
        }
    }
    Ok(())
}
