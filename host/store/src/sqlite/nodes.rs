//! The nodes that share this store.

use async_trait::async_trait;
use heddle_model::NodeId;
use sqlx::sqlite::SqliteConnection;

use super::SqliteStore;
use super::work::Work;
use crate::cell::time;
use crate::fault::Fault;
use crate::port::NODE_FORGOTTEN_MS;
use crate::row::{NodeColumns, node};
use crate::{NodeReport, NodeRow, Nodes, StoreError};

#[async_trait]
impl Nodes for SqliteStore {
    async fn beat(&self, node: &NodeId, report: &NodeReport) -> Result<(), StoreError> {
        self.writer.write(Work::Beat(node.clone(), report.clone())).await.map(drop)
    }

    async fn nodes(&self) -> Result<Vec<NodeRow>, StoreError> {
        self.reader.read("nodes", |connection| Box::pin(nodes(connection))).await
    }

    async fn leave(&self, node: &NodeId) -> Result<(), StoreError> {
        self.writer.write(Work::Leave(node.clone())).await.map(drop)
    }
}

pub(super) async fn beat(connection: &mut SqliteConnection, node: &NodeId, report: &NodeReport) -> Result<(), Fault> {
    sqlx::query(
        "INSERT INTO nodes (node, beat_at, report) VALUES (?1, CAST(unixepoch('subsec') * 1000 AS INTEGER), ?2)
         ON CONFLICT (node) DO UPDATE SET beat_at = excluded.beat_at, report = excluded.report",
    )
    .bind(node.as_str())
    .bind(crate::row::report(report)?)
    .execute(&mut *connection)
    .await?;
    sqlx::query("DELETE FROM nodes WHERE beat_at < CAST(unixepoch('subsec') * 1000 AS INTEGER) - ?1")
        .bind(time(NODE_FORGOTTEN_MS))
        .execute(connection)
        .await?;
    Ok(())
}

async fn nodes(connection: &mut SqliteConnection) -> Result<Vec<NodeRow>, Fault> {
    let rows: Vec<NodeColumns> = sqlx::query_as(
        "SELECT node, report, CAST(unixepoch('subsec') * 1000 AS INTEGER) - beat_at FROM nodes ORDER BY node",
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(node).collect()
}

pub(super) async fn leave(connection: &mut SqliteConnection, node: &NodeId) -> Result<(), Fault> {
    sqlx::query("DELETE FROM nodes WHERE node = ?1").bind(node.as_str()).execute(connection).await?;
    Ok(())
}
