//! What a server says when it is ready: a screen for a newcomer, a line for a program, `run.json` for other commands.

use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use data_encoding::BASE64;
use heddle_client::{Address, Trust};
use heddle_policy::PolicyInfo;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::named::Named;

/// Everything that is worth saying.
#[derive(Debug)]
pub struct Ready {
    /// Where clients connect, if they do.
    pub client: Option<SocketAddr>,
    /// Where operators connect.
    pub admin: SocketAddr,
    /// Tokens of `heddle dev`, by user.
    pub tokens: Vec<(String, String)>,
    /// For the admin listener.
    pub admin_token: String,
    /// The policy set in force.
    pub generation: u64,
    /// Its plugins.
    pub policies: Vec<PolicyInfo>,
    /// From start to now.
    pub took: Duration,
    /// Where everything durable lives.
    pub data: PathBuf,
    /// Somebody answers as bob.
    pub bot: bool,
    /// Clients are served with TLS, and so are operators.
    pub tls: (bool, bool),
}

impl Ready {
    /// One line for programs.
    #[must_use]
    pub fn json(&self) -> String {
        let tokens: serde_json::Map<_, _> =
            self.tokens.iter().map(|(user, token)| (user.clone(), token.clone().into())).collect();
        let policies: Vec<_> = self
            .policies
            .iter()
            .map(|policy| {
                serde_json::json!({
                    "hook": policy.hook, "name": policy.name, "version": policy.version,
                    "digest": policy.digest.to_string(), "micros": policy.micros,
                })
            })
            .collect();
        serde_json::json!({
            "client": self.client, "admin": self.admin.to_string(), "tokens": tokens,
            "admin_token": self.admin_token, "generation": self.generation, "policies": policies,
        })
        .to_string()
    }

    /// At most 20 lines for a person; each can be pasted into a shell as it stands.
    #[must_use]
    pub fn screen(&self, program: &str) -> String {
        let Self { client, admin, generation, .. } = self;
        let data = self.data.display();
        let scheme = |tls| if tls { "https" } else { "http" };
        let (for_clients, for_you) = (scheme(self.tls.0), scheme(self.tls.1));
        // The other commands look into ./heddle-data by themselves.
        let in_data = if self.data == Path::new("./heddle-data") { String::new() } else { format!(" --data {data}") };
        let clients = client.map_or_else(|| "none here".to_owned(), |client| client.to_string());
        let mut lines = vec![
            format!(
                "# Heddle is ready after {} ms. Clients: {clients}, you: {admin}, data: {data}",
                self.took.as_millis()
            ),
            format!("# Generation {generation} decides, with these components:"),
        ];
        lines.extend(self.policies.iter().take(8).map(|policy| {
            let digest = policy.digest.to_string();
            let name = format!("{} {}", policy.name, policy.version);
            format!(
                "#   {:<10} {name:<22} sha256 {}  {:.2} µs a call",
                policy.hook.name(),
                &digest[..16],
                policy.micros
            )
        }));
        if self.policies.len() > 8 {
            lines.push(format!("#   and {} more: {program} dev --output json", self.policies.len() - 8));
        }
        lines.extend(self.tokens.iter().map(|(user, token)| format!("{}={token}", user.to_uppercase())));
        let Some(client) = client else {
            lines.push(format!("{program} nodes{in_data}   # the others, some of which serve clients"));
            return lines.join("\n");
        };
        lines.push("# In another terminal:".to_owned());
        let partner = if self.bot { "   # bob answers" } else { "" };
        lines.push(format!("{program} chat --user alice{in_data}{partner}"));
        lines.push(format!("# In a browser, two panes and the raw frames: {for_you}://{admin}/try"));
        lines.push(format!(
            "curl -H \"Authorization: Bearer $({program} token --user alice)\" {for_clients}://{client}/v1/conversations"
        ));
        lines.push(format!("{program} log cat --topic messages{in_data}"));
        lines.push("# Ctrl-C drains and stops; nothing that was accepted is lost.".to_owned());
        lines.join("\n")
    }
}

/// What to type for this binary: as it was typed, if that was a path.
#[must_use]
pub fn program() -> String {
    std::env::args().next().filter(|name| name.contains('/')).unwrap_or_else(|| "heddle".to_owned())
}

