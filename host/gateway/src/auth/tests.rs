use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use heddle_model::ManualClock;

use super::*;

const SECRET: &str = "a secret of thirty-two bytes or more";
const NOW: Millis = 1_700_000_000_000;

fn auth(change: impl FnOnce(&mut AuthConfig)) -> Auth {
    auth_at(Arc::new(ManualClock::at(NOW)), change)
}

fn auth_at(clock: Arc<dyn Clock>, change: impl FnOnce(&mut AuthConfig)) -> Auth {
    let keys = vec![("auth.secret".to_owned(), AuthKey::secret(SECRET.as_bytes()).unwrap())];
    let mut config = AuthConfig { keys, leeway_ms: 5_000, ..AuthConfig::default() };
    change(&mut config);
    Auth::new(config, clock, Arc::new(|user, issued| *user == mallory() && issued <= NOW), None).unwrap()
}

fn mallory() -> UserId {
    UserId::new("mallory").unwrap()
}

fn signed(claims: serde_json::Value) -> String {
    jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
}

#[tokio::test]
async fn a_minted_token_names_its_user_until_it_expires() {
    let token = mint(SECRET, "alice", Role::Client, NOW, 60_000).unwrap();
    let identity = auth(|_| {}).verify(&token).await.unwrap();
    assert_eq!((identity.user.as_str(), identity.until, identity.role), ("alice", NOW + 65_000, Role::Client));
    let old = mint(SECRET, "alice", Role::Client, NOW - 66_000, 60_000).unwrap();
    assert_eq!(auth(|_| {}).verify(&old).await.unwrap_err().word(), "expired");
    let early = signed(serde_json::json!({"sub": "alice", "exp": NOW / 1_000 + 99, "nbf": NOW / 1_000 + 9}));
    assert_eq!(auth(|_| {}).verify(&early).await.unwrap_err().word(), "not_yet");
}

#[tokio::test]
async fn a_token_without_a_signature_or_of_another_secret_is_refused() {
    let other = mint("another secret of thirty-two bytes!!", "alice", Role::Client, NOW, 60_000).unwrap();
    assert_eq!(auth(|_| {}).verify(&other).await.unwrap_err().word(), "invalid");
    let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJzdWIiOiJhbGljZSIsImV4cCI6NDAwMDAwMDAwMH0.";
    assert_eq!(auth(|_| {}).verify(none).await.unwrap_err().word(), "invalid");
    assert_eq!(auth(|_| {}).verify("a.b").await.unwrap_err().word(), "invalid");
    assert_eq!(auth(|_| {}).verify(&"x".repeat(5 << 10)).await.unwrap_err().word(), "too_long");
}

#[tokio::test]
async fn a_token_for_another_audience_or_of_another_issuer_is_refused() {
    let claims = |aud: &str, iss: &str| {
        signed(serde_json::json!({"sub": "alice", "exp": NOW / 1_000 + 9, "aud": aud, "iss": iss}))
    };
    let strict = auth(|config| {
        config.audience = vec!["heddle".to_owned()];
        config.issuer = vec!["us".to_owned()];
    });
    assert!(strict.verify(&claims("heddle", "us")).await.is_ok());
    assert!(strict.verify(&claims("other", "us")).await.is_err());
    assert!(strict.verify(&claims("heddle", "them")).await.is_err());
    assert!(strict.verify(&mint(SECRET, "alice", Role::Client, NOW, 60_000).unwrap()).await.is_err());
    assert!(auth(|_| {}).verify(&claims("other", "us")).await.is_err());
}

#[tokio::test]
async fn a_subject_that_is_no_user_and_a_missing_expiry_are_refused() {
    let nobody = signed(serde_json::json!({"sub": "a\nb", "exp": NOW / 1_000 + 9}));
    assert_eq!(auth(|_| {}).verify(&nobody).await.unwrap_err().word(), "not_a_user");
    assert!(auth(|_| {}).verify(&signed(serde_json::json!({"sub": "alice"}))).await.is_err());
}

#[tokio::test]
async fn a_role_opens_what_it_names_and_less() {
    let auth = auth(|config| config.admin_tokens = vec!["static".to_owned()]);
    let ask = async |token: &str, wanted: Role| {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
        auth.verify_role(&headers, wanted).await.map_err(|error| error.word())
    };
    assert_eq!(ask("static", Role::PolicyAdmin).await, Ok("operator".to_owned()));
    let roles = [Role::Client, Role::Viewer, Role::Operator, Role::PolicyAdmin];
    for has in roles {
        for wanted in &roles[1..] {
            let asked = ask(&mint(SECRET, "ops", has, NOW, 60_000).unwrap(), *wanted).await;
            assert_eq!(asked, if has >= *wanted { Ok("ops".to_owned()) } else { Err("not_admin") });
        }
    }
    // Who is revoked opens nothing, whatever the role.
    assert_eq!(
        ask(&mint(SECRET, "mallory", Role::PolicyAdmin, NOW, 60_000).unwrap(), Role::Viewer).await,
        Err("revoked")
    );
    assert_eq!(auth.verify_role(&HeaderMap::new(), Role::Viewer).await, Err(AuthError::Missing));
}

