//! What new connections to Redis prove and believe, exchanged while others go on.

use std::sync::Arc;

use arc_swap::ArcSwap;
use fred::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use fred::rustls::client::{ResolvesClientCert, Resumption};
use fred::rustls::crypto::ring;
use fred::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use fred::rustls::sign::CertifiedKey;
use fred::rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme, version};
use fred::types::config::{TlsConfig, TlsConnector};

use super::RedisSettingError;
use super::tls::{Proof, RedisTls};

/// The client keeps the settings of TLS that it was made with; each handshake asks here.
#[derive(Debug)]
pub(super) struct Current(ArcSwap<Proof>);

impl Current {
    /// Reads the files.
    pub(super) fn new(tls: &RedisTls) -> Result<Arc<Self>, RedisSettingError> {
        Ok(Arc::new(Self(ArcSwap::from_pointee(tls.read()?))))
    }

    /// What the next handshake goes by.
    pub(super) fn proof(&self) -> Arc<Proof> {
        self.0.load_full()
    }

    /// From the next handshake on.
    pub(super) fn exchange(&self, proof: Proof) {
        self.0.store(Arc::new(proof));
    }

    /// For the client.
    pub(super) fn config(self: &Arc<Self>) -> Result<TlsConfig, RedisSettingError> {
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .map_err(|error| RedisSettingError { key: "registry.url", wrong: format!("TLS cannot be used: {error}") })?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(self) as Arc<dyn ServerCertVerifier>)
            .with_client_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesClientCert>);
        // A session that is resumed shows no certificate: it would go on with what is no longer believed.
        config.resumption = Resumption::disabled();
        Ok(TlsConfig::from(TlsConnector::from(config)))
    }
}

impl ServerCertVerifier for Current {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.0.load().verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.load().verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.load().verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.load().verifier.supported_verify_schemes()
    }
}

impl ResolvesClientCert for Current {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.load().own.clone()
    }

    fn has_certs(&self) -> bool {
        self.0.load().own.is_some()
    }
}
