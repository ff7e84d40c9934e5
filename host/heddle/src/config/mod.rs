//! The configuration: typed sections, from a file, `HEDDLE_SECTION__KEY` variables and flags, everything wrong told at once.
//!
//! [`keys`] is the table that all of it comes from; [`Sources`] says where values are; [`Config`] is what the rest of the binary sees.

mod backends;
mod choices;
mod databases;
mod keys;
mod problem;
mod render;
mod setting;
mod source;
mod table;
#[cfg(test)]
mod tests;
mod tls;

use std::path::{Path, PathBuf};

pub use backends::{BackendFile, backend_expired, backend_files, backend_warnings};
pub use choices::{
    KafkaLogin, LogBackend, LogFormat, ProxyProtocol, RedisKind, RegistryBackend, StoreBackend, UnknownUsers,
};
pub use databases::shard_key;
pub use keys::{Config, KEYS, KafkaSection, PoliciesSection, RegistrySection};
pub(crate) use problem::meant;
pub use problem::{Problem, Problems};
pub use render::{annotated, effective};
pub use table::Key;
use table::{Given, Raw, Values};
pub use tls::{admin_certificate, client_certificate};

/// Where the values of a configuration are; later ones win.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// Values of `heddle dev`, below all others.
    pub presets: Vec<(&'static str, String)>,
    /// The file.
    pub file: Option<PathBuf>,
    /// The environment.
    pub variables: Vec<(String, String)>,
    /// `--set KEY=VALUE`.
    pub assignments: Vec<String>,
    /// What other flags say, by key; the name of the flag for errors.
    pub flags: Vec<(&'static str, String, &'static str)>,
    /// `--policy`: plugin files by the key of their hook's chain.
    pub chains: Vec<(&'static str, Vec<String>)>,
}

impl Sources {
    /// The environment of this process.
    #[must_use]
    pub fn environment() -> Vec<(String, String)> {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect()
    }

    /// Reads and checks all of it.
    ///
    /// # Errors
    /// All problems, at once.
    pub fn load(&self) -> Result<Config, Problems> {
        let (config, problems) = self.read();
        if problems.is_empty() { Ok(config) } else { Err(Problems(problems)) }
    }

    /// What could be read, with defaults in the place of what is wrong, and everything that is wrong.
    #[must_use]
    pub fn read(&self) -> (Config, Vec<Problem>) {
        let mut problems = Vec::new();
        let mut values = Values::new();
        for (path, text) in &self.presets {
            values.insert((*path).to_owned(), text_from(text, "heddle dev"));
        }
        if let Some(path) = &self.file {
            source::file(path, &mut values, &mut problems);
        }
        source::environment(self.variables.iter().cloned(), &mut values, &mut problems);
        for text in &self.assignments {
            source::assignment(text, &mut values, &mut problems);
        }
        for (path, text, flag) in &self.flags {
            values.insert((*path).to_owned(), text_from(text, flag));
        }
        for (path, files) in &self.chains {
            let files = files.iter().cloned().map(toml::Value::String).collect();
            let given = Given { raw: Raw::Toml(toml::Value::Array(files)), origin: "flag --policy".to_owned() };
            values.insert((*path).to_owned(), given);
        }
        let mut config = Config::from_values(&values, &mut problems);
        check(&mut config, &mut problems);
        (config, problems)
    }
}

fn text_from(text: &str, origin: &str) -> Given {
    Given { raw: Raw::Text(text.to_owned()), origin: origin.to_owned() }
}

/// What concerns more than one key, or a file that a key names.
fn check(config: &mut Config, problems: &mut Vec<Problem>) {
    let mut say = |key: &str, wrong: String, remedy: &str| {
        let (key, remedy) = (key.to_owned(), remedy.to_owned());
        problems.push(Problem { key, origin: "checked".to_owned(), wrong, remedy });
    };
    let auth = &mut config.auth;
    from_file(&mut auth.secret, &auth.secret_file, ["auth.secret", "auth.secret_file"], &mut say);
    if !auth.secret.is_empty() && auth.secret.len() < SECRET_BYTES_MIN {
        let wrong = format!("has {} bytes, at least {SECRET_BYTES_MIN} are needed", auth.secret.len());
        say("auth.secret", wrong, "make one with `openssl rand -base64 48`");
    }
    databases::check(config, &mut say);
    let roles = &config.node.roles;
    for unknown in roles.iter().filter(|role| !["gateway", "worker"].contains(&role.as_str())) {
        say("node.roles", format!("has {unknown:?}"), "write \"gateway\", \"worker\" or both");
    }
    if roles.is_empty() {
        say("node.roles", "is empty, and a node does something".to_owned(), "write \"gateway\", \"worker\" or both");
    }
    if config.log.backend == LogBackend::Embedded && !roles.iter().any(|role| role == "gateway") {
        let remedy = "add \"gateway\": nobody else reaches an embedded log";
        say("node.roles", "has no \"gateway\", and log.backend is \"embedded\"".to_owned(), remedy);
    }
    if config.log.backend == LogBackend::Embedded && !roles.iter().any(|role| role == "worker") {
        let remedy = "add \"worker\": nobody else works on an embedded log";
        say("node.roles", "has no \"worker\", and log.backend is \"embedded\"".to_owned(), remedy);
    }
    let kafka = &config.kafka;
    if config.log.backend == LogBackend::Kafka && kafka.brokers.is_empty() {
        say("kafka.brokers", "is empty, and log.backend is \"kafka\"".to_owned(), "write \"HOST:9092\"");
    }
    if config.log.backend == LogBackend::Embedded && !kafka.brokers.is_empty() {
        let remedy = "write log.backend = \"kafka\", or leave out kafka.brokers";
        say("kafka.brokers", "is set, and log.backend is \"embedded\"".to_owned(), remedy);
    }
    from_file(
        &mut config.kafka.password,
        &config.kafka.password_file,
        ["kafka.password", "kafka.password_file"],
        &mut say,
    );
    let kafka = &config.kafka;
    let of_topics = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if kafka.prefix.is_empty() || !kafka.prefix.bytes().all(of_topics) {
        let wrong = format!("{:?} has other characters than letters, digits, hyphens and underscores", kafka.prefix);
        say("kafka.prefix", wrong, "write \"heddle\"");
    }
    if config.groups.chunk_members > config.groups.members_max {
        let wrong =
            format!("{} is above groups.members_max {}", config.groups.chunk_members, config.groups.members_max);
        say("groups.chunk_members", wrong, "lower it, or raise groups.members_max");
    }
    if let Err(error) = tracing_subscriber::EnvFilter::builder().parse(&config.telemetry.filter) {
        let wrong = format!("{:?} is not a filter: {error}", config.telemetry.filter);
        say("telemetry.filter", wrong, "write \"info\" or \"warn,heddle_log=debug\"");
    }
    if let Err(error) = heddle_model::NodeId::new(&config.node.id) {
        say("node.id", error.to_string(), "name the node in a few letters");
    }
    let registry = &config.registry;
    if registry.backend == RegistryBackend::Redis && registry.url.is_empty() {
        say("registry.url", "is empty, and registry.backend is \"redis\"".to_owned(), "write \"redis://HOST:6379\"");
    }
    if registry.backend == RegistryBackend::Embedded && !registry.url.is_empty() {
        let remedy = "write registry.backend = \"redis\", or leave out registry.url";
        say("registry.url", "is set, and registry.backend is \"embedded\"".to_owned(), remedy);
    }
    if registry.prefix.is_empty() || !registry.prefix.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        let wrong = format!("{:?} has other characters than letters, digits and hyphens", registry.prefix);
        say("registry.prefix", wrong, "write \"heddle\"");
    }
    for hook in &config.policies.record {
        if heddle_model::Hook::named(hook).is_none() {
            let remedy = "write rate-limit, routing, fanout or presence";
            say("policies.record", format!("there is no hook {hook:?}"), remedy);
        }
    }
    if config.gateway.proxy_protocol == ProxyProtocol::Trusted && config.gateway.trusted_proxies.is_empty() {
        let wrong = "is \"trusted\", and gateway.trusted_proxies is empty: no header would be read".to_owned();
        say("gateway.proxy_protocol", wrong, "name the proxies, or write \"off\"");
    }
    if config.gateway.listen == config.admin.listen && config.admin.listen.port() != 0 {
        let wrong = format!("{} is gateway.listen too", config.admin.listen);
        say("admin.listen", wrong, "give each an address of its own");
    }
    problems.extend(client_certificate(config).err());
    problems.extend(admin_certificate(config).err());
    backends::check(config, problems);
}

