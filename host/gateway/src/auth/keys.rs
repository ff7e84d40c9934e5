//! Keys that verify tokens: read and checked once, so that what a token is compared with can be used.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use x509_cert::der::Decode as _;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::spki::SubjectPublicKeyInfoRef;

/// The shortest secret for HS256 (RFC 7518, 3.2).
const SECRET_BYTES_MIN: usize = 32;
/// Keys in one set.
const KEYS_MAX: usize = 100;
/// Of Ed25519 (RFC 8410), of keys on elliptic curves (RFC 5480), and of the curve P-256.
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");

/// One key, for one algorithm.
#[derive(Clone)]
pub(super) struct Key {
    pub(super) algorithm: Algorithm,
    pub(super) id: Option<String>,
    pub(super) key: DecodingKey,
}

/// Keys that verify tokens, checked: a secret, a public key, or a set of keys.
#[derive(Clone)]
pub struct AuthKey {
    pub(super) keys: Vec<Key>,
}

impl std::fmt::Debug for AuthKey {
    /// Without the keys: one may be a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| key.algorithm)).finish()
    }
}

impl AuthKey {
    /// HS256, with this secret.
    ///
    /// # Errors
    /// It is too short.
    pub fn secret(secret: &[u8]) -> Result<Self, String> {
        Ok(Self { keys: vec![symmetric(secret, None)?] })
    }

    /// What a file holds: a public key in PEM form (Ed25519 or P-256), or a JWKS (RFC 7517) of which those keys are taken that serve HS256, EdDSA or
    /// ES256; others are left out.
    ///
    /// # Errors
    /// It is neither, or a key in it is broken, or none serves.
    pub fn read(text: &str) -> Result<Self, String> {
        if text.trim_start().starts_with('{') {
            let set = Set::read(text)?;
            if let Some(broken) = set.broken.into_iter().next() {
                return Err(broken);
            }
            return if set.keys.is_empty() { Err(nothing(&set.left_out)) } else { Ok(Self { keys: set.keys }) };
        }
        let der = SubjectPublicKeyInfoDer::from_pem_slice(text.as_bytes())
            .map_err(|error| format!("it is neither a public key in PEM form nor a JWKS ({error})"))?;
        Ok(Self { keys: vec![public(&der)?] })
    }
}

/// What a JWKS holds.
pub(super) struct Set {
    pub(super) keys: Vec<Key>,
    /// Keys that are for something else, and why.
    pub(super) left_out: Vec<String>,
    /// Keys that claim to serve, and cannot.
    pub(super) broken: Vec<String>,
}

impl Set {
    /// Reads a set, as an operator wrote it.
    pub(super) fn read(json: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Raw {
            keys: Vec<serde_json::Value>,
        }
        let raw: Raw = serde_json::from_str(json).map_err(|error| format!("it is not a JWKS: {error}"))?;
        if raw.keys.len() > KEYS_MAX {
            return Err(format!("it has {} keys, at most {KEYS_MAX} are read", raw.keys.len()));
        }
        let mut set = Self { keys: Vec::new(), left_out: Vec::new(), broken: Vec::new() };
        for (nth, raw) in raw.keys.into_iter().enumerate() {
            let jwk: Jwk = match serde_json::from_value(raw) {
                Ok(jwk) => jwk,
                Err(error) => {
                    set.broken.push(format!("key {} is not a JWK: {error}", nth + 1));
                    continue;
                }
            };
            let name = jwk.kid.as_deref().map_or_else(|| format!("key {}", nth + 1), |kid| format!("key {kid:?}"));
            match jwk.serves() {
                Err(why) => set.left_out.push(format!("{name} {why}")),
                Ok(()) => match jwk.key() {
                    Ok(key) => set.keys.push(key),
                    Err(why) => set.broken.push(format!("{name} {why}")),
                },
            }
        }
        Ok(set)
    }

    /// Reads a set that stands where everybody may read it: a secret in it is none.
    pub(super) fn public(json: &str) -> Result<Self, String> {
        let mut set = Self::read(json)?;
        let all = set.keys.len();
        set.keys.retain(|key| key.algorithm != Algorithm::HS256);
        if set.keys.len() < all {
            set.left_out.push("a secret that everybody can read".to_owned());
        }
        if set.keys.is_empty() {
            return Err(nothing(set.broken.first().map_or(set.left_out.as_slice(), std::slice::from_ref)));
        }
        Ok(set)
    }
}

fn nothing(why: &[String]) -> String {
    let why = why.first().map(|why| format!(": {why}")).unwrap_or_default();
    format!("no key in it serves HS256, EdDSA or ES256{why}")
}

