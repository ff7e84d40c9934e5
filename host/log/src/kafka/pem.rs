//! The files of TLS to brokers, as they were read: librdkafka is given what was in them, so that every client has the same until others are asked for.

use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// A longer file holds something else.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// TLS to brokers. Their certificates and names are always checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KafkaTls {
    /// The authorities that are believed; without them, those of the system.
    pub(super) ca: Option<Pem>,
    /// Our certificate and its key.
    pub(super) identity: Option<(Pem, Pem)>,
}

/// A file that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{key}: {path:?} cannot be read: {source}")]
pub struct KafkaFileError {
    key: &'static str,
    path: PathBuf,
    source: std::io::Error,
}

impl KafkaTls {
    /// Reads files in PEM form: the authorities that are believed, without them those of the system; our certificate and its key.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn read(ca: Option<PathBuf>, identity: Option<(PathBuf, PathBuf)>) -> Result<Self, KafkaFileError> {
        let ca = ca.map(|path| Pem::read("kafka.tls_ca", path)).transpose()?;
        let identity = identity.map(|(certificate, key)| {
            Ok((Pem::read("kafka.tls_certificate", certificate)?, Pem::read("kafka.tls_key", key)?))
        });
        Ok(Self { ca, identity: identity.transpose()? })
    }
}

/// One file.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Pem {
    path: PathBuf,
    text: String,
}

impl fmt::Debug for Pem {
    /// Without what may be a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.fmt(f)
    }
}

impl Pem {
    fn read(key: &'static str, path: PathBuf) -> Result<Self, KafkaFileError> {
        let mut bytes = Vec::new();
        let read = std::fs::File::open(&path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes));
        match read {
            // What is not ASCII are words between the certificates.
            Ok(_) => Ok(Self { path, text: String::from_utf8_lossy(&bytes).into_owned() }),
            Err(source) => Err(KafkaFileError { key, path, source }),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }
}
