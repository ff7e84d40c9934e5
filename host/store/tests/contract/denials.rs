//! Blocks and revocations, and what changed since a version.

use std::collections::BTreeSet;

use heddle_model::Millis;
use heddle_store::{AuditEntry, DENIAL_FORGOTTEN_MS, Denial, Noted, Revocation, Store};

use crate::fixture::*;

async fn set(store: &Store, who: &str, whom: &str, holds: bool, at: Millis) -> Noted {
    store.denials.set_block(&user(who), &user(whom), holds, at, 3).await.unwrap()
}

fn block(who: &str, whom: &str, holds: bool) -> Denial {
    Denial::Block { user: user(who), other: user(whom), holds }
}

fn revoked(who: &str, upto: Option<Millis>) -> Denial {
    Denial::Revocation { user: user(who), upto }
}

fn revocation(who: &str, at: Millis) -> Revocation {
    Revocation { user: user(who), upto: at, at, who: "ops".to_owned(), why: format!("stolen at {at}") }
}

fn audit(what: &str, at: Millis) -> AuditEntry {
    AuditEntry { at, who: "ops".into(), what: what.into(), why: "stolen".into(), detail: "{}".into() }
}

pub(crate) async fn a_block_is_directed_and_asked_for_twice_changes_nothing(store: &Store) {
    assert_eq!(set(store, "bob", "alice", true, 1).await, Noted::Changed);
    assert_eq!(set(store, "bob", "alice", true, 2).await, Noted::Unchanged);
    assert_eq!(set(store, "carol", "bob", true, 3).await, Noted::Changed);
    assert_eq!(set(store, "carol", "dave", false, 4).await, Noted::Unchanged);
    assert_eq!(store.denials.denials_since(0, 10).await.unwrap().version, 2);
    assert_eq!(store.denials.blocks(&user("bob")).await.unwrap(), [user("alice")]);
    assert_eq!(store.denials.blocks(&user("alice")).await.unwrap(), []);
    let others = [user("dave"), user("alice"), user("carol")];
    let between = store.denials.blocks_between(&user("bob"), &others).await.unwrap();
    assert_eq!(between, [(false, false), (true, false), (false, true)]);
    assert_eq!(set(store, "bob", "alice", false, 5).await, Noted::Changed);
    assert_eq!(set(store, "bob", "alice", false, 6).await, Noted::Unchanged);
    assert_eq!(store.denials.blocks(&user("bob")).await.unwrap(), []);
    let between = store.denials.blocks_between(&user("bob"), &others).await.unwrap();
    assert_eq!(between, [(false, false), (false, false), (false, true)]);
}

pub(crate) async fn a_user_blocks_at_most_so_many(store: &Store) {
    for (nth, whom) in ["a", "b", "c"].iter().enumerate() {
        assert_eq!(set(store, "bob", whom, true, nth as u64).await, Noted::Changed);
    }
    assert_eq!(set(store, "bob", "d", true, 4).await, Noted::Full);
    assert_eq!(set(store, "carol", "d", true, 4).await, Noted::Changed);
    assert_eq!(set(store, "bob", "a", false, 5).await, Noted::Changed);
    assert_eq!(set(store, "bob", "d", true, 6).await, Noted::Changed);
    assert_eq!(store.denials.blocks(&user("bob")).await.unwrap(), ["b", "c", "d"].map(user));
}

pub(crate) async fn what_changed_since_a_version_is_told_once_in_order(store: &Store) {
    assert_eq!(store.denials.denials_since(0, 10).await.unwrap(), heddle_store::Denials::default());
    set(store, "bob", "alice", true, 1).await;
    store.denials.revoke(revocation("mallory", 7), audit("revoke user", 7), 9).await.unwrap();
    set(store, "bob", "carol", true, 2).await;
    let all = store.denials.denials_since(0, 10).await.unwrap();
    let wanted = [(1, block("bob", "alice", true)), (2, revoked("mallory", Some(7))), (3, block("bob", "carol", true))];
    assert_eq!((all.changes, all.version, all.forgotten), (wanted.to_vec(), 3, 0));
    set(store, "bob", "alice", false, 3).await;
    assert!(store.denials.restore(&user("mallory"), audit("restore user", 8)).await.unwrap());
    let since = store.denials.denials_since(3, 10).await.unwrap();
    assert_eq!(since.changes, [(4, block("bob", "alice", false)), (5, revoked("mallory", None))]);
    assert_eq!(store.denials.denials_since(5, 10).await.unwrap().changes, []);
    // Who knows more than there is stands on another history.
    assert_eq!(store.denials.denials_since(99, 10).await.unwrap().version, 5);
}