/// How other commands find a running server: `run.json` in its data directory, readable by its user only.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunFile {
    /// Where clients connect, if they do.
    pub client: Option<SocketAddr>,
    /// Where operators connect.
    pub admin: SocketAddr,
    /// For the admin listener.
    pub admin_token: String,
    /// The process.
    pub pid: u32,
    /// Clients are served with TLS.
    #[serde(default)]
    pub client_tls: bool,
    /// Operators are served with TLS.
    #[serde(default)]
    pub admin_tls: bool,
    /// The certificates that it serves, in DER and base64: commands on this machine believe these, for whatever name they are. After a
    /// reload the older ones stay.
    #[serde(default)]
    pub certificates: Vec<String>,
}

/// Certificates that are kept in `run.json`: those of some reloads.
const CERTIFICATES_MAX: usize = 8;

impl RunFile {
    fn path(data: &Path) -> PathBuf {
        data.join("run.json")
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// If the directory does not take it.
    pub fn write(&self, data: &Path) -> Result<(), Failure> {
        let path = Self::path(data);
        let beside = data.join("run.json.new");
        let write = || -> std::io::Result<()> {
            // Made anew: the mode of an older file would stay.
            let _ = std::fs::remove_file(&beside);
            let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
            file.write_all(&serde_json::to_vec(self)?)?;
            std::fs::rename(&beside, &path)
        };
        write()
            .map_err(|error| Failure::new(format!("cannot write {path:?}: {error}; make room or mend its permissions")))
    }

    /// Where clients connect, for this machine's own commands.
    ///
    /// # Errors
    /// If TLS cannot be set up, or it serves no clients.
    pub fn client_address(&self) -> Result<Address, Failure> {
        self.address(self.client()?, self.client_tls)
    }

    fn client(&self) -> Result<SocketAddr, Failure> {
        let none = || "the server of this directory serves no clients (node.roles): name one that does with --server";
        self.client.ok_or_else(|| Failure::missing(none().to_owned()))
    }

    /// Where operators connect, for this machine's own commands.
    ///
    /// # Errors
    /// If TLS cannot be set up.
    pub fn admin_address(&self) -> Result<Address, Failure> {
        self.address(self.admin, self.admin_tls)
    }

    /// Where clients connect, as a person would name it.
    ///
    /// # Errors
    /// If it serves none.
    pub fn named_client(&self) -> Result<Named, Failure> {
        Ok(Named { authority: self.client()?.to_string(), tls: self.client_tls })
    }

    fn address(&self, at: SocketAddr, tls: bool) -> Result<Address, Failure> {
        if !tls {
            return Ok(Address::from(at.to_string()));
        }
        let known = self.certificates.iter().filter_map(|text| BASE64.decode(text.as_bytes()).ok()).collect();
        Address::tls(at.to_string(), &Trust::Certificates(known)).map_err(|error| Failure::new(error.to_string()))
    }

    /// With certificates that serve from now on.
    pub fn serving<'a>(&mut self, leaves: impl Iterator<Item = &'a [u8]>) {
        for text in leaves.map(|leaf| BASE64.encode(leaf)) {
            if !self.certificates.contains(&text) {
                self.certificates.push(text);
            }
        }
        let over = self.certificates.len().saturating_sub(CERTIFICATES_MAX);
        self.certificates.drain(..over);
    }

    /// Takes it away at the end.
    pub fn remove(data: &Path) {
        let _ = std::fs::remove_file(Self::path(data));
    }

    /// Reads the one of the server that runs on this directory.
    ///
    /// # Errors
    /// If none runs there.
    pub fn read(data: &Path) -> Result<Self, Failure> {
        let path = Self::path(data);
        let text = std::fs::read_to_string(&path).map_err(|error| {
            Failure::missing(format!(
                "no server is found in {data:?} ({error}): start one with `heddle dev --data {}`, or name it with --admin",
                data.display()
            ))
        })?;
        serde_json::from_str(&text)
            .map_err(|error| Failure::new(format!("{path:?} is broken ({error}): start the server again")))
    }
}

#[cfg(test)]
#[path = "ready_tests.rs"]
mod tests;
