//! The nodes that share this store.

use async_trait::async_trait;
use heddle_model::NodeId;
use sqlx::postgres::PgConnection;

use super::PostgresStore;
use super::text::plain;
use crate::cell::time;
use crate::fault::Fault;
use crate::port::NODE_FORGOTTEN_MS;
use crate::row::{NodeColumns, node};
use crate::{NodeReport, NodeRow, Nodes, StoreError};

#[async_trait]
impl Nodes for PostgresStore {
    async fn beat(&self, node: &NodeId, report: &NodeReport) -> Result<(), StoreError> {
        let (node, report) = (node.clone(), report.clone());
        let write =
            self.connections.write("beat", move |connection| Box::pin(beat(connection, node.clone(), report.clone())));
        write.await
    }

    async fn nodes(&self) -> Result<Vec<NodeRow>, StoreError> {
        self.connections.read("nodes", |connection| Box::pin(nodes(connection))).await
    }

    async fn leave(&self, node: &NodeId) -> Result<(), StoreError> {
        let node = node.clone();
        self.connections.write("leave", move |connection| Box::pin(leave(connection, node.clone()))).await
    }
}

async fn beat(connection: &mut PgConnection, node: NodeId, report: NodeReport) -> Result<(), Fault> {
    sqlx::query(
        "INSERT INTO nodes (node, beat_at, report) VALUES ($1, clock_timestamp(), $2)
         ON CONFLICT (node) DO UPDATE SET beat_at = excluded.beat_at, report = excluded.report",
    )
    .bind(plain(node.as_str()))
    .bind(plain(&crate::row::report(&report)?))
    .execute(&mut *connection)
    .await?;
    sqlx::query("DELETE FROM nodes WHERE beat_at < clock_timestamp() - $1 * interval '1 millisecond'")
        .bind(time(NODE_FORGOTTEN_MS))
        .execute(connection)
        .await?;
    Ok(())
}

async fn nodes(connection: &mut PgConnection) -> Result<Vec<NodeRow>, Fault> {
    let rows: Vec<NodeColumns> = sqlx::query_as(
        "SELECT node, report, (extract(epoch FROM clock_timestamp() - beat_at) * 1000)::bigint FROM nodes ORDER BY node",
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(node).collect()
}

async fn leave(connection: &mut PgConnection, node: NodeId) -> Result<(), Fault> {
    sqlx::query("DELETE FROM nodes WHERE node = $1").bind(plain(node.as_str())).execute(connection).await?;
    Ok(())
}
