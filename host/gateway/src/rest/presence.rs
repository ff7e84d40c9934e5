//! `GET /v1/presence?users=a,b`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use heddle_model::{IdError, UserId};
use heddle_policy::Command;
use heddle_protocol::ErrorCode;
use heddle_protocol::limits::USERS_MAX;
use heddle_protocol::rest::Presences;
use serde::Deserialize;

use super::Refused;
use super::extract::{Caller, QueryOf};
use crate::core::Core;
use crate::encode::wire_presence;

#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    users: String,
}

pub(super) async fn get(
    State(core): State<Arc<Core>>,
    caller: Caller,
    QueryOf(asked): QueryOf<Asked>,
) -> Result<Json<Presences>, Refused> {
    let names: Vec<&str> = asked.users.split(',').filter(|name| !name.is_empty()).collect();
    if names.is_empty() || names.len() > USERS_MAX {
        let detail = format!("`users` names {} users, give 1 to {USERS_MAX}, separated by commas", names.len());
        return Err(Refused::new(ErrorCode::Invalid, detail));
    }
    let users = names.into_iter().map(UserId::new).collect::<Result<Vec<UserId>, IdError>>()?;
    caller.may(&core, Command::Presence, 0, None).await?;
    let seen = core.deps.delivery.presence().get(&caller.user, &users).await;
    Ok(Json(Presences { presence: seen.iter().map(wire_presence).collect() }))
}
