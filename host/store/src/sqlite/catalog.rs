//! Plugins, generations, audit.

use async_trait::async_trait;
use heddle_model::Digest;
use sqlx::sqlite::SqliteConnection;

use super::SqliteStore;
use super::work::Work;
use crate::cell::{int, time, uint};
use crate::excess::{ADDED_AGAIN_MS, Excess, GENERATIONS_AT_ONCE, excess, unneeded};
use crate::fault::Fault;
use crate::row::{GenerationColumns, generation};
use crate::{AuditEntry, Catalog, CatalogBounds, CatalogGeneration, CatalogPlugin, CatalogRemoved, StoreError};

#[async_trait]
impl Catalog for SqliteStore {
    async fn add_plugin(&self, plugin: CatalogPlugin) -> Result<(), StoreError> {
        self.writer.write(Work::AddPlugin(plugin)).await.map(drop)
    }

    async fn plugin(&self, digest: Digest) -> Result<Option<CatalogPlugin>, StoreError> {
        self.reader.read("plugin", move |connection| Box::pin(plugin(connection, digest))).await
    }

    async fn plugin_versions(&self, name: &str) -> Result<Vec<String>, StoreError> {
        let name = name.to_owned();
        let read = self.reader.read("plugin versions", |connection| {
            Box::pin(async move {
                let rows: Vec<(String,)> = sqlx::query_as("SELECT DISTINCT version FROM plugins WHERE name = ?1")
                    .bind(name)
                    .fetch_all(connection)
                    .await?;
                Ok(rows.into_iter().map(|(version,)| version).collect())
            })
        });
        read.await
    }

    async fn newest_generation(&self) -> Result<Option<CatalogGeneration>, StoreError> {
        let read = self.reader.read("newest generation", |connection| {
            Box::pin(async move {
                let row: Option<GenerationColumns> = sqlx::query_as(
                    "SELECT number, content, json, at, why FROM generations ORDER BY number DESC LIMIT 1",
                )
                .fetch_optional(connection)
                .await?;
                row.map(generation).transpose()
            })
        });
        read.await
    }

    async fn generation(&self, number: u64) -> Result<Option<CatalogGeneration>, StoreError> {
        let read = self.reader.read("generation", move |connection| {
            Box::pin(async move {
                let row: Option<GenerationColumns> =
                    sqlx::query_as("SELECT number, content, json, at, why FROM generations WHERE number = ?1")
                        .bind(int("generations", number)?)
                        .fetch_optional(connection)
                        .await?;
                row.map(generation).transpose()
            })
        });
        read.await
    }

    async fn add_generation(&self, generation: CatalogGeneration, audit: AuditEntry) -> Result<bool, StoreError> {
        Ok(self.writer.write(Work::AddGeneration(generation, audit)).await?.changed())
    }

    async fn add_audit(&self, audit: AuditEntry) -> Result<(), StoreError> {
        self.writer.write(Work::AddAudit(audit)).await.map(drop)
    }

    async fn audit(&self, limit: u32) -> Result<Vec<AuditEntry>, StoreError> {
        self.reader.read("audit", move |connection| Box::pin(newest_audit(connection, limit))).await
    }

    async fn keep_within(&self, bounds: CatalogBounds) -> Result<CatalogRemoved, StoreError> {
        Ok(self.writer.write(Work::KeepWithin(bounds)).await?.removed())
    }
}

async fn plugin(connection: &mut SqliteConnection, digest: Digest) -> Result<Option<CatalogPlugin>, Fault> {
    let row: Option<(String, String, i64, Vec<u8>)> =
        sqlx::query_as("SELECT name, version, added_at, bytes FROM plugins WHERE digest = ?1")
            .bind(digest.0.as_slice())
            .fetch_optional(connection)
            .await?;
    let Some((name, version, added_at, bytes)) = row.filter(|(.., bytes)| !bytes.is_empty()) else {
        return Ok(None);
    };
    if Digest::of(&bytes) != digest {
        return Err(Fault::broken("plugins", format!("the file of {name} {version} has another digest than its row")));
    }
    Ok(Some(CatalogPlugin {
        digest,
        name: name.into(),
        version: version.into(),
        bytes: bytes.into(),
        added_at: uint("plugins", added_at)?,
    }))
}

