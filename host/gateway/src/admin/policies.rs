//! The policy set, seen and changed while it decides. One request is one change; every change is a row of the audit.

use axum::extract::{FromRequest, Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, post, put};
use axum::{Json, Router};
use bytes::Bytes;
use heddle_model::Hook;
use heddle_policy::{Change, ChangeError, Changed, Generation, PluginRef, PolicyInfo, Seal};
use heddle_protocol::{ErrorCode, Problem, RejectCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Admin, Operator};
use crate::rest::{BodyOf, PathOf, QueryOf, Refused, body_of};

/// A plugin file is smaller.
const FILE_BYTES_MAX: usize = 64 << 20;
const HISTORY_MAX: u32 = 1_000;

pub(super) fn routes() -> Router<Admin> {
    Router::new()
        .route("/policies", get(show))
        .route("/policies/log", get(plugin_log))
        .route("/policies/history", get(history))
        .route("/policies/plugins", post(deploy))
        .route("/policies/plugins/{plugin}", delete(remove).patch(configure))
        .route("/policies/chains/{hook}", put(chain))
        .route("/policies/rollback", post(rollback))
}

fn described(generation: &Generation) -> Value {
    let policy = |info: PolicyInfo| {
        json!({
            "hook": info.hook,
            "name": info.name,
            "version": info.version,
            "digest": info.digest.to_string(),
            "micros": info.micros,
        })
    };
    let policies: Vec<Value> = generation.describe().into_iter().map(policy).collect();
    json!({"generation": generation.number(), "policies": policies})
}

async fn show(State(admin): State<Admin>, _: Operator) -> Json<Value> {
    Json(described(&admin.core.deps.policies.current()))
}

async fn plugin_log(State(admin): State<Admin>, _: Operator) -> Json<Value> {
    Json((admin.core.deps.plugin_log)())
}

#[derive(Deserialize)]
struct HistoryQuery {
    #[serde(default = "HistoryQuery::limit")]
    limit: u32,
}

impl HistoryQuery {
    fn limit() -> u32 {
        20
    }
}

async fn history(
    State(admin): State<Admin>,
    _: Operator,
    QueryOf(query): QueryOf<HistoryQuery>,
) -> Result<Json<Value>, Refused> {
    let rows = admin.core.deps.policies.history(query.limit.clamp(1, HISTORY_MAX)).await?;
    let row = |row: heddle_policy::AuditRow| {
        let detail: Value = serde_json::from_str(&row.detail).unwrap_or(Value::Null);
        json!({ "at": row.at, "who": row.who, "what": row.what, "why": row.why, "detail": detail })
    };
    Ok(Json(json!({
        "generation": admin.core.deps.policies.current().number(),
        "changes": rows.into_iter().map(row).collect::<Vec<_>>(),
    })))
}

/// What a change says beside its body.
#[derive(Deserialize)]
struct ChangeQuery {
    hook: Option<String>,
    #[serde(default)]
    why: String,
    /// As errors name the file.
    file: Option<String>,
    /// Of a file: what `heddle plugin sign` wrote beside it.
    signature: Option<String>,
    /// An older version may follow a newer one.
    #[serde(default)]
    allow_downgrade: bool,
}

impl ChangeQuery {
    fn hook(&self) -> Result<Option<Hook>, Refused> {
        self.hook.as_deref().map(hook).transpose()
    }
}

fn hook(name: &str) -> Result<Hook, Refused> {
    Hook::named(name).ok_or_else(|| {
        let detail = format!("there is no hook {name:?}, use rate-limit, routing, fanout or presence");
        Refused::new(ErrorCode::NotFound, detail)
    })
}

/// A plugin file.
struct File(Bytes);

impl<S: Send + Sync> FromRequest<S> for File {
    type Rejection = Refused;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refused> {
        body_of(request, FILE_BYTES_MAX).await.map(Self)
    }
}

async fn deploy(
    State(admin): State<Admin>,
    operator: Operator,
    QueryOf(query): QueryOf<ChangeQuery>,
    File(bytes): File,
) -> Result<Response, Refused> {
    let source = query.file.clone().unwrap_or_else(|| "the file".to_owned());
    let file = PluginRef { source, bytes, config: Map::new() };
    let hook = query.hook()?;
    let seal = Seal { signature: query.signature, allow_downgrade: query.allow_downgrade };
    admin.change(operator, Change::Deploy { hook, file, seal }, query.why).await
}

async fn remove(
    State(admin): State<Admin>,
    operator: Operator,
    PathOf(plugin): PathOf<String>,
    QueryOf(query): QueryOf<ChangeQuery>,
) -> Result<Response, Refused> {
    admin.change(operator, Change::Remove { plugin, hook: query.hook()? }, query.why).await
}

/// `{"burst": 40, "per_second": null}`: null goes back to the manifest's value.
async fn configure(
    State(admin): State<Admin>,
    operator: Operator,
    PathOf(plugin): PathOf<String>,
    QueryOf(query): QueryOf<ChangeQuery>,
    body: BodyOf,
) -> Result<Response, Refused> {
    admin.change(operator, Change::Configure { plugin, changes: body.json()? }, query.why).await
}

/// `["inbox-routing", "quiet-hours"]`.
async fn chain(
    State(admin): State<Admin>,
    operator: Operator,
    PathOf(name): PathOf<String>,
    QueryOf(query): QueryOf<ChangeQuery>,
    body: BodyOf,
) -> Result<Response, Refused> {
    admin.change(operator, Change::Chain { hook: hook(&name)?, plugins: body.json()? }, query.why).await
}

#[derive(Deserialize)]
struct RollbackQuery {
    to: Option<u64>,
    #[serde(default)]
    why: String,
}

async fn rollback(
    State(admin): State<Admin>,
    operator: Operator,
    QueryOf(query): QueryOf<RollbackQuery>,
) -> Result<Response, Refused> {
    admin.change(operator, Change::Rollback { to: query.to }, query.why).await
}

impl Admin {
    /// In a task of its own: a client that goes away does not stop a change half-way.
    async fn change(self, operator: Operator, change: Change, why: String) -> Result<Response, Refused> {
        let request = heddle_policy::Request { change, who: operator.0, why };
        let clock = self.core.deps.clock.clone();
        let start = clock.monotonic();
        let policies = self.core.deps.policies.clone();
        let changed = tokio::spawn(async move { policies.change(request).await }).await;
        let changed = changed.map_err(|error| Refused::new(ErrorCode::Internal, error.to_string()))?;
        let Changed { before, now } = changed.map_err(refused)?;
        let mut answer = described(&now);
        answer["before"] = before.into();
        answer["took_ms"] = json!(clock.monotonic().saturating_sub(start).as_secs_f64() * 1e3);
        Ok(Json(answer).into_response())
    }
}

fn refused(error: ChangeError) -> Refused {
    let text = error.to_string();
    match error {
        ChangeError::Busy | ChangeError::Conflict => {
            let mut problem = Problem::rejected(RejectCode::Conflict, text);
            problem.retryable = true;
            Refused(problem)
        }
        ChangeError::Unknown { .. } => Refused::new(ErrorCode::NotFound, text),
        ChangeError::Refused { .. } => Refused(Problem::new(ErrorCode::Invalid, text).with_status(422)),
        ChangeError::Catalog(error) => error.into(),
    }
}
