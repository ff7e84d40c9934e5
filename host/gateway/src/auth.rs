//! Who a token names: JWT by HS256, EdDSA or ES256, with configured keys or a static JWKS.

use std::sync::Arc;

use heddle_model::{Clock, Millis, UserId};
use heddle_protocol::limits::TOKEN_BYTES_MAX;
use heddle_protocol::{SUBPROTOCOL, SUBPROTOCOL_TOKEN_PREFIX};
use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use jsonwebtoken::jwk::{AlgorithmParameters, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use crate::error::GatewayError;
use crate::role::Role;

/// Who is who.
#[derive(Debug, Clone, Default)]
pub struct AuthConfig {
    /// Keys that verify tokens, each with a name for errors.
    pub keys: Vec<(String, AuthKey)>,
    /// If set, a token needs one of these in `aud`; if not, a token with any `aud` is refused.
    pub audience: Vec<String>,
    /// If set, a token needs one of these in `iss`.
    pub issuer: Vec<String>,
    /// By how much clocks may differ.
    pub leeway_ms: Millis,
    /// Whether `hello` may carry the token.
    pub first_frame: bool,
    /// Static tokens that open all of the admin listener, beside tokens with the claim `role` (see [`Role`]).
    pub admin_tokens: Vec<String>,
}

/// As the audit names whoever shows a token of the configuration.
const OPERATOR: &str = "operator";

/// A key that verifies tokens.
#[derive(Clone)]
pub enum AuthKey {
    /// HS256, with this secret.
    Secret(Vec<u8>),
    /// EdDSA, with this public key (PEM).
    Ed25519Pem(String),
    /// ES256, with this public key (PEM).
    Es256Pem(String),
    /// All keys of a JWKS (RFC 7517) that serve one of the three.
    Jwks(String),
}

impl std::fmt::Debug for AuthKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Secret(_) => "Secret",
            Self::Ed25519Pem(_) => "Ed25519Pem",
            Self::Es256Pem(_) => "Es256Pem",
            Self::Jwks(_) => "Jwks",
        })
    }
}

/// Why a token does not open the door. For the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AuthError {
    #[error(
        "there is no token: send it as Authorization: Bearer TOKEN, or as subprotocol {SUBPROTOCOL_TOKEN_PREFIX}TOKEN beside {SUBPROTOCOL}"
    )]
    Missing,
    #[error("the token has {bytes} bytes, and at most {TOKEN_BYTES_MAX} are read")]
    TooLong { bytes: usize },
    #[error("the token is not valid: {0}")]
    Invalid(String),
    #[error("the token expired at {exp} (seconds since 1970): get a new one")]
    Expired { exp: u64 },
    #[error("the token is valid from {nbf} on (seconds since 1970), not yet")]
    NotYet { nbf: u64 },
    #[error("the token's `sub` is not a user: {0}")]
    NotAUser(String),
    #[error(
        "the token is good, but its role is {has}, and {wanted} is needed: `heddle token --role {wanted}` makes one"
    )]
    Role { has: Role, wanted: Role },
}

impl AuthError {
    /// For a label of few values.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::TooLong { .. } => "too_long",
            Self::Invalid(_) => "invalid",
            Self::Expired { .. } => "expired",
            Self::NotYet { .. } => "not_yet",
            Self::NotAUser(_) => "not_a_user",
            Self::Role { .. } => "not_admin",
        }
    }
}

/// Whom a token names, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) user: UserId,
    /// Milliseconds since 1970, leeway included.
    pub(crate) until: Millis,
    pub(crate) role: Role,
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    sub: String,
    exp: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    iat: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nbf: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    role: Option<String>,
}

struct Key {
    algorithm: Algorithm,
    id: Option<String>,
    key: DecodingKey,
}

/// Verifies tokens.
pub(crate) struct Auth {
    keys: Vec<Key>,
    config: AuthConfig,
    clock: Arc<dyn Clock>,
}

impl Auth {
    pub(crate) fn new(config: AuthConfig, clock: Arc<dyn Clock>) -> Result<Self, GatewayError> {
        let mut keys = Vec::new();
        for (name, key) in &config.keys {
            read_key(key, &mut keys).map_err(|reason| GatewayError::Key { name: name.clone(), reason })?;
        }
        if keys.is_empty() {
            return Err(GatewayError::NoKeys);
        }
        Ok(Self { keys, config, clock })
    }

    pub(crate) fn first_frame(&self) -> bool {
        self.config.first_frame
    }

