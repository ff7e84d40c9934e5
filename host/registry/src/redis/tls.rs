//! TLS to Redis, and what it means when a connection does not come about.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fred::error::{Error, ErrorKind};
use fred::rustls::RootCertStore;
use fred::rustls::client::WebPkiServerVerifier;
use fred::rustls::crypto::{CryptoProvider, ring};
use fred::rustls::pki_types::pem::PemObject as _;
use fred::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use fred::rustls::sign::CertifiedKey;

use super::RedisSettingError;

/// TLS to Redis, where the URL begins with `rediss://`. Certificates and names are always checked; the files are read at start and when these are
/// exchanged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RedisTls {
    /// File with the authorities that are believed, in PEM form; without it, those of the system.
    pub ca: Option<PathBuf>,
    /// Files with our certificate and its key, in PEM form.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Why a connection did not come about: a word for each kind of reason, and the line for the log.
pub(super) struct Reason {
    pub(super) kind: &'static str,
    pub(super) line: String,
}

/// What was in the files.
#[derive(Debug)]
pub(super) struct Proof {
    /// Where it is from.
    pub(super) tls: RedisTls,
    /// Judges the server.
    pub(super) verifier: Arc<WebPkiServerVerifier>,
    /// What we show, if anything.
    pub(super) own: Option<Arc<CertifiedKey>>,
}

impl RedisTls {
    /// Reads the files.
    pub(super) fn read(&self) -> Result<Proof, RedisSettingError> {
        let provider = Arc::new(ring::default_provider());
        let roots = Arc::new(self.authorities()?);
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
            .build()
            .map_err(|error| wrong("registry.tls_ca", format!("it cannot be used: {error}")))?;
        Ok(Proof { tls: self.clone(), verifier, own: self.own(&provider)?.map(Arc::new) })
    }

    fn own(&self, provider: &CryptoProvider) -> Result<Option<CertifiedKey>, RedisSettingError> {
        let Some((certificate, key)) = &self.identity else { return Ok(None) };
        let chain = certificates("registry.tls_certificate", certificate)?;
        let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable("registry.tls_key", key, error))?;
        CertifiedKey::from_der(chain, private, provider)
            .map(Some)
            .map_err(|error| unreadable("registry.tls_certificate", certificate, error))
    }

    fn authorities(&self) -> Result<RootCertStore, RedisSettingError> {
        let mut roots = RootCertStore::empty();
        let found = match &self.ca {
            Some(path) => certificates("registry.tls_ca", path)?,
            None => fred::rustls_native_certs::load_native_certs().certs,
        };
        let (added, _) = roots.add_parsable_certificates(found);
        match (added, &self.ca) {
            (1.., _) => Ok(roots),
            (_, Some(path)) => Err(wrong("registry.tls_ca", format!("{path:?} holds no certificate"))),
            (_, None) => {
                let what = "is empty, and this system trusts nobody: name a file, or install ca-certificates";
                Err(wrong("registry.tls_ca", what.to_owned()))
            }
        }
    }

    /// What an error of the client says of connecting, with what mends it where waiting does not. `None` if it is of something else.
    pub(super) fn explained(&self, error: &Error) -> Option<Reason> {
        // The client shows errors as they are built.
        let reason = error.details().trim_start_matches("Custom { kind: InvalidData, error: ").trim_end_matches(" }");
        let (kind, line) = match error.kind() {
            ErrorKind::Auth => (
                "login",
                format!(
                    "registry.url: Redis refuses us: {reason}; correct user and password in it, or make that user there"
                ),
            ),
            ErrorKind::IO | ErrorKind::Tls if reason.contains("InvalidCertificate(") => {
                let believed = match &self.ca {
                    Some(path) => format!("the authorities in {path:?}"),
                    None => "the system's authorities".to_owned(),
                };
                let must = format!("it must be of {believed}, of today, and for the host in registry.url");
                ("certificate", format!("registry.tls_ca: the certificate of Redis is not believed: {reason}; {must}"))
            }
            ErrorKind::IO | ErrorKind::Tls if reason.contains("AlertReceived(") => {
                let mend = match &self.identity {
                    Some((path, _)) => format!("{path:?} is not believed there: name another"),
                    None => "Redis wants to see one: name it and its key".to_owned(),
                };
                ("identity", format!("registry.tls_certificate: Redis ended TLS: {reason}; {mend}"))
            }
            ErrorKind::IO | ErrorKind::Tls if reason.contains("InvalidMessage(") => (
                "plain",
                format!("registry.url: Redis does not speak TLS at this port: {reason}; name the port that does"),
            ),
            ErrorKind::IO | ErrorKind::Tls | ErrorKind::Timeout => {
                ("away", format!("no connection to Redis: {error}; this node tries again"))
            }
            ErrorKind::Sentinel => (
                "sentinel",
                format!(
                    "registry.url: no Sentinel leads to a primary: {reason}; this node tries again; name several Sentinels, and \
                     sentinelUsername and sentinelPassword if they ask for them"
                ),
            ),
            _ => return None,
        };
        Some(Reason { kind, line })
    }
}

fn wrong(key: &'static str, wrong: String) -> RedisSettingError {
    RedisSettingError { key, wrong }
}

fn unreadable(key: &'static str, path: &Path, error: impl std::fmt::Display) -> RedisSettingError {
    wrong(key, format!("{path:?} cannot be used: {error}"))
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, RedisSettingError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    read.map_err(|error| unreadable(key, path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentinels_that_lead_nowhere_are_told_of() {
        let error = Error::new(ErrorKind::Sentinel, "Failed to connect to all sentinel nodes.");
        let line = RedisTls::default().explained(&error).map(|reason| reason.line).unwrap_or_default();
        assert!(
            line.starts_with("registry.url: ")
                && line.contains("all sentinel nodes")
                && line.contains("sentinelPassword"),
            "{line}"
        );
    }
}
