//! The policy set, seen and changed while it decides. One request is one change; every change is a row of the audit.

use axum::extract::{FromRequest, Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, post, put};
use axum::{Json, Router};
use bytes::Bytes;
use heddle_model::{Digest, Hook};
use heddle_policy::{
    ArmTally, Change, ChangeError, Changed, Generation, OlderNumbers, PluginRef, PolicyInfo, Seal, Standing, TrialMode,
    TrialReport,
};
use heddle_protocol::{ErrorCode, Problem, RejectCode};
use hyper::header::CONTENT_TYPE;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Admin, Operator, PolicyAdmin, Reader, Viewer};
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
        .route("/policies/plugins/{plugin}/enabled", put(enable))
        .route("/policies/trial", get(trial).delete(abandon))
        .route("/policies/trial/promote", post(promote))
        .route("/policies/chains/{hook}", put(chain))
        .route("/policies/rollback", post(rollback))
        .route("/policies/revoke", post(revoke))
        .route("/policies/recorded", get(recorded))
        .route("/policies/files/{digest}", get(file))
}

fn described(generation: &Generation) -> Value {
    let policy = |info: PolicyInfo| {
        json!({
            "hook": info.hook,
            "name": info.name,
            "version": info.version,
            "digest": info.digest.to_string(),
            "standing": standing(info.standing),
            "on_failure": info.on_failure,
            "config": info.config,
            "micros": info.micros,
            "calls": info.tally.calls,
            "faults": info.tally.faults,
            "refusals": info.tally.refusals,
        })
    };
    let policies: Vec<Value> = generation.describe().into_iter().map(policy).collect();
    json!({"generation": generation.number(), "policies": policies})
}

fn standing(standing: Standing) -> String {
    match standing {
        Standing::Decides => "decides".to_owned(),
        Standing::Disabled => "disabled".to_owned(),
        Standing::Trial(TrialMode::Shadow) => "shadow".to_owned(),
        Standing::Trial(TrialMode::Canary { percent }) => format!("canary {percent} %"),
    }
}

async fn show(State(admin): State<Admin>, _: Viewer) -> Json<Value> {
    let policies = &admin.core.deps.policies;
    let mut shown = described(&policies.current());
    tell_older(&mut shown, &policies.older());
    Json(shown)
}

fn tell_older(shown: &mut Value, older: &OlderNumbers) {
    shown["draining"] = json!(older.draining);
    shown["loaded"] = json!(older.loaded);
    shown["waiting"] = json!(older.waiting);
    shown["kept"] = json!(older.kept);
}

/// Differences tell who wrote to whom, and perhaps what: not to everybody who may look.
async fn trial(State(admin): State<Admin>, reader: Reader) -> Json<Value> {
    let generation = admin.core.deps.policies.current();
    let report = |mut report: TrialReport| {
        if let Some(shadow) = report.shadow.as_mut().filter(|_| !reader.bodies) {
            shadow.differences.clear();
        }
        let arm = |tally: ArmTally| json!({ "asked": tally.asked, "refused": tally.refused });
        json!({
            "hook": report.hook,
            "name": report.name,
            "version": report.version,
            "standing": standing(Standing::Trial(report.mode)),
            "shadow": report.shadow,
            "canary": report.arms.map(|(own, others)| json!({
                "own": arm(own), "others": arm(others), "calls": report.tally.calls, "faults": report.tally.faults,
            })),
        })
    };
    let trial: Vec<Value> = generation.trial().into_iter().map(report).collect();
    Json(json!({ "generation": generation.number(), "trial": trial }))
}

/// A plugin may write there what people wrote.
async fn plugin_log(State(admin): State<Admin>, _: Operator) -> Json<Value> {
    Json((admin.core.deps.plugin_log)())
}

#[derive(Deserialize)]
struct RecordedQuery {
    /// Milliseconds back from now.
    last_ms: Option<u64>,
    hook: Option<String>,
    plugin: Option<String>,
}

/// A call a line, oldest first.
async fn recorded(
    State(admin): State<Admin>,
    _: Operator,
    QueryOf(query): QueryOf<RecordedQuery>,
) -> Result<Response, Refused> {
    let hook = query.hook.as_deref().map(hook).transpose()?;
    let since = query.last_ms.map_or(0, |last| admin.core.deps.clock.now().saturating_sub(last));
    let mut lines = Vec::new();
    for call in admin.core.deps.policies.recorded(since, hook, query.plugin.as_deref()) {
        serde_json::to_writer(&mut lines, &call)
            .map_err(|error| Refused::new(ErrorCode::Internal, error.to_string()))?;
        lines.push(b'\n');
    }
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], lines).into_response())
}

/// A plugin file of the catalog.
async fn file(State(admin): State<Admin>, _: Viewer, PathOf(hex): PathOf<String>) -> Result<Response, Refused> {
    let unknown = || Refused::new(ErrorCode::NotFound, format!("there is no plugin file with the digest {hex:?}"));
    let digest = Digest::parse(&hex).ok_or_else(unknown)?;
    let bytes = admin.core.deps.policies.file(digest).await?.ok_or_else(unknown)?;
    Ok(([(CONTENT_TYPE, "application/wasm")], bytes).into_response())
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
    _: Viewer,
    QueryOf(query): QueryOf<HistoryQuery>,
) -> Result<Json<Value>, Refused> {
    let policies = &admin.core.deps.policies;
    let rows = policies.history(query.limit.clamp(1, HISTORY_MAX)).await?;
    let (current, older) = (policies.current().number(), policies.older());
    let row = |row: heddle_policy::AuditRow| {
        let detail: Value = serde_json::from_str(&row.detail).unwrap_or(Value::Null);
        let standing = detail["after"]["generation"].as_u64().and_then(|number| match number == current {
            true => Some("decides"),
            false => older.standing(number),
        });
        json!({ "at": row.at, "who": row.who, "what": row.what, "why": row.why, "standing": standing, "detail": detail })
    };
    let mut shown = json!({ "generation": current, "changes": rows.into_iter().map(row).collect::<Vec<_>>() });
    tell_older(&mut shown, &older);
    Ok(Json(shown))
}