    /// Whom the token names.
    pub(crate) fn verify(&self, token: &str) -> Result<Identity, AuthError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(AuthError::TooLong { bytes: token.len() });
        }
        let invalid = |error: jsonwebtoken::errors::Error| AuthError::Invalid(error.to_string());
        let header = jsonwebtoken::decode_header(token).map_err(invalid)?;
        let fits = |key: &&Key| {
            key.algorithm == header.alg && (key.id.is_none() || header.kid.is_none() || key.id == header.kid)
        };
        let mut last = AuthError::Invalid(format!("no key verifies {:?} here", header.alg));
        for key in self.keys.iter().filter(fits) {
            match jsonwebtoken::decode::<Claims>(token, &key.key, &self.validation(key.algorithm)) {
                Ok(read) => return self.identity(read.claims),
                Err(error) => last = invalid(error),
            }
        }
        Err(last)
    }

    /// Like [`verify`](Self::verify), for the admin listener; who it is, for the audit.
    pub(crate) fn verify_role(&self, headers: &HeaderMap, wanted: Role) -> Result<String, AuthError> {
        let token = bearer(headers).ok_or(AuthError::Missing)?;
        if self.config.admin_tokens.iter().any(|known| same(known.as_bytes(), token.as_bytes())) {
            return Ok(OPERATOR.to_owned());
        }
        let identity = self.verify(token)?;
        let has = identity.role;
        if has >= wanted { Ok(identity.user.to_string()) } else { Err(AuthError::Role { has, wanted }) }
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        // Times are compared with our own clock.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        let mut required = vec!["exp", "sub"];
        if !self.config.audience.is_empty() {
            validation.set_audience(&self.config.audience);
            required.push("aud");
        }
        if !self.config.issuer.is_empty() {
            validation.set_issuer(&self.config.issuer);
            required.push("iss");
        }
        validation.set_required_spec_claims(&required);
        validation
    }

    fn identity(&self, claims: Claims) -> Result<Identity, AuthError> {
        let (now, leeway) = (self.clock.now(), self.config.leeway_ms);
        let until = claims.exp.saturating_mul(1_000).saturating_add(leeway);
        if until <= now {
            return Err(AuthError::Expired { exp: claims.exp });
        }
        if let Some(nbf) = claims.nbf.filter(|nbf| nbf.saturating_mul(1_000) > now.saturating_add(leeway)) {
            return Err(AuthError::NotYet { nbf });
        }
        let user = UserId::new(&claims.sub).map_err(|error| AuthError::NotAUser(error.to_string()))?;
        Ok(Identity { user, until, role: Role::claimed(claims.role.as_deref()) })
    }
}

fn read_key(key: &AuthKey, keys: &mut Vec<Key>) -> Result<(), String> {
    let mut add = |algorithm, id, key: Result<DecodingKey, jsonwebtoken::errors::Error>| {
        keys.push(Key { algorithm, id, key: key.map_err(|error| error.to_string())? });
        Ok(())
    };
    match key {
        AuthKey::Secret(secret) if secret.len() < 32 => {
            Err(format!("it has {} bytes, HS256 wants at least 32", secret.len()))
        }
        AuthKey::Secret(secret) => add(Algorithm::HS256, None, Ok(DecodingKey::from_secret(secret))),
        AuthKey::Ed25519Pem(pem) => add(Algorithm::EdDSA, None, DecodingKey::from_ed_pem(pem.as_bytes())),
        AuthKey::Es256Pem(pem) => add(Algorithm::ES256, None, DecodingKey::from_ec_pem(pem.as_bytes())),
        AuthKey::Jwks(json) => {
            let set: JwkSet = serde_json::from_str(json).map_err(|error| error.to_string())?;
            for jwk in &set.keys {
                let algorithm = match &jwk.algorithm {
                    AlgorithmParameters::OctetKey(_) => Algorithm::HS256,
                    AlgorithmParameters::OctetKeyPair(_) => Algorithm::EdDSA,
                    AlgorithmParameters::EllipticCurve(_) => Algorithm::ES256,
                    _ => continue,
                };
                add(algorithm, jwk.common.key_id.clone(), DecodingKey::from_jwk(jwk))?;
            }
            Ok(())
        }
    }
}

/// Equal, in a time that does not tell where they differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

/// The token of `Authorization: Bearer`.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The token of a request for an upgrade, and whether `heddle.v1` is to be echoed.
pub(crate) fn upgrade_token(headers: &HeaderMap) -> (Option<&str>, bool) {
    let lines = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|line| line.to_str().ok());
    let (mut token, mut echo) = (bearer(headers), false);
    for protocol in lines.flat_map(|line| line.split(',')).map(str::trim) {
        echo |= protocol == SUBPROTOCOL;
        token = token.or_else(|| protocol.strip_prefix(SUBPROTOCOL_TOKEN_PREFIX));
    }
    (token, echo)
}

