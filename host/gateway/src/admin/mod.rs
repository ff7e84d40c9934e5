//! The operators' listener: health, figures and its own description without a token, everything else with one; in `dev` the page `/try`.

mod dead;
mod nodes;
mod partitions;
mod policies;
mod replay;
mod users;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::{FromRequestParts, State};
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use heddle_model::{Decision, MessageId, UserId};
use heddle_protocol::{ErrorCode, Problem};
use hyper::http::request::Parts;
use hyper::{StatusCode, header};
use serde_json::{Value, json};

use crate::auth::{AuthError, mint};
use crate::config::Reloaded;
use crate::core::Core;
use crate::rest::{PathOf, Refused, method_not_allowed, not_found};
use crate::role::Role;

const DOCUMENT: &str = include_str!("../../assets/admin-openapi.json");
const TRY_PAGE: &str = include_str!("../../assets/try/index.html");

#[derive(Clone)]
struct Admin {
    core: Arc<Core>,
    client_address: Option<SocketAddr>,
}

/// Somebody who may look.
struct Viewer;

/// Somebody who may look, and perhaps at what people wrote.
struct Reader {
    /// At least an operator.
    bodies: bool,
}

/// Somebody who may run the node, by name.
struct Operator(String);

/// Somebody who may change what decides: whose name stands in the audit.
struct PolicyAdmin(String);

impl FromRequestParts<Admin> for Viewer {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, admin: &Admin) -> Result<Self, Refused> {
        admin.verified(parts, Role::Viewer).await.map(|_| Self)
    }
}

impl FromRequestParts<Admin> for Reader {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, admin: &Admin) -> Result<Self, Refused> {
        admin.verified(parts, Role::Viewer).await?;
        Ok(Self { bodies: admin.core.auth().verify_role(&parts.headers, Role::Operator).await.is_ok() })
    }
}

impl FromRequestParts<Admin> for Operator {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, admin: &Admin) -> Result<Self, Refused> {
        admin.verified(parts, Role::Operator).await.map(Self)
    }
}

impl FromRequestParts<Admin> for PolicyAdmin {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, admin: &Admin) -> Result<Self, Refused> {
        admin.verified(parts, Role::PolicyAdmin).await.map(Self)
    }
}

impl Admin {
    async fn verified(&self, parts: &Parts, wanted: Role) -> Result<String, Refused> {
        let verified = self.core.auth().verify_role(&parts.headers, wanted).await;
        verified.map_err(|error| {
            self.core.figures.auth_failed(error.word());
            let missing = matches!(error, AuthError::Role { .. });
            let code = if missing { ErrorCode::Forbidden } else { ErrorCode::Unauthorized };
            Refused::new(code, error.to_string())
        })
    }
}

pub(crate) fn router(core: Arc<Core>, client_address: Option<SocketAddr>) -> Router {
    let dev = core.config().dev.is_some();
    let router = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/version", get(version))
        .route("/metrics", get(metrics))
        .route("/openapi.json", get(document))
        .route("/explain/{message}", get(explain))
        .merge(policies::routes())
        .route("/connections", get(connections))
        .route("/nodes", get(nodes::nodes))
        .route("/log/dead", get(dead::list))
        .route("/log/partitions", get(partitions::show).post(partitions::repartition))
        .route("/users/{user}", get(users::show))
        .route("/users/{user}/revocation", put(users::revoke).delete(users::restore))
        .route("/users/{user}/replay", post(replay::replay))
        .route("/config/reload", post(reload));
    // The page opens with tokens that it gets here: only where the secret behind them is published anyway.
    let router = if dev {
        router
            .route("/try", get(async || Html(TRY_PAGE)))
            .route("/try/", get(async || Html(TRY_PAGE)))
            .route("/try/tokens", get(try_tokens))
    } else {
        router
    };
    router
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(Admin { core, client_address })
}

/// OpenAPI 3.1, without a token.
async fn document() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT).into_response()
}

