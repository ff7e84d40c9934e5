//! Tokens: minted here for `heddle dev` and `heddle token`; checked in the gateway.

use heddle_model::{Clock, SystemClock, UserId};
use serde::Serialize;

use crate::cli::TokenArgs;
use crate::config::{Config, Sources};
use crate::failure::Failure;

/// Signs the tokens of `heddle dev`. It is published, here: whoever reads this can be anybody there, so `dev` listens on loopback only.
pub const DEVELOPMENT_SECRET: &str = "heddle-development-secret-known-to-everybody-use-it-on-loopback-only";

/// The admin token of `heddle dev`.
pub const DEVELOPMENT_ADMIN_TOKEN: &str = "heddle-development-admin";

/// How long tokens of `heddle dev` live, in seconds.
pub const DEVELOPMENT_TTL_S: u64 = 30 * 24 * 3600;

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    iat: u64,
    exp: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    aud: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    iss: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'a str>,
}

/// A token for `user`, signed with the configuration's secret, valid from now for `ttl_s` seconds. `role`: what it opens at the admin listener.
///
/// # Errors
/// If there is no secret, or the name is not one.
pub fn mint(config: &Config, user: &str, role: Option<&str>, ttl_s: u64) -> Result<String, Failure> {
    let user = UserId::new(user).map_err(|error| Failure::usage(format!("--user {user:?}: {error}")))?;
    if config.auth.secret.is_empty() {
        return Err(Failure::usage(
            "the configuration has no auth.secret: tokens for auth.keys come from whoever holds the private key",
        ));
    }
    let iat = SystemClock::new().now() / 1_000;
    let claims = Claims {
        sub: user.as_str(),
        iat,
        exp: iat.saturating_add(ttl_s),
        aud: &config.auth.audience,
        iss: &config.auth.issuer,
        role,
    };
    let key = jsonwebtoken::EncodingKey::from_secret(config.auth.secret.as_bytes());
    let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key)
        .map_err(|error| Failure::new(format!("the token for {user} cannot be signed: {error}")))?;
    if token.len() > heddle_protocol::limits::TOKEN_BYTES_MAX {
        return Err(Failure::usage(format!(
            "the token for {user} would be longer than the server takes: shorten the name"
        )));
    }
    Ok(token)
}

/// `heddle token`: the token for stdout.
///
/// # Errors
/// If the configuration, the name or the time is wrong.
pub fn command(args: &TokenArgs) -> Result<String, Failure> {
    let mut sources = Sources { file: args.config.clone(), ..Sources::default() };
    if args.config.is_some() {
        sources.variables = Sources::environment();
    } else {
        sources.presets = vec![("auth.secret", DEVELOPMENT_SECRET.to_owned())];
    }
    let config = sources.load()?;
    let ttl = crate::config::span(&args.ttl).filter(|ttl| ttl.as_secs() > 0).ok_or_else(|| {
        Failure::usage(format!("--ttl {:?} is not a time of at least a second: write '1 h' or '30 d'", args.ttl))
    })?;
    mint(&config, &args.user, args.role.as_deref(), ttl.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(user: &str, ttl: &str) -> TokenArgs {
        TokenArgs { user: user.to_owned(), role: None, ttl: ttl.to_owned(), config: None }
    }

    #[test]
    fn a_token_names_its_user_and_ends_when_it_was_asked_to() {
        let token = command(&args("carol", "2 h")).unwrap();
        let key = jsonwebtoken::DecodingKey::from_secret(DEVELOPMENT_SECRET.as_bytes());
        let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::HS256);
        validation.required_spec_claims = ["exp", "sub"].map(str::to_owned).into();
        let claims = jsonwebtoken::decode::<serde_json::Value>(&token, &key, &validation).unwrap().claims;
        assert_eq!(claims["sub"], "carol");
        assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 7_200);
    }

    #[test]
    fn what_is_no_name_and_what_is_no_time_is_refused() {
        for (user, ttl) in [("", "1 h"), ("a\u{0}b", "1 h"), ("carol", "soon"), ("carol", "10"), ("carol", "1 ms")] {
            assert_eq!(command(&args(user, ttl)).unwrap_err().code, crate::failure::USAGE, "{user:?} {ttl:?}");
        }
    }

    #[test]
    fn the_development_secret_is_long_enough() {
        assert!(DEVELOPMENT_SECRET.len() >= crate::config::SECRET_BYTES_MIN);
    }
}