async fn newest_audit(connection: &mut SqliteConnection, limit: u32) -> Result<Vec<AuditEntry>, Fault> {
    let rows: Vec<(i64, String, String, String, String)> =
        sqlx::query_as("SELECT at, who, what, why, detail FROM audit ORDER BY id DESC LIMIT ?1")
            .bind(limit)
            .fetch_all(connection)
            .await?;
    rows.into_iter()
        .map(|(at, who, what, why, detail)| Ok(AuditEntry { at: uint("audit", at)?, who, what, why, detail }))
        .collect()
}

pub(super) async fn add_plugin(connection: &mut SqliteConnection, plugin: &CatalogPlugin) -> Result<(), Fault> {
    sqlx::query(
        "INSERT INTO plugins (digest, name, version, added_at, bytes) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (digest) DO UPDATE SET added_at = excluded.added_at, bytes = excluded.bytes
         WHERE length(plugins.bytes) = 0 OR excluded.added_at - plugins.added_at >= ?6",
    )
    .bind(plugin.digest.0.as_slice())
    .bind(&*plugin.name)
    .bind(&*plugin.version)
    .bind(time(plugin.added_at))
    .bind(&*plugin.bytes)
    .bind(ADDED_AGAIN_MS)
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn add_generation(
    connection: &mut SqliteConnection,
    generation: &CatalogGeneration,
    audit: &AuditEntry,
) -> Result<bool, Fault> {
    let added = sqlx::query(
        "INSERT INTO generations (number, content, json, at, why) SELECT ?1, ?2, ?3, ?4, ?5
         WHERE NOT EXISTS (SELECT 1 FROM generations WHERE number >= ?1)",
    )
    .bind(int("generations", generation.number)?)
    .bind(generation.content.0.as_slice())
    .bind(&generation.json)
    .bind(time(generation.at))
    .bind(&generation.why)
    .execute(&mut *connection)
    .await?;
    if added.rows_affected() == 0 {
        return Ok(false);
    }
    add_audit(connection, audit).await?;
    Ok(true)
}

/// A row of the audit, in the transaction of what it is about.
pub(super) async fn add_audit(connection: &mut SqliteConnection, audit: &AuditEntry) -> Result<(), Fault> {
    sqlx::query("INSERT INTO audit (at, who, what, why, detail) VALUES (?1, ?2, ?3, ?4, ?5)")
        .bind(time(audit.at))
        .bind(&audit.who)
        .bind(&audit.what)
        .bind(&audit.why)
        .bind(&audit.detail)
        .execute(connection)
        .await?;
    Ok(())
}

pub(super) async fn keep_within(
    connection: &mut SqliteConnection,
    bounds: &CatalogBounds,
) -> Result<CatalogRemoved, Fault> {
    let plugins = sqlx::query_as("SELECT digest, added_at, length(bytes) FROM plugins");
    let Excess { files, plugins } = excess(plugins.fetch_all(&mut *connection).await?, bounds)?;
    for digest in &files {
        let emptied = sqlx::query("UPDATE plugins SET bytes = x'' WHERE digest = ?1");
        emptied.bind(digest.0.as_slice()).execute(&mut *connection).await?;
    }
    for digest in &plugins {
        let forgotten = sqlx::query("DELETE FROM plugins WHERE digest = ?1");
        forgotten.bind(digest.0.as_slice()).execute(&mut *connection).await?;
    }
    let older = sqlx::query_as("SELECT number FROM generations ORDER BY number DESC LIMIT ?1 OFFSET ?2")
        .bind(GENERATIONS_AT_ONCE)
        .bind(i64::try_from(bounds.generations_max).unwrap_or(i64::MAX))
        .fetch_all(&mut *connection)
        .await?;
    let mut generations = 0;
    for number in unneeded(older, bounds) {
        sqlx::query("DELETE FROM generations WHERE number = ?1").bind(number).execute(&mut *connection).await?;
        generations += 1;
    }
    let audit = sqlx::query("DELETE FROM audit WHERE id <= (SELECT max(id) FROM audit) - ?1")
        .bind(time(bounds.audit_max))
        .execute(&mut *connection)
        .await?;
    Ok(CatalogRemoved { files: files.len(), plugins: plugins.len(), generations, audit: audit.rows_affected() })
}