/// A key of a JWKS; members that are not known are ignored, as RFC 7517 has it.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    used: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    k: Option<String>,
}

impl Jwk {
    /// Is it one of ours? Else for what it is.
    fn serves(&self) -> Result<(), String> {
        let (kty, crv) = (self.kty.as_str(), self.crv.as_deref());
        let algorithms: &[&str] = match (kty, crv) {
            ("oct", _) => &["HS256"],
            // RFC 8037, and the later name of the same.
            ("OKP", Some("Ed25519")) => &["EdDSA", "Ed25519"],
            ("EC", Some("P-256")) => &["ES256"],
            ("OKP" | "EC", Some(other)) => return Err(format!("is on the curve {other:?}")),
            _ => return Err(format!("is of the kind {kty:?}")),
        };
        if let Some(used) = self.used.as_deref().filter(|used| *used != "sig") {
            return Err(format!("is for {used:?}, not for signatures"));
        }
        if let Some(operations) = self.key_ops.as_ref().filter(|all| !all.iter().any(|one| one == "verify")) {
            return Err(format!("is for {operations:?}, not to verify"));
        }
        match self.alg.as_deref().filter(|alg| !algorithms.contains(alg)) {
            Some(other) => Err(format!("is for the algorithm {other:?}")),
            None => Ok(()),
        }
    }

    fn key(&self) -> Result<Key, String> {
        let part = |name: &str, value: &Option<String>| {
            let text = value.as_deref().ok_or_else(|| format!("has no {name:?}"))?;
            // Some write the padding that RFC 7515 leaves out.
            let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('='));
            bytes.map_err(|error| format!("has a {name:?} that is not base64url ({error})"))
        };
        match self.kty.as_str() {
            "oct" => symmetric(&part("k", &self.k)?, self.kid.clone()).map_err(|why| format!("cannot be used: {why}")),
            "OKP" => ed25519(&part("x", &self.x)?, self.kid.clone()),
            _ => {
                let (x, y) = (part("x", &self.x)?, part("y", &self.y)?);
                if x.len() != 32 || y.len() != 32 {
                    return Err(format!("has an x of {} and a y of {} bytes, P-256 has 32 of each", x.len(), y.len()));
                }
                p256(&[&[4], x.as_slice(), y.as_slice()].concat(), self.kid.clone())
            }
        }
    }
}

fn symmetric(secret: &[u8], id: Option<String>) -> Result<Key, String> {
    if secret.len() < SECRET_BYTES_MIN {
        return Err(format!("it has {} bytes, HS256 wants at least {SECRET_BYTES_MIN}", secret.len()));
    }
    Ok(Key { algorithm: Algorithm::HS256, id, key: DecodingKey::from_secret(secret) })
}

fn ed25519(bytes: &[u8], id: Option<String>) -> Result<Key, String> {
    let whole = <&[u8; 32]>::try_from(bytes);
    let whole = whole.map_err(|_| format!("has {} bytes, an Ed25519 key has 32", bytes.len()))?;
    ed25519_dalek::VerifyingKey::from_bytes(whole).map_err(|_| "is no point of Ed25519".to_owned())?;
    Ok(Key { algorithm: Algorithm::EdDSA, id, key: DecodingKey::from_ed_der(bytes) })
}

fn p256(point: &[u8], id: Option<String>) -> Result<Key, String> {
    p256::PublicKey::from_sec1_bytes(point).map_err(|_| "is no point of P-256".to_owned())?;
    Ok(Key { algorithm: Algorithm::ES256, id, key: DecodingKey::from_ec_der(point) })
}

/// A public key as PEM files have it: algorithm, curve, point.
fn public(der: &[u8]) -> Result<Key, String> {
    let broken = |error: x509_cert::der::Error| format!("the public key in it is broken ({error})");
    let info = SubjectPublicKeyInfoRef::from_der(der).map_err(broken)?;
    let bytes = info.subject_public_key.as_bytes().ok_or("the public key in it is broken")?;
    let of_file = |why: String| format!("the public key in it {why}");
    match info.algorithm.oid {
        ED25519 => ed25519(bytes, None).map_err(of_file),
        EC_PUBLIC_KEY => match info.algorithm.parameters_oid().map_err(|_| "the public key in it names no curve")? {
            P256 => p256(bytes, None).map_err(of_file),
            other => Err(format!("the public key in it is on the curve {other}, ES256 wants P-256")),
        },
        other => Err(format!("the public key in it is of the kind {other}, EdDSA wants Ed25519 and ES256 wants P-256")),
    }
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