#[tokio::test]
async fn a_revoked_users_token_counts_only_if_it_was_issued_later() {
    let clock = Arc::new(ManualClock::at(NOW));
    let auth = auth_at(Arc::clone(&clock) as Arc<dyn Clock>, |config| config.leeway_ms = 0);
    let issued = |iat: Option<u64>| signed(serde_json::json!({"sub": "mallory", "exp": NOW / 1_000 + 99, "iat": iat}));
    for old in [None, Some(5), Some(NOW / 1_000)] {
        assert_eq!(auth.verify(&issued(old)).await.unwrap_err(), AuthError::Revoked, "{old:?}");
    }
    // What claims to come from the future may have been issued now.
    assert_eq!(auth.verify(&issued(Some(NOW))).await.unwrap_err(), AuthError::Revoked);
    clock.advance(2_000);
    assert_eq!(auth.verify(&issued(Some(NOW / 1_000 + 1))).await.unwrap().issued, NOW + 1_000);
    assert!(auth.verify(&mint(SECRET, "alice", Role::Client, NOW, 60_000).unwrap()).await.is_ok());
}

/// RFC 8037, appendix A.1, and RFC 7517, appendix A.2: private keys that everybody knows, and what is public of them.
const ED_D: &str = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
const ED_X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
const EC_D: &str = "870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE";
const EC_X: &str = "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4";
const EC_Y: &str = "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM";

/// RFC 8032, section 7.1, test 2.
const OTHER_X: &str = "PUAXw-hDiVqStwqnTRt-vJyYLM8uxJaMwM1V8Sr0Zgw";

fn raw(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).unwrap()
}

/// Signs as somebody else's server does, with a PKCS #8 key.
fn signed_by(algorithm: Algorithm, kid: Option<&str>) -> String {
    let key = match algorithm {
        Algorithm::EdDSA => {
            let head = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
            EncodingKey::from_ed_der(&[head.as_slice(), &raw(ED_D)].concat())
        }
        _ => {
            let head = [
                0x30, 0x81, 0x87, 2, 1, 0, 0x30, 0x13, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86,
                0x48, 0xce, 0x3d, 3, 1, 7, 4, 0x6d, 0x30, 0x6b, 2, 1, 1, 4, 0x20,
            ];
            let point = [&[0xa1, 0x44, 3, 0x42, 0, 4], raw(EC_X).as_slice(), &raw(EC_Y)].concat();
            EncodingKey::from_ec_der(&[head.as_slice(), &raw(EC_D), &point].concat())
        }
    };
    let header = Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) };
    jsonwebtoken::encode(&header, &serde_json::json!({"sub": "alice", "exp": NOW / 1_000 + 9}), &key).unwrap()
}

fn with_set(keys: serde_json::Value) -> Auth {
    let key = AuthKey::read(&serde_json::json!({ "keys": keys }).to_string()).unwrap();
    auth(|config| config.keys.push(("keys.json".to_owned(), key)))
}

#[tokio::test]
async fn tokens_by_eddsa_and_es256_are_verified_by_the_key_that_they_name() {
    let ed = serde_json::json!({"kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": ED_X});
    let ec = serde_json::json!({"kty": "EC", "crv": "P-256", "kid": "ec", "x": EC_X, "y": EC_Y});
    let both = with_set(serde_json::json!([ed, ec]));
    for (algorithm, kid, other) in [(Algorithm::EdDSA, "ed", "ec"), (Algorithm::ES256, "ec", "ed")] {
        for named in [Some(kid), None] {
            assert_eq!(both.verify(&signed_by(algorithm, named)).await.unwrap().user.as_str(), "alice");
        }
        assert_eq!(both.verify(&signed_by(algorithm, Some(other))).await.unwrap_err().word(), "invalid");
        let mut forged = signed_by(algorithm, Some(kid)).into_bytes();
        let at = forged.len() - 20;
        forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
        let forged = String::from_utf8(forged).unwrap();
        assert_eq!(both.verify(&forged).await.unwrap_err().word(), "invalid");
    }
    let another = with_set(serde_json::json!([{"kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": OTHER_X}, ec]));
    assert_eq!(another.verify(&signed_by(Algorithm::EdDSA, Some("ed"))).await.unwrap_err().word(), "invalid");
    assert_eq!(auth(|_| {}).verify(&signed_by(Algorithm::ES256, None)).await.unwrap_err().word(), "invalid");
}

#[tokio::test]
async fn a_public_key_is_no_secret_for_hs256() {
    // The oldest trick: a token signed by HS256 with the bytes of the public key.
    let ec = with_set(serde_json::json!([{"kty": "EC", "crv": "P-256", "x": EC_X, "y": EC_Y}]));
    let point = [&[4], raw(EC_X).as_slice(), &raw(EC_Y)].concat();
    let claims = serde_json::json!({"sub": "alice", "exp": NOW / 1_000 + 9});
    let token = jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(&point)).unwrap();
    assert_eq!(ec.verify(&token).await.unwrap_err().word(), "invalid");
}

#[test]
fn a_browser_gives_its_token_as_a_subprotocol_and_only_ours_is_echoed() {
    let mut headers = HeaderMap::new();
    headers.insert(SEC_WEBSOCKET_PROTOCOL, "heddle.v1, heddle.jwt.a.b.c".parse().unwrap());
    assert_eq!(upgrade_token(&headers), (Some("a.b.c"), true));
    assert_eq!(upgrade_token(&HeaderMap::new()), (None, false));
}
