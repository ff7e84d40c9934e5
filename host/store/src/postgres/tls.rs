//! TLS to the server: which mode it is, and what it means when both sides do not come to terms.

use std::io::ErrorKind;
use std::path::PathBuf;

use sqlx::postgres::{PgConnectOptions, PgSslMode};

use super::PostgresError;

/// TLS to the server. Each new connection reads these files again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PostgresTls {
    /// File with the authorities that are believed beside those of the system, in PEM form.
    pub ca: Option<PathBuf>,
    /// Files with our certificate and its key, in PEM form.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl PostgresTls {
    /// With these files, and with a mode that does not go on without TLS where they are given.
    pub(super) fn applied(
        &self,
        options: PgConnectOptions,
        server: &str,
        url_key: &str,
    ) -> Result<PgConnectOptions, PostgresError> {
        let mut options = options;
        if let Some(ca) = &self.ca {
            options = options.ssl_root_cert(ca);
        }
        if let Some((certificate, key)) = &self.identity {
            options = options.ssl_client_cert(certificate).ssl_client_key(key);
        }
        let given = self.ca.is_some() || self.identity.is_some();
        match options.get_ssl_mode() {
            // What a URL without a mode has.
            PgSslMode::Prefer if given => Ok(options.ssl_mode(PgSslMode::VerifyFull)),
            // As in libpq: with an authority, `require` believes nobody else.
            PgSslMode::Require if self.ca.is_some() => Ok(options.ssl_mode(PgSslMode::VerifyCa)),
            PgSslMode::Require => {
                tracing::warn!(
                    server,
                    "{url_key} has sslmode=require: whoever answers is believed; verify-full is safer"
                );
                Ok(options)
            }
            PgSslMode::Disable | PgSslMode::Allow if given => Err(PostgresError::Tls {
                server: server.to_owned(),
                key: url_key.to_owned(),
                reason: "its sslmode does not encrypt, and store.tls_ca or store.tls_certificate is set".to_owned(),
                remedy: "write sslmode=verify-full, or leave those keys out".to_owned(),
            }),
            _ => Ok(options),
        }
    }

    /// What this error says of TLS, if it is of TLS.
    pub(super) fn refused(&self, server: &str, url_key: &str, error: &sqlx::Error) -> Option<PostgresError> {
        let reason = match error {
            sqlx::Error::Tls(reason) => reason.to_string(),
            sqlx::Error::Io(error) if error.kind() == ErrorKind::InvalidData => error.to_string(),
            _ => return None,
        };
        let (key, remedy) = if reason.contains("does not support TLS") {
            (url_key, "set ssl = on at the server; or sslmode=disable, where nobody can listen between".to_owned())
        } else if reason.contains("received fatal alert") {
            (
                "store.tls_certificate",
                match &self.identity {
                    Some((certificate, _)) => {
                        format!(
                            "the server does not take {certificate:?}: name a certificate of an authority that it believes"
                        )
                    }
                    None => "the server wants to see a certificate: name one that it believes, and its key".to_owned(),
                },
            )
        } else {
            let believed = match &self.ca {
                Some(path) => format!("the authorities in {path:?} and the system's"),
                None => "the system's authorities".to_owned(),
            };
            ("store.tls_ca", format!("its certificate must be of {believed}, of today, and for the host in {url_key}"))
        };
        Some(PostgresError::Tls { server: server.to_owned(), key: key.to_owned(), reason, remedy })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(tls: &PostgresTls, url: &str) -> Result<String, String> {
        let options = url.parse().unwrap();
        let applied = tls.applied(options, "db:5432", "store.url").map_err(|error| error.to_string())?;
        Ok(format!("{:?}", applied.get_ssl_mode()))
    }

    #[test]
    fn with_an_authority_no_mode_believes_anybody_else_or_goes_on_without_tls() {
        let tls = PostgresTls { ca: Some("ca.pem".into()), identity: None };
        for (url, wanted) in [
            ("postgres://db/x", "VerifyFull"),
            ("postgres://db/x?sslmode=prefer", "VerifyFull"),
            ("postgres://db/x?sslmode=require", "VerifyCa"),
            ("postgres://db/x?sslmode=verify-ca", "VerifyCa"),
            ("postgres://db/x?sslmode=verify-full", "VerifyFull"),
        ] {
            assert_eq!(mode(&tls, url).unwrap(), wanted, "{url}");
        }
        for mode_ in ["disable", "allow"] {
            let refused = mode(&tls, &format!("postgres://db/x?sslmode={mode_}")).unwrap_err();
            assert!(refused.starts_with("store.url: ") && refused.contains("sslmode=verify-full"), "{refused}");
        }
    }

    #[test]
    fn without_files_the_url_decides() {
        for (url, wanted) in [
            ("postgres://db/x", "Prefer"),
            ("postgres://db/x?sslmode=disable", "Disable"),
            ("postgres://db/x?sslmode=require", "Require"),
            ("postgres://db/x?sslmode=verify-full", "VerifyFull"),
        ] {
            assert_eq!(mode(&PostgresTls::default(), url).unwrap(), wanted, "{url}");
        }
    }
}
