//! How this node and its backends prove themselves to each other: sections `kafka`, `registry` and `store`.

use std::path::{Path, PathBuf};

use heddle_client::{Address, Trust, TrustError};
use heddle_gateway::authorities_until;
use heddle_model::Millis;

use super::choices::{KafkaLogin, StoreBackend};
use super::keys::Config;
use super::problem::Problem;
use super::tls::certificate;

/// Before its end, a certificate is worth a warning for so long.
const EXPIRES_SOON_MS: Millis = 14 * 86_400_000;

/// The files of one section, empty where they are not set.
struct Files<'a> {
    section: &'static str,
    /// Their keys: authority, certificate, private key.
    keys: [&'static str; 3],
    paths: [&'a Path; 3],
    /// Each new connection reads them again, without a reload.
    rereads: bool,
}

impl Files<'_> {
    fn given(&self) -> bool {
        self.paths.iter().any(|path| !path.as_os_str().is_empty())
    }
}

fn files(config: &Config) -> [Files<'_>; 3] {
    let Config { kafka, registry, store, .. } = config;
    [
        Files {
            section: "kafka",
            keys: ["kafka.tls_ca", "kafka.tls_certificate", "kafka.tls_key"],
            paths: [&kafka.tls_ca, &kafka.tls_certificate, &kafka.tls_key],
            rereads: false,
        },
        Files {
            section: "registry",
            keys: ["registry.tls_ca", "registry.tls_certificate", "registry.tls_key"],
            paths: [&registry.tls_ca, &registry.tls_certificate, &registry.tls_key],
            rereads: false,
        },
        Files {
            section: "store",
            keys: ["store.tls_ca", "store.tls_certificate", "store.tls_key"],
            paths: [&store.tls_ca, &store.tls_certificate, &store.tls_key],
            rereads: true,
        },
    ]
}

/// What is wrong with these keys and the files that they name.
pub(super) fn check(config: &Config, problems: &mut Vec<Problem>) {
    for Files { section, keys, paths: [ca, own, key], .. } in files(config) {
        problems.extend(authority(keys[0], ca).err());
        problems.extend(certificate(section, own, key).err());
    }
    let mut say = |key: &str, wrong: &str, remedy: &str| problems.push(problem(key, wrong.to_owned(), remedy));
    let [kafka_files, registry_files, store_files] = files(config);
    let kafka = &config.kafka;
    if kafka_files.given() && !kafka.tls {
        say(
            "kafka.tls",
            "is false, and files for TLS are set",
            "set it to true, or leave out the other kafka.tls_ keys",
        );
    }
    match kafka.sasl {
        KafkaLogin::None if !kafka.user.is_empty() || !kafka.password.is_empty() => {
            say(
                "kafka.sasl",
                "is \"none\", and a user or a password is set",
                "write \"scram-sha-512\", or leave them out",
            );
        }
        KafkaLogin::None => {}
        KafkaLogin::Plain if !kafka.tls => {
            let wrong = "is \"plain\", and kafka.tls is false: whoever listens would have the password";
            say("kafka.sasl", wrong, "set kafka.tls to true, or write \"scram-sha-512\"");
        }
        _ => {
            if kafka.user.is_empty() {
                say("kafka.user", "is empty, and kafka.sasl is set", "name this node's user at the brokers");
            }
            if kafka.password.is_empty() {
                say(
                    "kafka.password",
                    "is empty, and kafka.sasl is set",
                    "set it, or name a file in kafka.password_file",
                );
            }
        }
    }
    // The URL itself holds a password.
    let encrypted = ["rediss", "valkeys"].iter().any(|scheme| config.registry.url.starts_with(scheme));
    if registry_files.given() && !encrypted {
        let wrong = "does not begin with rediss://, and files for TLS are set";
        say("registry.url", wrong, "write rediss://, or leave out the registry.tls_ keys");
    }
    if store_files.given() && config.store.backend == StoreBackend::Sqlite {
        let wrong = "is \"sqlite\", and files for TLS are set";
        say("store.backend", wrong, "write \"postgres\", or leave out the store.tls_ keys");
    }
}

fn problem(key: &str, wrong: String, remedy: &str) -> Problem {
    Problem { key: key.to_owned(), origin: "checked".to_owned(), wrong, remedy: remedy.to_owned() }
}

fn authority(key: &str, path: &Path) -> Result<(), Problem> {
    if path.as_os_str().is_empty() {
        return Ok(());
    }
    let wrong = match Address::tls("", &Trust::File(path.to_owned())) {
        Ok(_) => return Ok(()),
        Err(TrustError::File { path, wrong }) => format!("{path:?} {wrong}"),
        Err(error) => error.to_string(),
    };
    Err(problem(key, wrong, "name a file with the certificates of authorities in PEM form"))
}

/// Those of the files that have an end, and when it is: the authority that lasts longest, and our certificate.
fn ends<'a>(files: &Files<'a>) -> Vec<(&'static str, &'a Path, Millis)> {
    let [ca, own, key] = files.paths;
    let authorities = authorities_until(ca).ok();
    let certificate = certificate(files.section, own, key).ok().flatten();
    let ends = [
        authorities.map(|until| (files.keys[0], ca, until)),
        certificate.map(|certificate| (files.keys[1], own, certificate.until())),
    ];
    ends.into_iter().flatten().collect()
}

/// What will soon be believed no longer: certificates of this node, and authorities of backends.
#[must_use]
pub fn backend_warnings(config: &Config, now: Millis) -> Vec<String> {
    let ending = |files: &Files<'_>| {
        let then = if files.rereads { "" } else { ", then `heddle config reload`" };
        let each = |(key, path, until): (&str, &Path, Millis)| {
            let how = match until.saturating_sub(now) {
                0 => "has expired".to_owned(),
                left @ 1..=EXPIRES_SOON_MS => format!("expires in {} days", left / 86_400_000),
                _ => return None,
            };
            Some(format!("{key}: {path:?} {how}: renew it{then}"))
        };
        ends(files).into_iter().filter_map(each).collect::<Vec<_>>()
    };
    files(config).iter().flat_map(ending).collect()
}

/// Which of the files that these keys name nobody believes any longer.
#[must_use]
pub fn backend_expired(config: &Config, keys: &[&str], now: Millis) -> Vec<Problem> {
    let all = files(config);
    let ended = all.iter().flat_map(ends).filter(|(key, _, until)| keys.contains(key) && *until <= now);
    let told = |(key, path, _): (&str, &Path, Millis)| {
        problem(key, format!("{path:?} has expired"), "name a file with one that is of today")
    };
    ended.map(told).collect()
}

/// A file of a backend, as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendFile {
    /// The section of the backend.
    pub section: &'static str,
    /// The key that names it.
    pub key: &'static str,
    /// Where it is.
    pub path: PathBuf,
    bytes: Option<Vec<u8>>,
}

/// All files that backends' clients read, as they are now.
#[must_use]
pub fn backend_files(config: &Config) -> Vec<BackendFile> {
    let each = |files: Files<'_>| {
        let read = |(key, path): (&'static str, &Path)| BackendFile {
            section: files.section,
            key,
            path: path.to_owned(),
            bytes: std::fs::read(path).ok(),
        };
        files.keys.into_iter().zip(files.paths).map(read).collect::<Vec<_>>()
    };
    files(config).into_iter().flat_map(each).collect()
}
