//! The binary under test as a child process, always ended by its handle.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, bail, ensure};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Deserialize;
use serde_json::json;

use crate::machine::{Machine, Side, connect, cpu_of, field};
use crate::socket::Socket;

const SECRET: &str = "a secret of the figures, long enough for HS256 and known to everybody";
const ADMIN_TOKEN: &str = "an admin token of the figures, known to everybody";

/// A running server.
pub(crate) struct Server {
    child: Child,
    /// Where clients connect.
    pub(crate) client: SocketAddr,
    admin: SocketAddr,
    /// Its data directory, from which its commands know where it is.
    pub(crate) data: PathBuf,
    /// Seconds from the start of the process to its ready line.
    pub(crate) took: f64,
}

#[derive(Deserialize)]
struct Ready {
    client: SocketAddr,
    admin: SocketAddr,
}

impl Server {
    /// Starts on the directory and waits for the ready line. `side`: on one core, or none: on all.
    pub(crate) fn start(machine: &Machine, dir: &Path, side: Option<Side>) -> anyhow::Result<Self> {
        Self::start_node(machine, dir, side, "figures", "")
    }

    /// The same as a node of that name, with more sections of configuration.
    pub(crate) fn start_node(
        machine: &Machine,
        dir: &Path,
        side: Option<Side>,
        node: &str,
        more: &str,
    ) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let config = dir.join("heddle.toml");
        std::fs::write(&config, configuration(dir, node)? + more)?;
        if let Some(side) = side {
            machine.pin(side);
        }
        let began = machine.now();
        let child = Command::new(&machine.binary)
            .args(["serve", "--output", "json", "--config"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(dir.join("stderr.txt"))?)
            .spawn();
        machine.unpin();
        let child = child.with_context(|| format!("starting {}", machine.binary.display()))?;
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server = Self { child, client: nowhere, admin: nowhere, data: dir.join("data"), took: 0.0 };
        let mut lines = BufReader::new(server.child.stdout.take().context("it has no output")?);
        let mut line = String::new();
        while !line.starts_with('{') {
            line.clear();
            if lines.read_line(&mut line)? == 0 {
                let said = std::fs::read_to_string(dir.join("stderr.txt")).unwrap_or_default();
                bail!("the server ended before it was ready: {said}");
            }
        }
        server.took = machine.now() - began;
        let ready: Ready = serde_json::from_str(&line)?;
        (server.client, server.admin) = (ready.client, ready.admin);
        Ok(server)
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Its resident memory in bytes.
    pub(crate) fn resident(&self) -> anyhow::Result<u64> {
        field(&format!("/proc/{}/status", self.child.id()), "VmRSS:")
    }

    /// Seconds of processor time that it has used.
    pub(crate) fn cpu(&self) -> anyhow::Result<f64> {
        cpu_of(self.child.id())
    }

    /// A client of that user.
    pub(crate) fn open(&self, user: &str, device: &str) -> anyhow::Result<Socket> {
        Socket::open(self.client, &token(user)?, device).with_context(|| format!("connecting {user}"))
    }

    /// Makes a group of these users, by the first of them; answers its id.
    pub(crate) fn group(&self, users: &[String]) -> anyhow::Result<String> {
        let body = json!({ "client_id": "group", "name": "figures", "members": users }).to_string();
        let answer = http(self.client, "POST", "/v1/groups", &token(&users[0])?, &body)?;
        let answer: serde_json::Value = serde_json::from_str(&answer)?;
        Ok(answer["group"].as_str().with_context(|| format!("no group in {answer}"))?.to_owned())
    }

    /// The sum of the metrics of that name, whatever their labels.
    pub(crate) fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let text = http(self.admin, "GET", "/metrics", ADMIN_TOKEN, "")?;
        let of = |line: &str| {
            let (labelled, value) = line.rsplit_once(' ')?;
            (labelled.split('{').next() == Some(name)).then(|| value.parse::<f64>().ok()).flatten()
        };
        Ok(text.lines().filter_map(of).sum())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Gone already, perhaps.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Limits far above what a figure does: the first-party limiter would throttle it.
fn configuration(dir: &Path, node: &str) -> anyhow::Result<String> {
    let data = serde_json::to_string(dir.join("data").to_str().context("a path in UTF-8")?)?;
    let kinds = ["connect", "receipt", "typing", "presence", "history", "membership", "other"];
    let kinds = kinds.map(|kind| format!("{kind} = {{ burst = 1000000, per_second = 1000000.0 }}\n")).concat();
    Ok(format!(
        "[node]\nid = \"{node}\"\ndata_dir = {data}\n\
         [gateway]\nlisten = \"127.0.0.1:0\"\nloopback_exempt = true\nframes_per_second_max = 1000000\nheartbeat = \"10 min\"\n\
         [admin]\nlisten = \"127.0.0.1:0\"\ntoken = \"{ADMIN_TOKEN}\"\n\
         [auth]\nsecret = \"{SECRET}\"\n\
         [telemetry]\nformat = \"text\"\nfilter = \"warn\"\n\
         [policies.config.token-bucket]\nburst = 1000000\nper_second = 1000000.0\n\
         [policies.config.token-bucket.commands]\n{kinds}"
    ))
}

/// A token that the server takes.
fn token(user: &str) -> anyhow::Result<String> {
    // Until 2100: the figures have no calendar.
    let claims = json!({ "sub": user, "exp": 4_102_444_800_u64 });
    Ok(jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(SECRET.as_bytes()))?)
}

/// One request on a socket of its own; the body of a good answer.
fn http(to: SocketAddr, method: &str, path: &str, token: &str, body: &str) -> anyhow::Result<String> {
    let mut stream = connect(to)?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("an answer without a body")?;
    ensure!(head.starts_with("HTTP/1.1 2"), "{method} {path} was refused: {answer}");
    if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        return chunks(body);
    }
    Ok(body.to_owned())
}

fn chunks(mut rest: &str) -> anyhow::Result<String> {
    let mut whole = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).context("the size of a chunk")?;
        if size == 0 {
            break;
        }
        whole.push_str(after.get(..size).context("a short chunk")?);
        rest = after.get(size + 2..).unwrap_or_default();
    }
    Ok(whole)
}