pub(crate) async fn changes_are_told_in_pages_and_lack_nothing(store: &Store) {
    for who in ["a", "b", "c", "d", "e"] {
        set(store, who, "z", true, 1).await;
    }
    let (mut since, mut told) = (0, Vec::new());
    loop {
        let page = store.denials.denials_since(since, 2).await.unwrap();
        let Some((last, _)) = page.changes.last() else { break };
        assert!(page.changes.len() <= 2 && page.version == 5);
        since = *last;
        told.extend(page.changes.into_iter().map(|(_, denial)| denial));
    }
    assert_eq!(told, ["a", "b", "c", "d", "e"].map(|who| block(who, "z", true)));
}

pub(crate) async fn what_was_over_long_ago_is_forgotten_and_that_is_said(store: &Store) {
    set(store, "bob", "alice", true, 1).await;
    set(store, "bob", "alice", false, 2).await;
    store.denials.revoke(revocation("mallory", 3), audit("revoke user", 3), 9).await.unwrap();
    store.denials.restore(&user("mallory"), audit("restore user", 4)).await.unwrap();
    set(store, "bob", "carol", true, 5).await;
    let kept = store.denials.denials_since(0, 10).await.unwrap();
    assert_eq!((kept.changes.len(), kept.forgotten), (3, 0), "{kept:?}");
    set(store, "bob", "dave", true, DENIAL_FORGOTTEN_MS + 5).await;
    let left = store.denials.denials_since(0, 10).await.unwrap();
    let wanted = [(5, block("bob", "carol", true)), (6, block("bob", "dave", true))];
    assert_eq!((left.changes, left.version, left.forgotten), (wanted.to_vec(), 6, 4));
}

pub(crate) async fn a_revocation_and_its_audit_row_come_together(store: &Store) {
    let (alice, mallory) = (user("alice"), user("mallory"));
    assert!(!store.denials.restore(&mallory, audit("restore user", 1)).await.unwrap());
    assert_eq!(store.catalog.audit(10).await.unwrap(), []);
    let first = store.denials.revoke(revocation("mallory", 2), audit("revoke user", 2), 1).await.unwrap();
    assert_eq!(first, Noted::Changed);
    let full = store.denials.revoke(revocation("alice", 3), audit("revoke user", 3), 1).await.unwrap();
    assert_eq!((full, store.denials.revocation(&alice).await.unwrap()), (Noted::Full, None));
    let again = store.denials.revoke(revocation("mallory", 4), audit("revoke user", 4), 1).await.unwrap();
    assert_eq!(again, Noted::Changed);
    assert_eq!(store.denials.revocation(&mallory).await.unwrap(), Some(revocation("mallory", 4)));
    assert!(store.denials.restore(&mallory, audit("restore user", 5)).await.unwrap());
    assert_eq!(store.denials.revocation(&mallory).await.unwrap(), None);
    let rows = store.catalog.audit(10).await.unwrap();
    assert_eq!(rows, [audit("restore user", 5), audit("revoke user", 4), audit("revoke user", 2)]);
}

pub(crate) async fn changes_at_once_get_one_version_each(store: &Store) {
    let set_all = (0..12).map(|nth| {
        let store = store.clone();
        tokio::spawn(async move { set(&store, &format!("u{nth}"), "z", true, 1).await })
    });
    for set in set_all.collect::<Vec<_>>() {
        assert_eq!(set.await.unwrap(), Noted::Changed);
    }
    let all = store.denials.denials_since(0, 100).await.unwrap();
    let versions: BTreeSet<u64> = all.changes.iter().map(|(version, _)| *version).collect();
    assert_eq!((versions, all.version), ((1..=12).collect(), 12));
}
