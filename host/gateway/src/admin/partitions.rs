//! `/log/partitions`: into how many partitions the log is cut. (DELIVERY 26)

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use heddle_protocol::{ErrorCode, Problem};
use hyper::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::policies::refused;
use super::{Admin, Operator, Viewer};
use crate::rest::{BodyOf, Refused};

/// As `kafka.partitions` allows.
const PARTITIONS_MAX: u32 = 1_024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    partitions: u32,
}

pub(super) async fn show(State(admin): State<Admin>, _: Viewer) -> Json<Value> {
    Json(shown(&admin))
}

/// Answers once every node that reads `control` refuses sends; what follows takes some seconds.
pub(super) async fn repartition(
    State(admin): State<Admin>,
    Operator(who): Operator,
    body: BodyOf,
) -> Result<Response, Refused> {
    let wanted = body.json::<Wanted>()?.partitions;
    let (deps, has) = (&admin.core.deps, partitions(&admin));
    if !deps.policies.agrees() {
        return Err(invalid("only a log on Kafka is cut into another number of partitions"));
    }
    if wanted <= has || wanted > PARTITIONS_MAX {
        let range = format!("the log has {has} partitions, which can become more, at most {PARTITIONS_MAX}");
        return Err(invalid(&format!("{wanted} partitions: {range}")));
    }
    let shards = deps.delivery.archive_shards();
    if !wanted.is_multiple_of(shards) {
        return Err(invalid(&format!(
            "{wanted} partitions cannot be spread over the {shards} shards of store.shards: name a multiple of {shards}"
        )));
    }
    tracing::info!(who, wanted, has, "the log is to be cut anew");
    deps.policies.repartition(wanted, who).await.map_err(refused)?;
    Ok((StatusCode::ACCEPTED, Json(shown(&admin))).into_response())
}

fn partitions(admin: &Admin) -> u32 {
    admin.core.deps.delivery.numbering().partitioning.count
}

fn shown(admin: &Admin) -> Value {
    json!({ "partitions": partitions(admin), "under_way": admin.core.deps.policies.cut().under_way })
}

fn invalid(detail: &str) -> Refused {
    Refused(Problem::new(ErrorCode::Invalid, detail).with_status(422))
}
