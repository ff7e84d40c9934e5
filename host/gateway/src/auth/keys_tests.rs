use serde_json::{Value, json};

use super::*;

/// RFC 8037, appendix A.2; RFC 7517, appendix A.1; RFC 7515, appendix A.1.
const ED_X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
const EC_X: &str = "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4";
const EC_Y: &str = "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM";
const OCT_K: &str = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";

fn ed() -> Value {
    json!({"kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": ED_X})
}

fn ec() -> Value {
    json!({"kty": "EC", "crv": "P-256", "kid": "ec", "x": EC_X, "y": EC_Y})
}

fn oct() -> Value {
    json!({"kty": "oct", "kid": "oct", "k": OCT_K})
}

fn with(mut key: Value, name: &str, value: impl Into<Value>) -> Value {
    key[name] = value.into();
    key
}

fn read(keys: &[Value]) -> Result<Vec<(Algorithm, Option<String>)>, String> {
    let text = json!({ "keys": keys }).to_string();
    AuthKey::read(&text).map(|key| key.keys.into_iter().map(|key| (key.algorithm, key.id)).collect())
}

#[test]
fn each_kind_of_key_in_a_set_gets_its_algorithm() {
    let found = read(&[ed(), ec(), oct()]).unwrap();
    let wanted = [(Algorithm::EdDSA, "ed"), (Algorithm::ES256, "ec"), (Algorithm::HS256, "oct")];
    assert_eq!(found, wanted.map(|(algorithm, id)| (algorithm, Some(id.to_owned()))));
    let named = [with(ed(), "alg", "EdDSA"), with(ec(), "use", "sig"), with(oct(), "key_ops", json!(["verify"]))];
    assert_eq!(read(&named).unwrap().len(), 3);
}

#[test]
fn keys_for_something_else_are_left_out() {
    let others = [
        with(ec(), "crv", "P-384"),
        with(ec(), "crv", "secp256k1"),
        with(ed(), "crv", "Ed448"),
        with(ed(), "crv", "X25519"),
        with(ec(), "use", "enc"),
        with(ec(), "alg", "ES384"),
        with(ec(), "alg", "ECDH-ES"),
        with(oct(), "alg", "HS512"),
        with(ec(), "key_ops", json!(["sign"])),
        json!({"kty": "RSA", "n": "AQAB", "e": "AQAB"}),
    ];
    for other in &others {
        assert!(read(std::slice::from_ref(other)).is_err(), "{other}");
        assert_eq!(read(&[other.clone(), ed()]).unwrap().len(), 1, "{other}");
    }
}

#[test]
fn a_broken_key_is_named_and_not_left_out_in_silence() {
    let broken = [
        (with(oct(), "k", "c2hvcnQ"), "\"oct\" cannot be used: it has 5 bytes, HS256 wants at least 32"),
        (with(ed(), "x", "AAAA"), "\"ed\" has 3 bytes, an Ed25519 key has 32"),
        (with(ed(), "x", "!"), "\"ed\" has a \"x\" that is not base64url"),
        (with(ec(), "y", EC_X), "\"ec\" is no point of P-256"),
        (with(ec(), "x", "AAAA"), "\"ec\" has an x of 3 and a y of 32 bytes"),
        (with(ec(), "y", Value::Null), "\"ec\" has no \"y\""),
        (json!({"kid": "odd"}), "key 1 is not a JWK"),
    ];
    for (key, why) in broken {
        let error = read(&[key, oct(), ed()]).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn what_is_no_set_and_no_key_is_refused() {
    let too_many = vec![ed(); KEYS_MAX + 1];
    assert!(read(&too_many).unwrap_err().contains("at most 100"));
    assert!(read(&[]).unwrap_err().contains("no key in it serves"));
    for text in ["{}", "{\"keys\": 1}", "{", "", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"] {
        assert!(AuthKey::read(text).is_err(), "{text}");
    }
    assert!(AuthKey::secret(&[7; 31]).is_err() && AuthKey::secret(&[7; 32]).is_ok());
}

#[test]
fn a_secret_that_everybody_can_read_verifies_nothing() {
    let text = |keys: &[Value]| json!({ "keys": keys }).to_string();
    assert!(Set::public(&text(&[oct()])).is_err());
    let set = Set::public(&text(&[oct(), ed(), with(ec(), "y", EC_X)])).unwrap();
    assert_eq!(set.keys.iter().map(|key| key.algorithm).collect::<Vec<_>>(), [Algorithm::EdDSA]);
    assert_eq!((set.left_out.len(), set.broken.len()), (1, 1));
}

#[test]
fn a_public_key_in_pem_form_is_read_for_its_curve() {
    // RFC 8410, section 10.1.
    let ed = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
    assert_eq!(AuthKey::read(ed).unwrap().keys[0].algorithm, Algorithm::EdDSA);
    let info = |curve: &[u8], point: &[u8]| {
        let algorithm = [&[0x30, 9 + curve.len() as u8, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1], curve].concat();
        let bits = [&[3, 1 + point.len() as u8, 0], point].concat();
        let der = [&[0x30, (algorithm.len() + bits.len()) as u8], algorithm.as_slice(), &bits].concat();
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
    };
    let point = [vec![4], URL_SAFE_NO_PAD.decode(EC_X).unwrap(), URL_SAFE_NO_PAD.decode(EC_Y).unwrap()].concat();
    let p256 = [6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
    assert_eq!(AuthKey::read(&info(&p256, &point)).unwrap().keys[0].algorithm, Algorithm::ES256);
    let mut off = point.clone();
    off[64] ^= 1;
    assert!(AuthKey::read(&info(&p256, &off)).unwrap_err().contains("is no point of P-256"));
    let secp256k1 = [6, 5, 0x2b, 0x81, 4, 0, 10];
    assert!(AuthKey::read(&info(&secp256k1, &point)).unwrap_err().contains("ES256 wants P-256"));
}
