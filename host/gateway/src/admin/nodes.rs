//! `/nodes`: who is there, and how busy.

use axum::Json;
use axum::extract::State;
use heddle_store::NodeRow;
use serde_json::{Value, json};

use super::{Admin, Viewer};
use crate::rest::Refused;

pub(super) async fn nodes(State(admin): State<Admin>, _: Viewer) -> Result<Json<Value>, Refused> {
    let rows = (admin.core.deps.nodes)().await?;
    let asked = admin.core.deps.node.as_str();
    Ok(Json(json!({ "asked": asked, "nodes": rows.iter().map(shown).collect::<Vec<_>>() })))
}

fn shown(row: &NodeRow) -> Value {
    let report = &row.report;
    json!({
        "node": row.node.as_str(),
        "age_ms": row.age_ms,
        "state": report.state,
        "roles": report.roles,
        "version": report.version,
        "started_at": report.started_at,
        "clients": report.clients,
        "admin": report.admin,
        "generation": report.generation,
        "connections": report.connections,
        "partitions": report.partitions,
        "derive_lag": report.derive_lag,
        "archive_lag": report.archive_lag,
    })
}
