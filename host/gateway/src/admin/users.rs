//! `/users`: whose tokens are taken back. Every change is a row of the audit.

use axum::Json;
use axum::extract::State;
use heddle_model::{Millis, UserId};
use heddle_protocol::ErrorCode;
use heddle_store::{AuditEntry, Noted, Revocation};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Admin, Operator, Viewer};
use crate::rest::{BodyOf, PathOf, QueryOf, Refused};

/// No token is issued later: all of them are refused.
const FOR_EVER: Millis = i64::MAX as Millis;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    #[serde(default)]
    why: String,
    /// Tokens that are issued later too.
    #[serde(default)]
    new_tokens: bool,
}

#[derive(Deserialize)]
pub(super) struct Why {
    #[serde(default)]
    why: String,
}

pub(super) async fn show(
    State(admin): State<Admin>,
    _: Viewer,
    PathOf(user): PathOf<String>,
) -> Result<Json<Value>, Refused> {
    let (user, delivery) = (UserId::new(&user)?, &admin.core.deps.delivery);
    let revocation = delivery.revocation(&user).await?;
    Ok(Json(json!({
        "user": user.as_str(),
        "seen_since": delivery.seen_since(&user).await?,
        "asked": admin.core.deps.node.as_str(),
        "connections_here": delivery.connections_here(&user),
        "revocation": revocation.as_ref().map(shown),
    })))
}

pub(super) async fn revoke(
    State(admin): State<Admin>,
    Operator(who): Operator,
    PathOf(user): PathOf<String>,
    body: BodyOf,
) -> Result<Json<Value>, Refused> {
    let (user, wanted) = (UserId::new(&user)?, body.json::<Wanted>()?);
    let at = admin.core.deps.clock.now();
    let upto = if wanted.new_tokens { FOR_EVER } else { at };
    let revocation = Revocation { user, upto, at, who, why: wanted.why };
    let audit = AuditEntry {
        at,
        who: revocation.who.clone(),
        what: "revoke user".to_owned(),
        why: revocation.why.clone(),
        detail: shown(&revocation).to_string(),
    };
    tracing::info!(who = revocation.who, user = %revocation.user, wanted.new_tokens, "a user is revoked");
    match admin.core.deps.delivery.revoke(revocation.clone(), audit).await? {
        Noted::Changed | Noted::Unchanged => Ok(Json(shown(&revocation))),
        Noted::Full => {
            let detail = "as many users are revoked as may be (users.revoked_max): restore some, or raise it";
            Err(Refused::new(ErrorCode::Conflict, detail))
        }
    }
}

pub(super) async fn restore(
    State(admin): State<Admin>,
    Operator(who): Operator,
    PathOf(user): PathOf<String>,
    QueryOf(Why { why }): QueryOf<Why>,
) -> Result<Json<Value>, Refused> {
    let user = UserId::new(&user)?;
    let at = admin.core.deps.clock.now();
    let detail = json!({ "user": user.as_str() }).to_string();
    tracing::info!(who, %user, "a user is restored");
    let audit = AuditEntry { at, who, what: "restore user".to_owned(), why, detail };
    if admin.core.deps.delivery.restore(&user, audit).await? {
        return Ok(Json(json!({ "user": user.as_str(), "revocation": null })));
    }
    Err(Refused::new(ErrorCode::NotFound, format!("{user} is not revoked")))
}

fn shown(revocation: &Revocation) -> Value {
    json!({
        "user": revocation.user.as_str(),
        "at": revocation.at,
        "who": revocation.who,
        "why": revocation.why,
        "new_tokens": revocation.upto == FOR_EVER,
    })
}