/// A secret that stands in a file of its own: `keys` are its key and that of the file.
fn from_file(secret: &mut String, file: &Path, keys: [&str; 2], say: &mut impl FnMut(&str, String, &str)) {
    if file.as_os_str().is_empty() {
        return;
    }
    match std::fs::read_to_string(file) {
        Ok(_) if !secret.is_empty() => say(keys[1], format!("is set beside {}", keys[0]), "leave out one of them"),
        Ok(text) => *secret = text.trim_end_matches(['\r', '\n']).to_owned(),
        Err(error) => {
            let wrong = format!("{file:?} cannot be read: {error}");
            say(keys[1], wrong, "name a file that this user may read");
        }
    }
}

/// The shortest secret for HS256.
pub const SECRET_BYTES_MIN: usize = 32;

/// What `serve` lacks beyond a well-formed configuration: someone who may enter.
#[must_use]
pub fn check_serve(config: &Config, development_secret: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut say = |wrong: &str, remedy: &str| {
        problems.push(Problem {
            key: "auth.secret".to_owned(),
            origin: "checked".to_owned(),
            wrong: wrong.to_owned(),
            remedy: remedy.to_owned(),
        });
    };
    let auth = &config.auth;
    if auth.secret.is_empty() && auth.keys.is_empty() && auth.jwks_url.is_empty() {
        let wrong = "no client could enter: auth.secret, auth.secret_file, auth.keys and auth.jwks_url are empty";
        say(wrong, "set one of them");
    }
    if config.auth.secret == development_secret && !config.gateway.listen.ip().is_loopback() {
        let remedy = "make one with `openssl rand -base64 48`, or listen on loopback";
        say("is the published development secret, and gateway.listen is not loopback", remedy);
    }
    problems
}

/// A time with its unit, as the configuration writes it.
#[must_use]
pub fn span(text: &str) -> Option<std::time::Duration> {
    <setting::Span as setting::Setting>::from_text(text).ok().map(|span| span.0)
}
