//! The certificates that the configuration names.

use std::path::Path;

use heddle_gateway::Certificate;

use super::keys::Config;
use super::problem::Problem;

/// What the listener for clients gets TLS with.
///
/// # Errors
/// What is wrong with the files, or that one of two is missing.
pub fn client_certificate(config: &Config) -> Result<Option<Certificate>, Problem> {
    certificate("gateway", &config.gateway.tls_certificate, &config.gateway.tls_key)
}

/// What the listener for operators gets TLS with.
///
/// # Errors
/// What is wrong with the files, or that one of two is missing.
pub fn admin_certificate(config: &Config) -> Result<Option<Certificate>, Problem> {
    certificate("admin", &config.admin.tls_certificate, &config.admin.tls_key)
}

pub(super) fn certificate(section: &str, certificate: &Path, key: &Path) -> Result<Option<Certificate>, Problem> {
    let problem = |key: &str, wrong: String, remedy: &str| Problem {
        key: format!("{section}.{key}"),
        origin: "checked".to_owned(),
        wrong,
        remedy: remedy.to_owned(),
    };
    let half = |set: &Path, missing: &str| {
        let wrong = format!("is empty, and {set:?} stands beside it");
        Err(problem(missing, wrong, "name both files, the certificate and its key, or neither"))
    };
    match (certificate.as_os_str().is_empty(), key.as_os_str().is_empty()) {
        (true, true) => Ok(None),
        (false, true) => half(certificate, "tls_key"),
        (true, false) => half(key, "tls_certificate"),
        (false, false) => Certificate::read(certificate, key).map(Some).map_err(|error| {
            let key = if error.of_key() { "tls_key" } else { "tls_certificate" };
            problem(key, error.to_string(), error.remedy())
        }),
    }
}
