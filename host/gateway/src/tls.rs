//! TLS: what a listener proves itself with, and the handshake before HTTP.

use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use heddle_model::Millis;
use heddle_protocol::{ErrorCode, PROBLEM_CONTENT_TYPE, Problem};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use x509_cert::der::Decode as _;

use crate::stream::Stream;

/// A longer file holds something else.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// The first byte of every TLS connection: a record of type handshake (RFC 8446, section 5.1).
const HANDSHAKE_RECORD: u8 = 22;
/// Bytes of a plain request that are read and forgotten, so that its answer is not lost to a reset.
const PLAIN_BYTES_MAX: usize = 16 << 10;
/// Less than this before its end, a certificate is worth a warning.
const EXPIRES_SOON_MS: u64 = 14 * 86_400_000;

/// A certificate with its chain and its key, ready to serve TLS 1.2 and 1.3.
#[derive(Clone)]
pub struct Certificate {
    path: PathBuf,
    config: Arc<ServerConfig>,
    leaf: CertificateDer<'static>,
    until: Millis,
}

/// Why a certificate cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The file is not there, or not ours to read.
    #[error("{path:?} cannot be read: {source}")]
    Read {
        /// As configured.
        path: PathBuf,
        /// Is it the key's file?
        key: bool,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file holds something else.
    #[error("{path:?} {wrong}")]
    Content {
        /// As configured.
        path: PathBuf,
        /// Is it the key's file?
        key: bool,
        /// What is wrong with it.
        wrong: String,
    },
    /// Each may be good, but not together.
    #[error("{key:?} is not the key of the first certificate in {certificate:?}")]
    Strangers {
        /// As configured.
        certificate: PathBuf,
        /// As configured.
        key: PathBuf,
    },
}

impl CertificateError {
    /// Is it the key that must be mended, and not the certificate?
    #[must_use]
    pub fn of_key(&self) -> bool {
        match self {
            Self::Read { key, .. } | Self::Content { key, .. } => *key,
            Self::Strangers { .. } => true,
        }
    }

    /// What to do.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Read { .. } => "name a file that this user may read",
            Self::Content { key: false, .. } => {
                "name a file in PEM form: the server's certificate first, then those that lead to its authority"
            }
            Self::Content { key: true, .. } => "name a file with one private key in PEM form, without a passphrase",
            Self::Strangers { .. } => "name the key that the certificate was asked for with",
        }
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("path", &self.path).field("until", &self.until).finish_non_exhaustive()
    }
}

impl Certificate {
    /// Reads both files, and sees that they belong together.
    ///
    /// # Errors
    /// Which file is wrong, and how.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, CertificateError> {
        let wrong =
            |path: &Path, of_key, wrong| CertificateError::Content { path: path.to_owned(), key: of_key, wrong };
        let text = read(certificate, false)?;
        let chain = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| wrong(certificate, false, format!("is not PEM: {error}")))?;
        let Some(leaf) = chain.first().cloned() else {
            return Err(wrong(certificate, false, "holds no certificate".to_owned()));
        };
        let until = not_after(&leaf).map_err(|error| wrong(certificate, false, error))?;
        let text = read(key, true)?;
        let private = PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
            let encrypted = text.windows(b"ENCRYPTED".len()).any(|word| word == b"ENCRYPTED");
            let what = match error {
                _ if encrypted => "holds a key with a passphrase".to_owned(),
                pem::Error::NoItemsFound => "holds no private key".to_owned(),
                error => format!("is not PEM: {error}"),
            };
            wrong(key, true, what)
        })?;
        let config = server_config(chain, private).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                CertificateError::Strangers { certificate: certificate.to_owned(), key: key.to_owned() }
            }
            rustls::Error::InvalidCertificate(_) => wrong(certificate, false, format!("cannot be used: {error}")),
            error => wrong(key, true, format!("cannot be used: {error}")),
        })?;
        Ok(Self { path: certificate.to_owned(), config: Arc::new(config), leaf, until })
    }

    /// The server's own certificate, in DER.
    #[must_use]
    pub fn leaf(&self) -> &[u8] {
        &self.leaf
    }

    /// Its last moment, milliseconds since 1970.
    #[must_use]
    pub fn until(&self) -> Millis {
        self.until
    }

    /// A warning, if it ends within 14 days or has ended.
    #[must_use]
    pub fn ends_soon(&self, now: Millis) -> Option<String> {
        ending(self.until.saturating_sub(now)).map(|how| format!("{:?} {how}", self.path))
    }
}

