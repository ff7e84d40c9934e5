//! `/log/dead`: records that were given up. (DELIVERY 13)

use axum::Json;
use axum::extract::{Query, State};
use heddle_protocol::ErrorCode;
use heddle_store::DeadLetterRow;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Admin, Viewer};
use crate::rest::Refused;

/// The most that are listed at once.
const LIMIT_MAX: u32 = 1_000;

#[derive(Deserialize)]
pub(super) struct Asked {
    limit: Option<u32>,
}

pub(super) async fn list(
    State(admin): State<Admin>,
    _: Viewer,
    Query(asked): Query<Asked>,
) -> Result<Json<Value>, Refused> {
    let limit = asked.limit.unwrap_or(LIMIT_MAX);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(Refused::new(ErrorCode::Invalid, format!("limit {limit} is not between 1 and {LIMIT_MAX}")));
    }
    let rows = admin.core.deps.delivery.dead_letters(limit).await?;
    Ok(Json(json!({ "dead": rows.iter().map(shown).collect::<Vec<_>>() })))
}

fn shown(row: &DeadLetterRow) -> Value {
    json!({
        "partition": row.partition.to_string(),
        "position": row.position.0,
        "by": row.by,
        "error": row.error,
        "at": row.at,
        "bytes": row.bytes,
    })
}
