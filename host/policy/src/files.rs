//! Plugin files: those of the catalog, each also on this node's disk, so that a node has what it needs while the catalog is slow or away.
//!
//! A file is believed for its digest alone, so it does not matter where it lay. One that is torn or another is fetched again and replaced.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use heddle_model::Digest;
use heddle_pack::{touch, trim_folder};
use heddle_store::{Catalog, CatalogPlugin, StoreError};
use tokio::task::spawn_blocking;

/// The folder for plugin files on this node's disk, and what it may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// Made if it is not there.
    pub dir: PathBuf,
    /// Of all files in it. What generations that are loaded or draining need is kept whatever it takes; of the rest what was used longest ago goes.
    pub bytes_max: u64,
}

pub(crate) struct Files {
    catalog: Arc<dyn Catalog>,
    /// None: the catalog alone.
    mirror: ArcSwapOption<Mirror>,
}

impl Files {
    pub(crate) fn new(catalog: Arc<dyn Catalog>, mirror: Option<Mirror>) -> Self {
        Self { catalog, mirror: ArcSwapOption::new(mirror.map(Arc::new)) }
    }

    /// Another bound of the disk.
    pub(crate) fn bound(&self, bytes_max: u64) {
        if let Some(mirror) = self.mirror.load_full() {
            self.mirror.store(Some(Arc::new(Mirror { bytes_max, dir: mirror.dir.clone() })));
        }
    }

    /// The file of this digest, from the disk if it is there, else from the catalog.
    pub(crate) async fn read(&self, digest: Digest) -> Result<Option<Bytes>, StoreError> {
        if let Some(bytes) = self.on_disk(move |mirror| mirror.read(digest)).await.flatten() {
            return Ok(Some(bytes));
        }
        let Some(file) = self.catalog.plugin(digest).await? else { return Ok(None) };
        self.keep(digest, file.bytes.clone()).await;
        Ok(Some(file.bytes))
    }

    /// Into the catalog, and onto the disk.
    pub(crate) async fn add(&self, file: CatalogPlugin) -> Result<(), StoreError> {
        let (digest, bytes) = (file.digest, file.bytes.clone());
        self.catalog.add_plugin(file).await?;
        self.keep(digest, bytes).await;
        Ok(())
    }

    /// Makes sure that these are on the disk, and that the others there are not too much.
    pub(crate) async fn tend(&self, needed: BTreeSet<Digest>) -> Result<(), StoreError> {
        let looked = needed.clone();
        let missing = self.on_disk(move |mirror| {
            looked.into_iter().filter(|digest| !mirror.place(*digest).exists()).collect::<Vec<_>>()
        });
        for digest in missing.await.unwrap_or_default() {
            self.read(digest).await?;
        }
        self.on_disk(move |mirror| mirror.trim(&needed)).await;
        Ok(())
    }

    async fn keep(&self, digest: Digest, bytes: Bytes) {
        self.on_disk(move |mirror| mirror.keep(digest, &bytes)).await;
    }

    /// On a thread that may wait for the disk; none if there is no mirror.
    async fn on_disk<T: Send + 'static>(&self, work: impl FnOnce(&Mirror) -> T + Send + 'static) -> Option<T> {
        let mirror = self.mirror.load_full()?;
        spawn_blocking(move || work(&mirror)).await.ok()
    }
}

/// Trouble with the disk costs a question to the catalog, nothing else: it is logged.
impl Mirror {
    fn place(&self, digest: Digest) -> PathBuf {
        self.dir.join(format!("{digest}.wasm"))
    }

    fn read(&self, digest: Digest) -> Option<Bytes> {
        let path = self.place(digest);
        match fs::read(&path) {
            Ok(bytes) if Digest::of(&bytes) == digest => {
                if let Err(error) = touch(&path) {
                    tracing::debug!(path = %path.display(), %error, "when a plugin file was used cannot be noted");
                }
                Some(bytes.into())
            }
            Ok(_) => {
                tracing::warn!(path = %path.display(), "a plugin file has another digest than its name, it is fetched from the catalog");
                // So that nobody takes it for there.
                self.remove(&path);
                None
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a plugin file cannot be read, it is fetched from the catalog");
                None
            }
        }
    }

    fn keep(&self, digest: Digest, bytes: &[u8]) {
        let path = self.place(digest);
        // What is whole is not written again; what is not is found when it is read.
        if path.exists() {
            return;
        }
        if let Err(error) = self.write(&path, bytes) {
            tracing::warn!(path = %path.display(), %error, "a plugin file is not on this node's disk, only in the catalog");
        }
    }

    /// Whole or not at all.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        let partial = path.with_extension("partial");
        let mut file = File::create(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&partial, path)?;
        File::open(&self.dir)?.sync_all()
    }

    fn trim(&self, needed: &BTreeSet<Digest>) {
        let is_needed = |path: &Path| {
            let name = path.file_stem().and_then(|name| name.to_str()).and_then(Digest::parse);
            name.is_some_and(|digest| needed.contains(&digest))
        };
        match trim_folder(&self.dir, &["wasm", "partial"], self.bytes_max, is_needed) {
            Ok(0) => {}
            Ok(removed) => tracing::debug!(removed, "plugin files that were not used for longest are removed"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(dir = %self.dir.display(), %error, "old plugin files cannot be removed");
            }
        }
    }

    fn remove(&self, path: &Path) {
        if let Err(error) = fs::remove_file(path) {
            tracing::warn!(path = %path.display(), %error, "a plugin file cannot be removed");
        }
    }
}