/// What a change says beside its body.
#[derive(Deserialize)]
struct ChangeQuery {
    hook: Option<String>,
    #[serde(default)]
    why: String,
    /// As errors name the file.
    file: Option<String>,
    /// `shadow` or `canary`.
    trial: Option<String>,
    /// Of a canary.
    percent: Option<u32>,
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

    fn trial(&self) -> Result<Option<TrialMode>, Refused> {
        match (self.trial.as_deref(), self.percent) {
            (None, _) => Ok(None),
            (Some("shadow"), _) => Ok(Some(TrialMode::Shadow)),
            (Some("canary"), Some(percent)) => Ok(Some(TrialMode::Canary { percent })),
            (Some("canary"), None) => Err(Refused::new(ErrorCode::Invalid, "a canary needs percent=1 to 99")),
            (Some(other), _) => {
                Err(Refused::new(ErrorCode::Invalid, format!("there is no trial {other:?}, use shadow or canary")))
            }
        }
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
    operator: PolicyAdmin,
    QueryOf(query): QueryOf<ChangeQuery>,
    File(bytes): File,
) -> Result<Response, Refused> {
    let source = query.file.clone().unwrap_or_else(|| "the file".to_owned());
    let (hook, trial) = (query.hook()?, query.trial()?);
    let file = PluginRef::file(source, bytes);
    let seal = Seal { signature: query.signature, allow_downgrade: query.allow_downgrade };
    admin.change(operator, Change::Deploy { hook, file, seal, trial }, query.why).await
}

async fn promote(
    State(admin): State<Admin>,
    operator: PolicyAdmin,
    QueryOf(query): QueryOf<ChangeQuery>,
) -> Result<Response, Refused> {
    admin.change(operator, Change::Promote, query.why).await
}

async fn abandon(
    State(admin): State<Admin>,
    operator: PolicyAdmin,
    QueryOf(query): QueryOf<ChangeQuery>,
) -> Result<Response, Refused> {
    admin.change(operator, Change::Abandon, query.why).await
}

/// `true` or `false`.
async fn enable(
    State(admin): State<Admin>,
    operator: PolicyAdmin,
    PathOf(plugin): PathOf<String>,
    QueryOf(query): QueryOf<ChangeQuery>,
    body: BodyOf,
) -> Result<Response, Refused> {
    let (hook, enabled) = (query.hook()?, body.json()?);
    admin.change(operator, Change::Enable { plugin, hook, enabled }, query.why).await
}

async fn remove(
    State(admin): State<Admin>,
    operator: PolicyAdmin,
    PathOf(plugin): PathOf<String>,
    QueryOf(query): QueryOf<ChangeQuery>,
) -> Result<Response, Refused> {
    admin.change(operator, Change::Remove { plugin, hook: query.hook()? }, query.why).await
}

/// `{"burst": 40, "per_second": null}`: null goes back to the manifest's value.
async fn configure(
    State(admin): State<Admin>,
    operator: PolicyAdmin,
    PathOf(plugin): PathOf<String>,
    QueryOf(query): QueryOf<ChangeQuery>,
    body: BodyOf,
) -> Result<Response, Refused> {
    admin.change(operator, Change::Configure { plugin, changes: body.json()? }, query.why).await
}

/// `["inbox-routing", "quiet-hours"]`.
async fn chain(
    State(admin): State<Admin>,
    operator: PolicyAdmin,
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
    operator: PolicyAdmin,
    QueryOf(query): QueryOf<RollbackQuery>,
) -> Result<Response, Refused> {
    admin.change(operator, Change::Rollback { to: query.to }, query.why).await
}

#[derive(Deserialize)]
struct RevokeQuery {
    generation: Option<u64>,
    #[serde(default)]
    why: String,
}

async fn revoke(
    State(admin): State<Admin>,
    operator: PolicyAdmin,
    QueryOf(query): QueryOf<RevokeQuery>,
) -> Result<Response, Refused> {
    admin.change(operator, Change::Revoke { generation: query.generation }, query.why).await
}

impl Admin {
    /// A client that goes away does not stop a change half-way.
    async fn change(self, operator: PolicyAdmin, change: Change, why: String) -> Result<Response, Refused> {
        let request = heddle_policy::Request { change, who: operator.0, why };
        let clock = self.core.deps.clock.clone();
        let start = clock.monotonic();
        let changed = self.core.deps.policies.change_behind(request).await;
        let Changed { before, now } = changed.map_err(refused)?;
        let mut answer = described(&now);
        answer["before"] = before.into();
        answer["took_ms"] = json!(clock.monotonic().saturating_sub(start).as_secs_f64() * 1e3);
        Ok(Json(answer).into_response())
    }
}

pub(super) fn refused(error: ChangeError) -> Refused {
    let text = error.to_string();
    match error {
        ChangeError::Busy | ChangeError::Conflict => {
            let mut problem = Problem::rejected(RejectCode::Conflict, text);
            problem.retryable = true;
            Refused(problem)
        }
        ChangeError::Unknown { .. } => Refused::new(ErrorCode::NotFound, text),
        ChangeError::Refused { .. } | ChangeError::Abandoned { .. } => {
            Refused(Problem::new(ErrorCode::Invalid, text).with_status(422))
        }
        ChangeError::Catalog(error) => error.into(),
        ChangeError::Cluster { .. } => Refused::new(ErrorCode::Unavailable, text),
    }
}
