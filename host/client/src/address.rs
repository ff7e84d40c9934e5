//! Where a server is, and how it proves to be the one that was meant.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// A connection, with TLS around it or without.
pub type Wire = Box<dyn Io>;

/// What a [`Wire`] can do.
pub trait Io: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin> Io for T {}

/// `HOST:PORT`, and TLS if it is spoken there.
#[derive(Clone)]
pub struct Address {
    authority: String,
    tls: Option<Arc<ClientConfig>>,
}

/// Whom a client believes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// The authorities that this machine knows.
    System,
    /// Those in a PEM file, and no other.
    File(PathBuf),
    /// Exactly these certificates, in DER, whatever name they are for.
    Certificates(Vec<Vec<u8>>),
}

/// What a look at an address shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sight {
    /// It takes no connection.
    Nobody,
    /// Somebody who does not speak TLS.
    Plain,
    /// Somebody who speaks TLS and is not believed, or does not believe us; why.
    Distrusted(String),
    /// Somebody who is believed.
    Trusted,
}

/// Why nobody can be believed.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file is not there, or holds something else.
    #[error("{path:?} {wrong}: name a file with an authority's certificate in PEM form")]
    File {
        /// As given.
        path: PathBuf,
        /// What is wrong with it.
        wrong: String,
    },
    /// The machine knows no authority.
    #[error("this machine knows no authority{detail}: install the package ca-certificates, or name a file")]
    System {
        /// What the system said.
        detail: String,
    },
    /// TLS itself.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] Error),
}

impl From<&str> for Address {
    fn from(authority: &str) -> Self {
        authority.to_owned().into()
    }
}

impl From<String> for Address {
    fn from(authority: String) -> Self {
        Self { authority, tls: None }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.authority)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Address").field("authority", &self.authority).field("tls", &self.tls.is_some()).finish()
    }
}

impl Address {
    /// With TLS.
    ///
    /// # Errors
    /// Nobody can be believed.
    pub fn tls(authority: impl Into<String>, trust: &Trust) -> Result<Self, TrustError> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?;
        let mut config = match trust {
            Trust::System => builder.with_root_certificates(system()?).with_no_client_auth(),
            Trust::File(path) => builder.with_root_certificates(file(path)?).with_no_client_auth(),
            Trust::Certificates(known) => {
                let verifier = Arc::new(Known { certificates: known.clone(), provider });
                builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { authority: authority.into(), tls: Some(Arc::new(config)) })
    }

    /// `HOST:PORT`.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Connects, and shakes hands if there is TLS. The caller sets the deadline.
    ///
    /// # Errors
    /// The network's; with [`io::ErrorKind::InvalidData`] somebody is there, but speaks no TLS or is not believed.
    pub async fn connect(&self) -> io::Result<Wire> {
        self.shake().await.map_err(explained)
    }

    /// What is there, without saying anything to it. The caller sets the deadline.
    pub async fn look(&self) -> Sight {
        if TcpStream::connect(&self.authority).await.is_err() {
            return Sight::Nobody;
        }
        let Err(error) = self.shake().await else { return Sight::Trusted };
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(Error::InvalidCertificate(why)) => Sight::Distrusted(why.to_string()),
            Some(Error::AlertReceived(why)) => Sight::Distrusted(format!("{why:?}")),
            _ => Sight::Plain,
        }
    }

    async fn shake(&self) -> io::Result<Wire> {
        let tcp = TcpStream::connect(&self.authority).await?;
        tcp.set_nodelay(true)?;
        let Some(config) = &self.tls else { return Ok(Box::new(tcp)) };
        let host = self.authority.rsplit_once(':').map_or(self.authority.as_str(), |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host).map_err(io::Error::other)?;
        let tls = TlsConnector::from(Arc::clone(config)).connect(name, tcp).await?;
        Ok(Box::new(tls))
    }
}

/// What a person can do about an error of TLS.
fn explained(error: io::Error) -> io::Error {
    let what = match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::InvalidCertificate(why)) => {
            format!("its certificate is not trusted ({why}): name its authority with --ca FILE")
        }
        Some(Error::InvalidMessage(_)) => "it does not speak TLS: use ws:// or http://".to_owned(),
        _ => return error,
    };
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn system() -> Result<RootCertStore, TrustError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let detail = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        return Err(TrustError::System { detail });
    }
    Ok(roots)
}

fn file(path: &Path) -> Result<RootCertStore, TrustError> {
    let failed = |wrong: String| TrustError::File { path: path.to_owned(), wrong };
    let certificates =
        CertificateDer::pem_file_iter(path).map_err(|error| failed(format!("cannot be read: {error}")))?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        let certificate = certificate.map_err(|error| failed(format!("is not PEM: {error}")))?;
        roots.add(certificate).map_err(|error| failed(format!("cannot be used: {error}")))?;
    }
    if roots.is_empty() { Err(failed("holds no certificate".to_owned())) } else { Ok(roots) }
}

/// Believes certificates that are known byte for byte.
#[derive(Debug)]
struct Known {
    certificates: Vec<Vec<u8>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Known {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.certificates.iter().any(|known| known.as_slice() == &**end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(CertificateError::UnknownIssuer.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
