//! What of the catalog goes when there is too much of it.

use std::collections::BTreeSet;

use heddle_model::Digest;
use heddle_store::{AuditEntry, CatalogBounds, CatalogGeneration, CatalogPlugin, CatalogRemoved, Store};

/// A plugin of so many bytes, added at that moment.
fn plugin(name: &str, bytes: usize, added_at: u64) -> CatalogPlugin {
    let bytes = [name.as_bytes(), &vec![0; bytes - name.len()]].concat();
    let version = "0.1.0".into();
    CatalogPlugin { digest: Digest::of(&bytes), name: name.into(), version, bytes: bytes.into(), added_at }
}

fn bounds() -> CatalogBounds {
    CatalogBounds {
        file_bytes_max: u64::MAX,
        plugins_max: usize::MAX,
        generations_max: usize::MAX,
        audit_max: u64::MAX,
        plugins_needed: BTreeSet::new(),
        generations_needed: BTreeSet::new(),
        added_before: 1_000_000,
    }
}

async fn with_file(store: &Store, plugins: &[CatalogPlugin]) -> Vec<String> {
    let mut names = Vec::new();
    for plugin in plugins {
        let found = store.catalog.plugin(plugin.digest).await.unwrap();
        names.extend(found.map(|found| found.name.to_string()));
    }
    names
}

pub(crate) async fn files_above_the_bound_go_oldest_first_and_come_back_when_they_are_added(store: &Store) {
    // 60 s later it counts as added again; what was added at the same moment goes in the order of digests.
    let plugins = [("a", 100), ("b", 200), ("c", 300), ("d", 400), ("e", 2_000_000)];
    let plugins = plugins.map(|(name, at)| plugin(name, 100_000, at));
    for plugin in &plugins {
        store.catalog.add_plugin(plugin.clone()).await.unwrap();
    }
    store.catalog.add_plugin(CatalogPlugin { added_at: 60_100, ..plugins[0].clone() }).await.unwrap();
    assert_eq!(store.catalog.keep_within(bounds()).await.unwrap(), CatalogRemoved::default());
    let tight = CatalogBounds { plugins_needed: [plugins[1].digest].into(), file_bytes_max: 350_000, ..bounds() };
    let removed = store.catalog.keep_within(tight.clone()).await.unwrap();
    assert_eq!(removed, CatalogRemoved { files: 2, ..CatalogRemoved::default() });
    assert_eq!(with_file(store, &plugins).await, ["a", "b", "e"], "a was added again, b is needed");
    assert_eq!(store.catalog.keep_within(tight).await.unwrap(), CatalogRemoved::default(), "once is enough");
    let none = CatalogBounds { file_bytes_max: 0, ..bounds() };
    assert_eq!(store.catalog.keep_within(none).await.unwrap().files, 2);
    assert_eq!(with_file(store, &plugins).await, ["e"], "somebody may be deploying it");
    assert_eq!(store.catalog.plugin_versions("c").await.unwrap(), ["0.1.0"], "what was here before is known");
    store.catalog.add_plugin(plugins[2].clone()).await.unwrap();
    assert_eq!(store.catalog.plugin(plugins[2].digest).await.unwrap(), Some(plugins[2].clone()));
    let few = CatalogBounds { plugins_max: 2, ..bounds() };
    let removed = store.catalog.keep_within(few).await.unwrap();
    assert_eq!((removed.plugins, removed.files), (3, 0));
    assert_eq!(store.catalog.plugin_versions("b").await.unwrap(), Vec::<String>::new());
}

pub(crate) async fn generations_and_audit_keep_the_newest_and_what_is_needed(store: &Store) {
    for number in 1..=9 {
        let row = CatalogGeneration {
            number,
            content: Digest::of(&[1]),
            json: "{}".to_owned(),
            at: number,
            why: "a test".to_owned(),
        };
        let audit = AuditEntry {
            at: number,
            who: "an operator".to_owned(),
            what: format!("change {number}"),
            why: "a test".to_owned(),
            detail: "{}".to_owned(),
        };
        assert!(store.catalog.add_generation(row, audit).await.unwrap());
    }
    let tight = CatalogBounds { generations_max: 3, audit_max: 4, generations_needed: [2, 8].into(), ..bounds() };
    let removed = store.catalog.keep_within(tight.clone()).await.unwrap();
    assert_eq!(removed, CatalogRemoved { generations: 5, audit: 5, ..CatalogRemoved::default() });
    let mut there = Vec::new();
    for number in 1..=9 {
        there.extend(store.catalog.generation(number).await.unwrap().map(|row| row.number));
    }
    assert_eq!(there, [2, 7, 8, 9]);
    let audit: Vec<String> = store.catalog.audit(10).await.unwrap().into_iter().map(|row| row.what).collect();
    assert_eq!(audit, ["change 9", "change 8", "change 7", "change 6"]);
    assert_eq!(store.catalog.keep_within(tight).await.unwrap(), CatalogRemoved::default());
}
