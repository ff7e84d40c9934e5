//! Users, contacts, mutes; the catalog.

use heddle_model::Digest;
use heddle_store::{ArchiveBatch, AuditEntry, CatalogGeneration, CatalogPlugin, Contact, Store};

use crate::fixture::*;

pub(crate) async fn a_user_is_known_since_the_earliest_time(store: &Store) {
    assert_eq!(store.directory.user_since(&user("bob")).await.unwrap(), None);
    store.directory.see_user(&user("bob"), 50).await.unwrap();
    store.directory.see_user(&user("bob"), 60).await.unwrap();
    assert_eq!(store.directory.user_since(&user("bob")).await.unwrap(), Some(50));
    let users = vec![(user("bob"), 40), (user("bob"), 45), (user("carol"), 9)];
    store.archive.write(ArchiveBatch { users, ..ArchiveBatch::default() }).await.unwrap();
    assert_eq!(store.directory.user_since(&user("bob")).await.unwrap(), Some(40));
    assert_eq!(store.directory.user_since(&user("carol")).await.unwrap(), Some(9));
}

pub(crate) async fn contacts_are_directed(store: &Store) {
    let (alice, bob, carol) = (user("alice"), user("bob"), user("carol"));
    assert!(store.directory.set_contact(&alice, &carol, true, 2).await.unwrap());
    assert!(store.directory.set_contact(&alice, &bob, true, 1).await.unwrap());
    assert!(!store.directory.set_contact(&alice, &bob, true, 5).await.unwrap());
    let listed = store.directory.contacts(&alice).await.unwrap();
    assert_eq!(listed, [Contact { user: bob.clone(), since: 1 }, Contact { user: carol.clone(), since: 2 }]);
    let viewers = [carol.clone(), user("dave"), bob.clone()];
    assert_eq!(store.directory.listed(&alice, &viewers).await.unwrap(), [true, false, true]);
    assert_eq!(store.directory.listed(&bob, std::slice::from_ref(&alice)).await.unwrap(), [false]);
    assert!(store.directory.set_contact(&alice, &bob, false, 6).await.unwrap());
    assert!(!store.directory.set_contact(&alice, &bob, false, 7).await.unwrap());
    assert_eq!(store.directory.contacts(&alice).await.unwrap().len(), 1);
}

pub(crate) async fn mutes_are_set_and_taken_back(store: &Store) {
    let name = conversation("group:g");
    for who in ["bob", "alice", "bob"] {
        store.directory.set_mute(&user(who), &name, true).await.unwrap();
    }
    store.directory.set_mute(&user("bob"), &conversation("user:carol"), true).await.unwrap();
    assert_eq!(store.directory.muted_members(&group("g")).await.unwrap(), [user("alice"), user("bob")]);
    assert_eq!(store.directory.mutes(&user("bob")).await.unwrap(), [name.clone(), conversation("user:carol")]);
    store.directory.set_mute(&user("bob"), &name, false).await.unwrap();
    assert_eq!(store.directory.muted_members(&group("g")).await.unwrap(), [user("alice")]);
}

pub(crate) async fn a_generation_and_its_audit_row_come_together_or_not_at_all(store: &Store) {
    let generation = |number: u64, why: &str| CatalogGeneration {
        number,
        content: Digest::of(why.as_bytes()),
        json: format!("{{\"why\": {why:?}}}"),
        at: number,
        why: why.to_owned(),
    };
    let audit = |why: &str| AuditEntry {
        at: 1,
        who: "operator".to_owned(),
        what: "deploy".to_owned(),
        why: why.to_owned(),
        detail: "{}".to_owned(),
    };
    assert_eq!(store.catalog.newest_generation().await.unwrap(), None);
    for (number, why, added) in [(1, "first", true), (1, "again", false), (3, "third", true), (2, "late", false)] {
        let answer = store.catalog.add_generation(generation(number, why), audit(why)).await.unwrap();
        assert_eq!(answer, added, "{why}");
    }
    assert_eq!(store.catalog.newest_generation().await.unwrap(), Some(generation(3, "third")));
    assert_eq!(store.catalog.generation(1).await.unwrap(), Some(generation(1, "first")));
    assert_eq!(store.catalog.generation(2).await.unwrap(), None);
    assert_eq!(store.catalog.audit(10).await.unwrap(), [audit("third"), audit("first")]);
    assert_eq!(store.catalog.audit(1).await.unwrap(), [audit("third")]);
    // What made no generation stands there too.
    store.catalog.add_audit(audit("reload")).await.unwrap();
    assert_eq!(store.catalog.audit(2).await.unwrap(), [audit("reload"), audit("third")]);
}

pub(crate) async fn a_plugin_is_added_once(store: &Store) {
    let bytes = vec![7; 300_000];
    let plugin = CatalogPlugin {
        digest: Digest::of(&bytes),
        name: "token-bucket".into(),
        version: "0.1.0".into(),
        bytes: bytes.into(),
        added_at: 5,
    };
    store.catalog.add_plugin(plugin.clone()).await.unwrap();
    store.catalog.add_plugin(CatalogPlugin { added_at: 9, ..plugin.clone() }).await.unwrap();
    assert_eq!(store.catalog.plugin(plugin.digest).await.unwrap(), Some(plugin));
    assert_eq!(store.catalog.plugin(Digest::of(b"other")).await.unwrap(), None);
    let bytes = vec![8; 10];
    let newer = CatalogPlugin {
        digest: Digest::of(&bytes),
        name: "token-bucket".into(),
        version: "0.2.0".into(),
        bytes: bytes.into(),
        added_at: 6,
    };
    store.catalog.add_plugin(newer).await.unwrap();
    let mut versions = store.catalog.plugin_versions("token-bucket").await.unwrap();
    versions.sort();
    assert_eq!(versions, ["0.1.0", "0.2.0"]);
    assert_eq!(store.catalog.plugin_versions("another").await.unwrap(), Vec::<String>::new());
}