async fn readyz(State(admin): State<Admin>) -> Response {
    let ready = if admin.core.draining.is_cancelled() {
        Err("shutting down".to_owned())
    } else {
        (admin.core.deps.readiness)().and_then(|()| admin.core.auth().ready())
    };
    match ready {
        Ok(()) => "ready\n".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")).into_response(),
    }
}

async fn version(State(admin): State<Admin>) -> Json<Value> {
    let generation = admin.core.deps.policies.current().number();
    Json(json!({
        "name": "heddle",
        "version": admin.core.deps.version,
        "node": admin.core.deps.node.as_str(),
        "generation": generation,
    }))
}

async fn metrics(State(admin): State<Admin>) -> Response {
    let core = &admin.core;
    for (section, certificate) in core.config().certificates() {
        let (until, now) = (Duration::from_millis(certificate.until()), Duration::from_millis(core.deps.clock.now()));
        core.figures.certificate(section, until.as_secs_f64() - now.as_secs_f64());
    }
    let text = (core.deps.metrics)();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

async fn explain(
    State(admin): State<Admin>,
    _: Viewer,
    PathOf(message): PathOf<String>,
) -> Result<Json<Value>, Refused> {
    let id = MessageId::parse(&message)?;
    let explained = admin.core.deps.delivery.explain(&id).await?;
    let explained = explained.ok_or_else(|| Refused::new(ErrorCode::NotFound, format!("there is no message {id}")))?;
    let message = &explained.message;
    let decisions: Vec<Value> = message.stamp.decisions.iter().chain(&explained.sorted).map(decision).collect();
    Ok(Json(json!({
        "message_id": message.id.to_string(),
        "sender": message.sender.as_str(),
        "addressed": message.addressed.to_string(),
        "to": message.to.to_string(),
        "sent_at": message.sent_at,
        "order": explained.position.0,
        "partition": explained.partition.to_string(),
        "generation": message.stamp.generation,
        "discarded": message.discarded,
        "rewritten": message.rewritten,
        "decisions": decisions,
    })))
}

fn decision(decision: &Decision) -> Value {
    json!({
        "hook": decision.hook,
        "plugin": decision.plugin,
        "version": decision.version,
        "digest": decision.digest.to_string(),
        "micros": decision.micros,
        "verdict": decision.verdict,
        "fallback": decision.fallback,
    })
}

async fn connections(State(admin): State<Admin>, _: Viewer) -> Json<Value> {
    let (users, addresses) = admin.core.counts.sizes();
    Json(json!({
        "connections": admin.core.open.load(Ordering::Relaxed),
        "users": users,
        "addresses": addresses,
        "draining": admin.core.draining.is_cancelled(),
    }))
}

async fn reload(State(admin): State<Admin>, operator: Operator) -> Result<Json<Reloaded>, Refused> {
    let reloaded = admin.core.reload(&operator.0).await;
    reloaded.map(Json).map_err(|wrong| Refused(Problem::new(ErrorCode::Invalid, wrong).with_status(422)))
}

#[derive(serde::Deserialize)]
struct TryQuery {
    user: Option<String>,
}

/// Development only: the secret behind these tokens is published anyway.
async fn try_tokens(State(admin): State<Admin>, query: axum::extract::Query<TryQuery>) -> Result<Json<Value>, Refused> {
    let config = admin.core.config();
    let Some(dev) = &config.dev else {
        return Err(Refused::new(ErrorCode::NotFound, "there is no /try/tokens"));
    };
    let now = admin.core.deps.clock.now();
    let token = |user: &str, role| {
        mint(&dev.secret, user, role, now, dev.token_life_ms)
            .map_err(|error| Refused::new(ErrorCode::Internal, format!("no token could be made: {error}")))
    };
    let mut tokens = serde_json::Map::new();
    match &query.user {
        Some(user) => {
            let user = UserId::new(user)?;
            tokens.insert(user.to_string(), token(user.as_str(), Role::Client)?.into());
        }
        None => {
            for user in &dev.users {
                tokens.insert(user.clone(), token(user, Role::Client)?.into());
            }
        }
    }
    let admin_token = token("operator", Role::PolicyAdmin)?;
    Ok(Json(json!({"client": admin.client_address, "tokens": tokens, "admin_token": admin_token})))
}
