//! Plugin files on this node's disk: a node starts with what it has, and neither disk nor catalog grows beyond its bounds.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use heddle_model::{Clock, Digest, Hook, ManualClock};
use heddle_pack::{Manifest, unpack};
use heddle_policy::{
    Change, ChangeError, Mirror, Policies, PolicyConfig, PolicyDeps, PolicyLimits, Request, Seal, StartError,
};
use heddle_store::{
    AuditEntry, Catalog, CatalogBounds, CatalogGeneration, CatalogPlugin, CatalogRemoved, SqliteStore, StoreConfig,
    StoreError,
};

use crate::world::{EngineLoader, clock, component, file};

/// What is older than that may go.
const LATER_MS: u64 = 200_000;

/// A catalog that can be away for who asks for files.
struct Slow {
    rows: Arc<dyn Catalog>,
    away: AtomicBool,
}

#[async_trait]
impl Catalog for Slow {
    async fn add_plugin(&self, plugin: CatalogPlugin) -> Result<(), StoreError> {
        self.rows.add_plugin(plugin).await
    }

    async fn plugin(&self, digest: Digest) -> Result<Option<CatalogPlugin>, StoreError> {
        if self.away.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable { operation: "plugin", reason: "it is slow".to_owned() });
        }
        self.rows.plugin(digest).await
    }

    async fn plugin_versions(&self, name: &str) -> Result<Vec<String>, StoreError> {
        self.rows.plugin_versions(name).await
    }

    async fn newest_generation(&self) -> Result<Option<CatalogGeneration>, StoreError> {
        self.rows.newest_generation().await
    }

    async fn generation(&self, number: u64) -> Result<Option<CatalogGeneration>, StoreError> {
        self.rows.generation(number).await
    }

    async fn add_generation(&self, row: CatalogGeneration, audit: AuditEntry) -> Result<bool, StoreError> {
        self.rows.add_generation(row, audit).await
    }

    async fn add_audit(&self, audit: AuditEntry) -> Result<(), StoreError> {
        self.rows.add_audit(audit).await
    }

    async fn audit(&self, limit: u32) -> Result<Vec<AuditEntry>, StoreError> {
        self.rows.audit(limit).await
    }

    async fn keep_within(&self, bounds: CatalogBounds) -> Result<CatalogRemoved, StoreError> {
        self.rows.keep_within(bounds).await
    }
}

/// A node's disk and the catalog that it stands on.
struct Node {
    catalog: Arc<Slow>,
    time: Arc<ManualClock>,
    limits: PolicyLimits,
    mirror_bytes_max: u64,
    dir: tempfile::TempDir,
}

impl Node {
    async fn new(limits: PolicyLimits, mirror_bytes_max: u64) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let store =
            SqliteStore::open(StoreConfig::at(dir.path().join("store.sqlite")), clock()).await.expect("a store");
        let catalog = Arc::new(Slow { rows: store.store().catalog, away: AtomicBool::new(false) });
        Self { catalog, time: Arc::new(ManualClock::at(1_000_000)), limits, mirror_bytes_max, dir }
    }

    async fn start(&self) -> Result<Policies, StartError> {
        let named = heddle_builtin::plugins().into_iter();
        let builtins = named.map(|(hook, plugin)| (Hook::named(hook).expect("a hook"), plugin.bytes)).collect();
        let deps = PolicyDeps {
            catalog: Arc::clone(&self.catalog) as Arc<dyn Catalog>,
            clock: Arc::clone(&self.time) as Arc<dyn Clock>,
            builtins,
            loader: Arc::new(EngineLoader::default()),
            cluster: None,
            shared: None,
        };
        let mirror = Some(Mirror { dir: self.folder(), bytes_max: self.mirror_bytes_max });
        Policies::start(PolicyConfig { limits: self.limits.clone(), mirror, ..PolicyConfig::default() }, deps).await
    }

    fn folder(&self) -> PathBuf {
        self.dir.path().join("plugins")
    }

    fn on_disk(&self, digest: Digest) -> PathBuf {
        self.folder().join(format!("{digest}.wasm"))
    }

    fn away(&self, away: bool) {
        self.catalog.away.store(away, Ordering::SeqCst);
    }

    async fn in_catalog(&self, digest: Digest) -> bool {
        self.catalog.plugin(digest).await.expect("it answers").is_some()
    }
}

/// The fixture `mark` as another version is another file.
async fn deploy(policies: &Policies, version: u32) -> Digest {
    let text =
        format!("name = \"mark\"\nversion = \"1.0.{version}\"\n[hooks.routing]\n[config]\nmark = \"v{version}\"\n");
    let manifest = Manifest::parse(&text, "plugin.toml").expect("a manifest");
    let bytes = heddle_pack::pack(&component("mark"), &manifest, &[]).expect("a file");
    let digest = Digest::of(&unpack(bytes.clone()).expect("a plugin").bytes);
    let seal = Seal { allow_downgrade: true, ..Seal::default() };
    change(policies, Change::Deploy { hook: None, file: file("mark", bytes), seal, trial: None })
        .await
        .expect("it decides");
    digest
}

