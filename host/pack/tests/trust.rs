//! Signatures: which files pass, which do not, and what is said of them.

use std::cmp::Ordering;

use heddle_pack::{TrustError, TrustList, version_order};
use minisign::KeyPair;

fn key() -> KeyPair {
    KeyPair::generate_unencrypted_keypair().unwrap()
}

fn signed(pair: &KeyPair, file: &[u8]) -> String {
    minisign::sign(Some(&pair.pk), &pair.sk, file, Some("of a test"), None).unwrap().into_string()
}

fn list(keys: &[&KeyPair], required: bool) -> TrustList {
    let keys: Vec<String> = keys.iter().map(|pair| pair.pk.to_base64()).collect();
    TrustList::new(&keys, required).unwrap()
}

#[test]
fn a_file_signed_by_a_trusted_key_passes_and_says_by_whom() {
    let (ours, theirs) = (key(), key());
    let signer = list(&[&theirs, &ours], true).check(b"a plugin", Some(&signed(&ours, b"a plugin"))).unwrap().unwrap();
    assert_eq!((signer.key, signer.comment.as_str()), (ours.pk.to_base64(), "of a test"));
}

#[test]
fn what_is_not_signed_changed_or_signed_by_others_is_refused_each_in_its_own_words() {
    let (ours, theirs) = (key(), key());
    let trust = list(&[&ours], true);
    let good = signed(&ours, b"a plugin");
    assert_eq!(trust.check(b"a plugin", None), Err(TrustError::Missing));
    assert_eq!(trust.check(b"a plugim", Some(&good)), Err(TrustError::Wrong));
    assert_eq!(trust.check(b"a plugin", Some(&good.replace("of a test", "of a text"))), Err(TrustError::Wrong));
    assert_eq!(trust.check(b"a plugin", Some("RWQ")), Err(TrustError::Malformed));
    assert_eq!(trust.check(b"a plugin", Some(&"x".repeat(1 << 20))), Err(TrustError::Malformed));
    let other = trust.check(b"a plugin", Some(&signed(&theirs, b"a plugin")));
    assert!(matches!(other, Err(TrustError::Unknown { id }) if id.len() == 16));
    assert_eq!(list(&[], true).check(b"a plugin", None), Err(TrustError::Missing));
}

#[test]
fn where_no_signature_is_required_a_wrong_one_is_refused_all_the_same() {
    let ours = key();
    assert_eq!(list(&[&ours], false).check(b"a plugin", None), Ok(None));
    assert_eq!(list(&[&ours], false).check(b"b", Some(&signed(&ours, b"a"))), Err(TrustError::Wrong));
    assert_eq!(list(&[], false).check(b"b", Some(&signed(&ours, b"a"))), Ok(None));
}

#[test]
fn a_key_that_is_none_is_named() {
    let refused = TrustList::new(&["RWQnonsense".to_owned()], false).unwrap_err();
    assert!(refused.to_string().contains("RWQnonsense"), "{refused}");
}

#[test]
fn versions_are_ordered_as_semver_does() {
    for (one, other, order) in [
        ("0.9.0", "0.10.0", Ordering::Less),
        ("1.0.0-rc.1", "1.0.0", Ordering::Less),
        ("1.0.0+a", "1.0.0+b", Ordering::Equal),
        ("2.0.0", "1.9.9", Ordering::Greater),
    ] {
        assert_eq!(version_order(one, other), Some(order), "{one} {other}");
    }
    assert_eq!(version_order("1.0", "1.0.0"), None);
}
