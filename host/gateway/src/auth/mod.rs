//! Who a token names: JWT by HS256, EdDSA or ES256, with keys of the configuration, or of a JWKS at a URL.

mod keys;
mod remote;

use std::sync::Arc;

use heddle_model::{Clock, Millis, UserId};
use heddle_protocol::limits::TOKEN_BYTES_MAX;
use heddle_protocol::{SUBPROTOCOL, SUBPROTOCOL_TOKEN_PREFIX};
use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use jsonwebtoken::{Algorithm, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use self::keys::Key;
use self::remote::RemoteKeys;
use crate::error::GatewayError;
use crate::role::Role;

pub use self::keys::AuthKey;
pub use self::remote::JwksConfig;

/// Who is who.
#[derive(Debug, Clone, Default)]
pub struct AuthConfig {
    /// Keys that verify tokens, each with a name for errors.
    pub keys: Vec<(String, AuthKey)>,
    /// Where more of them are, that change by themselves.
    pub jwks: Option<JwksConfig>,
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
    #[error("the token was taken back: get a new one, or ask whoever runs this server")]
    Revoked,
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
            Self::Revoked => "revoked",
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
    /// When it may have been issued at the earliest, leeway included; 0 if it does not say. A moment that has not come is taken for now.
    pub(crate) issued: Millis,
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

/// Is a token of this user refused that was issued then?
pub(crate) type Refuses = Arc<dyn Fn(&UserId, Millis) -> bool + Send + Sync>;

/// Verifies tokens.
pub(crate) struct Auth {
    keys: Vec<Key>,
    remote: Option<Arc<RemoteKeys>>,
    config: AuthConfig,
    clock: Arc<dyn Clock>,
    refuses: Refuses,
}

impl Auth {
    /// `before`: what was in force, whose fetched keys stay if they come from the same place.
    pub(crate) fn new(
        config: AuthConfig,
        clock: Arc<dyn Clock>,
        refuses: Refuses,
        before: Option<&Self>,
    ) -> Result<Self, GatewayError> {
        let keys: Vec<Key> = config.keys.iter().flat_map(|(_, key)| key.keys.iter().cloned()).collect();
        if keys.is_empty() && config.jwks.is_none() {
            return Err(GatewayError::NoKeys);
        }
        let remote = match &config.jwks {
            None => None,
            Some(jwks) => match before.and_then(|before| before.remote.clone()).filter(|kept| kept.config() == jwks) {
                Some(kept) => Some(kept),
                None => {
                    let started = RemoteKeys::start(jwks, Arc::clone(&clock));
                    let failed = |reason| GatewayError::Key { name: "auth.jwks_url".to_owned(), reason };
                    Some(Arc::new(started.map_err(failed)?))
                }
            },
        };
        Ok(Self { keys, remote, config, clock, refuses })
    }

    /// Are all keys there that should be?
    pub(crate) fn ready(&self) -> Result<(), String> {
        match &self.remote {
            Some(remote) if remote.keys().is_none() => {
                Err(format!("no keys have come from {} yet (auth.jwks_url)", remote.config().url))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn first_frame(&self) -> bool {
        self.config.first_frame
    }

    /// Whom the token names. If it names a key that is not there, and keys may be asked for, it waits for them.
    pub(crate) async fn verify(&self, token: &str) -> Result<Identity, AuthError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(AuthError::TooLong { bytes: token.len() });
        }
        let header = jsonwebtoken::decode_header(token).map_err(|error| AuthError::Invalid(error.to_string()))?;
        let mut claims = self.claims(token, &header);
        if let (Err(_), Some(remote)) = (&claims, &self.remote)
            && self.lacks(&header, remote)
            && Box::pin(remote.look_again()).await
        {
            claims = self.claims(token, &header);
        }
        self.identity(claims?)
    }

    /// What the token says, if a key verifies it.
    fn claims(&self, token: &str, header: &Header) -> Result<Claims, AuthError> {
        let fits = |key: &&Key| {
            key.algorithm == header.alg && (key.id.is_none() || header.kid.is_none() || key.id == header.kid)
        };
        let fetched = self.remote.as_ref().and_then(|remote| remote.keys());
        let mut last = AuthError::Invalid(format!("no key verifies {:?} here", header.alg));
        for key in self.keys.iter().chain(fetched.iter().flat_map(|keys| keys.iter())).filter(fits) {
            match jsonwebtoken::decode::<Claims>(token, &key.key, &self.validation(key.algorithm)) {
                Ok(read) => return Ok(read.claims),
                Err(error) => last = AuthError::Invalid(error.to_string()),
            }
        }
        Err(last)
    }

    /// Could a key of this name come from the URL, and is it not there?
    fn lacks(&self, header: &Header, remote: &RemoteKeys) -> bool {
        let public = matches!(header.alg, Algorithm::EdDSA | Algorithm::ES256);
        let (here, fetched) = (&self.keys, remote.keys());
        let named = |key: &Key| key.id == header.kid;
        public
            && header.kid.is_some()
            && !here.iter().any(named)
            && !fetched.iter().flat_map(|keys| keys.iter()).any(named)
    }

    /// Like [`verify`](Self::verify), for the admin listener; who it is, for the audit.
    pub(crate) async fn verify_role(&self, headers: &HeaderMap, wanted: Role) -> Result<String, AuthError> {
        let token = bearer(headers).ok_or(AuthError::Missing)?;
        if self.config.admin_tokens.iter().any(|known| same(known.as_bytes(), token.as_bytes())) {
            return Ok(OPERATOR.to_owned());
        }
        let identity = self.verify(token).await?;
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
        let issued = claims.iat.map_or(0, |iat| iat.saturating_mul(1_000).min(now).saturating_sub(leeway));
        if (self.refuses)(&user, issued) {
            return Err(AuthError::Revoked);
        }
        Ok(Identity { user, until, issued, role: Role::claimed(claims.role.as_deref()) })
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
mod tests;