async fn change(policies: &Policies, change: Change) -> Result<u64, ChangeError> {
    let request = Request { change, who: "tester".to_owned(), why: "a test".to_owned() };
    policies.change(request).await.map(|changed| changed.now.number())
}

fn routing(policies: &Policies) -> String {
    let described = policies.current().describe();
    let found = described.iter().find(|info| info.hook == Hook::Routing && &*info.name == "mark");
    found.map(|info| format!("{} {}", info.name, info.version)).unwrap_or_default()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_node_starts_with_the_files_of_its_disk_while_the_catalog_gives_none() {
    let node = Node::new(PolicyLimits::default(), u64::MAX).await;
    deploy(&node.start().await.expect("a start"), 1).await;
    node.away(true);
    let again = node.start().await.expect("a start without the catalog's files");
    assert_eq!((again.current().number(), &*routing(&again)), (2, "mark 1.0.1"));
    drop(again);
    std::fs::remove_dir_all(node.folder()).expect("the disk is lost");
    // Not the configured set: what an operator deployed is not forgotten because the catalog is slow.
    let refused = node.start().await.err().expect("it has no files");
    assert!(matches!(refused, StartError::Catalog(_)), "{refused}");
    node.away(false);
    assert_eq!(routing(&node.start().await.expect("a start")), "mark 1.0.1");
    node.away(true);
    assert_eq!(routing(&node.start().await.expect("its files are on the disk again")), "mark 1.0.1");
}

#[tokio::test]
async fn a_file_that_is_torn_or_another_is_fetched_again_and_replaced() {
    let node = Node::new(PolicyLimits::default(), u64::MAX).await;
    let digest = deploy(&node.start().await.expect("a start"), 1).await;
    let whole = std::fs::read(node.on_disk(digest)).expect("it is there");
    for wrong in [&whole[..whole.len() / 2], b"something else", b""] {
        std::fs::write(node.on_disk(digest), wrong).expect("it is damaged");
        assert_eq!(routing(&node.start().await.expect("a start")), "mark 1.0.1");
        assert_eq!(std::fs::read(node.on_disk(digest)).expect("it is there"), whole);
    }
    std::fs::write(node.on_disk(digest), b"something else").expect("it is damaged");
    node.away(true);
    assert!(node.start().await.is_err(), "what is not the file is not loaded");
}

#[tokio::test]
async fn disk_and_catalog_keep_what_generations_need_and_lose_the_oldest_of_the_rest() {
    let limits = PolicyLimits {
        generations_max: 1,
        catalog_bytes_max: 1,
        catalog_plugins_max: 7,
        catalog_generations_max: 2,
        audit_max: 3,
        ..PolicyLimits::default()
    };
    let node = Node::new(limits, 1).await;
    let policies = node.start().await.expect("a start");
    let mut files = Vec::new();
    for version in 1..=4 {
        files.push(deploy(&policies, version).await);
        // Of two of one moment neither is the older.
        node.time.advance(1);
    }
    // They drain until what the log held is worked on: nothing of them may go.
    node.time.advance(LATER_MS);
    policies.keep_within_bounds().await.expect("it answers");
    for digest in &files {
        assert!(node.on_disk(*digest).exists() && node.in_catalog(*digest).await, "it still drains");
    }
    policies.ended(&policies.quiet(std::time::Duration::ZERO), Vec::new());
    policies.worked(&Default::default());
    std::fs::remove_file(node.on_disk(files[3])).expect("it was there");
    std::fs::write(node.folder().join("of-an-operator.txt"), b"stays").expect("a file");
    policies.keep_within_bounds().await.expect("it answers");
    // Version 4 decides and version 3 is kept; 1 is forgotten, for with the four built-in ones there are eight.
    assert_eq!(policies.history(10).await.expect("it answers").len(), 3);
    let mut known = node.catalog.plugin_versions("mark").await.expect("it answers");
    known.sort();
    assert_eq!(known, ["1.0.2", "1.0.3", "1.0.4"]);
    for (digest, stays) in files.iter().zip([false, false, true, true]) {
        assert_eq!((node.on_disk(*digest).exists(), node.in_catalog(*digest).await), (stays, stays));
    }
    assert_eq!(names(&node.folder()).len(), 4 + 2 + 1, "the built-in ones, two versions, and what is not ours");
    let gone = change(&policies, Change::Rollback { to: Some(2) }).await.expect_err("it is forgotten");
    assert!(gone.to_string().contains("generation 2"), "{gone}");
    change(&policies, Change::Rollback { to: Some(4) }).await.expect("it is kept");
    assert_eq!(routing(&policies), "mark 1.0.3");
    assert_eq!(routing(&node.start().await.expect("a start")), "mark 1.0.3");
}