/// A token by HS256, as `heddle token` and `/try/tokens` give.
///
/// # Errors
/// What the signer said.
pub fn mint(secret: &str, user: &str, role: Role, now: Millis, life_ms: Millis) -> Result<String, String> {
    let claims = Claims {
        sub: user.to_owned(),
        exp: (now + life_ms) / 1_000,
        iat: Some(now / 1_000),
        nbf: None,
        role: (role != Role::Client).then(|| role.name().to_owned()),
    };
    let key = EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&Header::default(), &claims, &key).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use heddle_model::ManualClock;

    use super::*;

    const SECRET: &str = "a secret of thirty-two bytes or more";
    const NOW: Millis = 1_700_000_000_000;

    fn auth(change: impl FnOnce(&mut AuthConfig)) -> Auth {
        let keys = vec![("auth.secret".to_owned(), AuthKey::Secret(SECRET.as_bytes().to_vec()))];
        let mut config = AuthConfig { keys, leeway_ms: 5_000, ..AuthConfig::default() };
        change(&mut config);
        Auth::new(config, Arc::new(ManualClock::at(NOW))).unwrap()
    }

    fn signed(claims: serde_json::Value) -> String {
        jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
    }

    #[test]
    fn a_minted_token_names_its_user_until_it_expires() {
        let token = mint(SECRET, "alice", Role::Client, NOW, 60_000).unwrap();
        let identity = auth(|_| {}).verify(&token).unwrap();
        assert_eq!((identity.user.as_str(), identity.until, identity.role), ("alice", NOW + 65_000, Role::Client));
        let old = mint(SECRET, "alice", Role::Client, NOW - 66_000, 60_000).unwrap();
        assert_eq!(auth(|_| {}).verify(&old).unwrap_err().word(), "expired");
        let early = signed(serde_json::json!({"sub": "alice", "exp": NOW / 1_000 + 99, "nbf": NOW / 1_000 + 9}));
        assert_eq!(auth(|_| {}).verify(&early).unwrap_err().word(), "not_yet");
    }

    #[test]
    fn a_token_without_a_signature_or_of_another_secret_is_refused() {
        let other = mint("another secret of thirty-two bytes!!", "alice", Role::Client, NOW, 60_000).unwrap();
        assert_eq!(auth(|_| {}).verify(&other).unwrap_err().word(), "invalid");
        let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJzdWIiOiJhbGljZSIsImV4cCI6NDAwMDAwMDAwMH0.";
        assert_eq!(auth(|_| {}).verify(none).unwrap_err().word(), "invalid");
        assert_eq!(auth(|_| {}).verify("a.b").unwrap_err().word(), "invalid");
        assert_eq!(auth(|_| {}).verify(&"x".repeat(5 << 10)).unwrap_err().word(), "too_long");
    }

    #[test]
    fn a_token_for_another_audience_or_of_another_issuer_is_refused() {
        let claims = |aud: &str, iss: &str| {
            signed(serde_json::json!({"sub": "alice", "exp": NOW / 1_000 + 9, "aud": aud, "iss": iss}))
        };
        let strict = auth(|config| {
            config.audience = vec!["heddle".to_owned()];
            config.issuer = vec!["us".to_owned()];
        });
        assert!(strict.verify(&claims("heddle", "us")).is_ok());
        assert!(strict.verify(&claims("other", "us")).is_err());
        assert!(strict.verify(&claims("heddle", "them")).is_err());
        assert!(strict.verify(&mint(SECRET, "alice", Role::Client, NOW, 60_000).unwrap()).is_err());
        assert!(auth(|_| {}).verify(&claims("other", "us")).is_err());
    }

    #[test]
    fn a_subject_that_is_no_user_and_a_missing_expiry_are_refused() {
        let nobody = signed(serde_json::json!({"sub": "a\nb", "exp": NOW / 1_000 + 9}));
        assert_eq!(auth(|_| {}).verify(&nobody).unwrap_err().word(), "not_a_user");
        assert!(auth(|_| {}).verify(&signed(serde_json::json!({"sub": "alice"}))).is_err());
    }

    #[test]
    fn a_role_opens_what_it_names_and_less() {
        let auth = auth(|config| config.admin_tokens = vec!["static".to_owned()]);
        let ask = |token: &str, wanted: Role| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
            auth.verify_role(&headers, wanted).map_err(|error| error.word())
        };
        assert_eq!(ask("static", Role::PolicyAdmin), Ok("operator".to_owned()));
        let roles = [Role::Client, Role::Viewer, Role::Operator, Role::PolicyAdmin];
        for has in roles {
            for wanted in &roles[1..] {
                let asked = ask(&mint(SECRET, "ops", has, NOW, 60_000).unwrap(), *wanted);
                assert_eq!(asked, if has >= *wanted { Ok("ops".to_owned()) } else { Err("not_admin") });
            }
        }
        assert_eq!(auth.verify_role(&HeaderMap::new(), Role::Viewer), Err(AuthError::Missing));
    }

    #[test]
    fn a_browser_gives_its_token_as_a_subprotocol_and_only_ours_is_echoed() {
        let mut headers = HeaderMap::new();
        headers.insert(SEC_WEBSOCKET_PROTOCOL, "heddle.v1, heddle.jwt.a.b.c".parse().unwrap());
        assert_eq!(upgrade_token(&headers), (Some("a.b.c"), true));
        assert_eq!(upgrade_token(&HeaderMap::new()), (None, false));
    }
}
