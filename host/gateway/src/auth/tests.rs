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
