//! The floor: what any durable relay must do, and nothing else. It reads a line, writes it to a file, syncs that once, and writes it to all
//! receivers; one thread, blocking, in a process of its own.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::machine::{Machine, Side, connect};

/// A line, its end included: about what a short message takes as a record.
pub(crate) const LINE_BYTES: usize = 150;
/// Zeros that the file is made of beforehand, as a log preallocates: then a sync writes one page and no metadata.
const FILE_BYTES: u64 = 4 << 20;

/// Serves one sender until it closes.
pub(crate) fn relay(receivers: usize, dir: &Path) -> anyhow::Result<()> {
    let path = dir.join("relay.log");
    std::fs::write(&path, vec![0; usize::try_from(FILE_BYTES)?])?;
    let file = File::options().write(true).open(&path)?;
    file.sync_all()?;
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    println!("{}", listener.local_addr()?);
    let accept = || -> anyhow::Result<TcpStream> {
        let stream = listener.accept()?.0;
        stream.set_nodelay(true)?;
        Ok(stream)
    };
    let mut sender = accept()?;
    let mut receivers = (0..receivers).map(|_| accept()).collect::<anyhow::Result<Vec<_>>>()?;
    let (mut line, mut at) = ([0; LINE_BYTES], 0);
    while sender.read_exact(&mut line).is_ok() {
        file.write_all_at(&line, at)?;
        file.sync_data()?;
        at = (at + LINE_BYTES as u64) % (FILE_BYTES - LINE_BYTES as u64);
        for receiver in &mut receivers {
            receiver.write_all(&line)?;
        }
    }
    Ok(())
}

/// A relay as a child, and all its clients.
pub(crate) struct Floor {
    child: Child,
    sender: TcpStream,
    receivers: Vec<TcpStream>,
}

impl Floor {
    /// Starts it where the server runs, too.
    pub(crate) fn start(machine: &Machine, receivers: usize, dir: &Path) -> anyhow::Result<Self> {
        machine.pin(Side::Server);
        let child = Command::new(std::env::current_exe()?)
            .args(["relay", &receivers.to_string()])
            .arg(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn();
        machine.unpin();
        let mut child = child.context("starting the relay")?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("it has no output")?).read_line(&mut line)?;
        let address: SocketAddr = line.trim().parse().with_context(|| format!("the relay said {line:?}"))?;
        let sender = connect(address)?;
        let receivers = (0..receivers).map(|_| connect(address)).collect::<anyhow::Result<_>>()?;
        Ok(Self { child, sender, receivers })
    }

    /// Seconds from the write of a line until the last receiver has it, one line after another.
    pub(crate) fn round(&mut self, machine: &Machine, lines: usize, pause: Duration) -> anyhow::Result<Vec<f64>> {
        let (line, mut read) = ([b'x'; LINE_BYTES], [0; LINE_BYTES]);
        let mut took = Vec::with_capacity(lines);
        for _ in 0..lines {
            machine.pause(pause);
            let began = machine.now();
            self.sender.write_all(&line)?;
            for receiver in &mut self.receivers {
                receiver.read_exact(&mut read)?;
            }
            took.push(machine.now() - began);
            ensure!(read == line, "the relay garbled a line");
        }
        Ok(took)
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        // Gone already, perhaps.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
