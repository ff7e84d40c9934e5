//! Plugins, generations, audit.

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
    /// When it came.
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

/// Plugins and generations.
#[async_trait]
pub trait Catalog: Send + Sync + 'static {
    /// Adds a plugin; nothing happens if its digest is there.
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
}
