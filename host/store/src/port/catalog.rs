//! Plugins, generations, audit.

use std::collections::BTreeSet;

use async_trait::async_trait;
use bytes::Bytes;
use heddle_model::{Digest, Millis};

use super::StoreError;

/// A plugin file in the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogPlugin {
    /// SHA-256 of the file.
    pub digest: Digest,
    /// The manifest's name.
    pub name: Box<str>,
    /// The manifest's version.
    pub version: Box<str>,
    /// The file.
    pub bytes: Bytes,
    /// When it came, or was last added again: what is rarely wanted goes first.
    pub added_at: Millis,
}

/// A policy set in the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogGeneration {
    /// Its number; numbers only grow.
    pub number: u64,
    /// SHA-256 of its content.
    pub content: Digest,
    /// The content: chains, digests, configuration, fallbacks, limits, as JSON.
    pub json: String,
    /// When it was made.
    pub at: Millis,
    /// Why, in the operator's words.
    pub why: String,
}

/// Who did what, when and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// When.
    pub at: Millis,
    /// Who.
    pub who: String,
    /// What, in a word: `start`, `deploy`, `rollback`.
    pub what: String,
    /// Why.
    pub why: String,
    /// Before and after, as JSON.
    pub detail: String,
}

/// How much a catalog may hold, and what of it is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogBounds {
    /// Bytes of all plugin files. Of more, those that were added longest ago go; name and version stay known.
    pub file_bytes_max: u64,
    /// Plugins whose name and version are known, with their file or without.
    pub plugins_max: usize,
    /// Generations, the newest.
    pub generations_max: usize,
    /// Rows of the audit, the newest.
    pub audit_max: u64,
    /// Plugins that stay whatever they take.
    pub plugins_needed: BTreeSet<Digest>,
    /// Generations that stay, however old they are.
    pub generations_needed: BTreeSet<u64>,
    /// Plugins that were added at this moment or later stay too: somebody may be making a generation of them.
    pub added_before: Millis,
}

/// What went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CatalogRemoved {
    /// Plugins that lost their file.
    pub files: usize,
    /// Plugins that are not known any more.
    pub plugins: usize,
    /// Generations.
    pub generations: usize,
    /// Rows of the audit.
    pub audit: u64,
}

/// Plugins and generations.
#[async_trait]
pub trait Catalog: Send + Sync + 'static {
    /// Adds a plugin. If its digest is there, it counts as added now; its file comes back if [`Catalog::keep_within`] had removed it.
    ///
    /// # Errors
    /// The store does not answer, or holds a broken row.
    async fn add_plugin(&self, plugin: CatalogPlugin) -> Result<(), StoreError>;
    /// The plugin of this digest.
    ///
    /// # Errors
    /// The store does not answer, or holds a broken row.
    async fn plugin(&self, digest: Digest) -> Result<Option<CatalogPlugin>, StoreError>;
    /// The versions of the plugins of this name that are there, each once, in no order.
    ///
    /// # Errors
    /// The store does not answer.
    async fn plugin_versions(&self, name: &str) -> Result<Vec<String>, StoreError>;
    /// The newest generation.
    ///
    /// # Errors
    /// The store does not answer, or holds a broken row.
    async fn newest_generation(&self) -> Result<Option<CatalogGeneration>, StoreError>;
    /// The generation of this number.
    ///
    /// # Errors
    /// The store does not answer, or holds a broken row.
    async fn generation(&self, number: u64) -> Result<Option<CatalogGeneration>, StoreError>;
    /// Adds a generation and its audit row in one transaction; false, and nothing is written, if its number is not above all others.
    ///
    /// # Errors
    /// The store does not answer, or holds a broken row.
    async fn add_generation(&self, generation: CatalogGeneration, audit: AuditEntry) -> Result<bool, StoreError>;
    /// Adds an audit row of what made no generation.
    ///
    /// # Errors
    /// The store does not answer.
    async fn add_audit(&self, audit: AuditEntry) -> Result<(), StoreError>;
    /// The newest audit rows.
    ///
    /// # Errors
    /// The store does not answer, or holds a broken row.
    async fn audit(&self, limit: u32) -> Result<Vec<AuditEntry>, StoreError>;
    /// Removes what is above these bounds; all of it in one transaction.
    ///
    /// # Errors
    /// The store does not answer, or holds a broken row.
    async fn keep_within(&self, bounds: CatalogBounds) -> Result<CatalogRemoved, StoreError>;
}