/// The end of the authority in a PEM file that is believed longest, milliseconds since 1970.
///
/// # Errors
/// What is wrong with the file.
pub fn authorities_until(path: &Path) -> Result<Millis, CertificateError> {
    let wrong = |wrong: String| CertificateError::Content { path: path.to_owned(), key: false, wrong };
    let text = read(path, false)?;
    let mut last = None;
    for authority in CertificateDer::pem_slice_iter(&text) {
        let authority = authority.map_err(|error| wrong(format!("is not PEM: {error}")))?;
        last = last.max(Some(not_after(&authority).map_err(wrong)?));
    }
    last.ok_or_else(|| wrong("holds no certificate".to_owned()))
}

fn ending(left_ms: u64) -> Option<String> {
    match left_ms {
        0 => Some("has expired, and clients refuse it: renew it, then `heddle config reload`".to_owned()),
        1..=EXPIRES_SOON_MS => {
            let days = left_ms / 86_400_000;
            Some(format!("expires in {days} days: renew it, then `heddle config reload`"))
        }
        _ => None,
    }
}

fn read(path: &Path, key: bool) -> Result<Vec<u8>, CertificateError> {
    let failed = |source| CertificateError::Read { path: path.to_owned(), key, source };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

fn not_after(leaf: &CertificateDer<'_>) -> Result<Millis, String> {
    let parsed =
        x509_cert::Certificate::from_der(leaf).map_err(|error| format!("holds no X.509 certificate: {error}"))?;
    let until = parsed.tbs_certificate.validity.not_after.to_unix_duration();
    Ok(u64::try_from(until.as_millis()).unwrap_or(u64::MAX))
}

fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Resuming costs no memory here, and a herd that comes back after a drain costs less of the CPU.
    config.ticketer = ring::Ticketer::new()?;
    Ok(config)
}

/// How a handshake ended without a connection; the word is a label of the metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoTls {
    /// The client spoke HTTP without TLS, and was told.
    Plain,
    /// Neither TLS nor HTTP, or no version and cipher in common, or the client does not trust us.
    Failed,
    /// Not finished by the deadline.
    Late,
}

impl NoTls {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Failed => "failed",
            Self::Late => "late",
        }
    }
}

/// From the first byte to a connection that speaks HTTP, within `left`. At most as many at once as `turns` has; others wait for theirs.
pub(crate) async fn handshake(
    certificate: &Certificate,
    tcp: TcpStream,
    turns: &Semaphore,
    left: Duration,
) -> Result<Stream, NoTls> {
    let config = Arc::clone(&certificate.config);
    let shaken = async move {
        let mut first = [0];
        // Who says nothing takes no turn.
        match tcp.peek(&mut first).await {
            Ok(1..) if first[0] == HANDSHAKE_RECORD => {}
            Ok(1..) if first[0].is_ascii_uppercase() => {
                refuse_plain(tcp).await;
                return Err(NoTls::Plain);
            }
            _ => return Err(NoTls::Failed),
        }
        let Ok(_turn) = turns.acquire().await else { return Err(NoTls::Failed) };
        match TlsAcceptor::from(config).accept(tcp).await {
            Ok(stream) => Ok(Stream::Tls(Box::new(stream))),
            Err(error) => {
                tracing::debug!(%error, "a TLS handshake failed");
                Err(NoTls::Failed)
            }
        }
    };
    tokio::time::timeout(left, shaken).await.unwrap_or(Err(NoTls::Late))
}

/// Tells a client without TLS what it met, in HTTP.
async fn refuse_plain(mut tcp: TcpStream) {
    let problem = Problem::new(ErrorCode::Invalid, "this port speaks TLS: use https:// and wss://");
    let body = problem.to_text();
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: {PROBLEM_CONTENT_TYPE}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    if tcp.write_all(answer.as_bytes()).await.is_err() || tcp.shutdown().await.is_err() {
        return;
    }
    let (mut scrap, mut read) = ([0; 1024], 0);
    while let Ok(bytes @ 1..) = tcp.read(&mut scrap).await {
        read += bytes;
        if read > PLAIN_BYTES_MAX {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_worth_a_word_two_weeks_before_its_end_and_after_it() {
        let day_ms = 86_400_000;
        assert_eq!(ending(14 * day_ms + 1), None);
        assert!(ending(14 * day_ms).unwrap().starts_with("expires in 14 days"));
        assert!(ending(1).unwrap().starts_with("expires in 0 days"));
        assert!(ending(0).unwrap().starts_with("has expired"));
    }
}
