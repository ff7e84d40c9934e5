//! Blocks: nothing of whom the caller blocks reaches the caller, and they do not see each other.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use heddle_model::UserId;
use heddle_policy::Command;
use heddle_protocol::ErrorCode;
use heddle_protocol::rest::Blocks;
use heddle_store::Noted;

use super::extract::{Caller, done};
use super::{PathOf, Refused};
use crate::core::Core;

pub(super) async fn list(State(core): State<Arc<Core>>, caller: Caller) -> Result<Json<Blocks>, Refused> {
    caller.may(&core, Command::Other, 0, None).await?;
    let blocks = core.deps.delivery.blocks(&caller.user).await?;
    Ok(Json(Blocks { blocks: blocks.iter().map(ToString::to_string).collect() }))
}

pub(super) async fn add(core: State<Arc<Core>>, caller: Caller, user: PathOf<String>) -> Result<Response, Refused> {
    set(core, caller, user, true).await
}

pub(super) async fn remove(core: State<Arc<Core>>, caller: Caller, user: PathOf<String>) -> Result<Response, Refused> {
    set(core, caller, user, false).await
}

async fn set(
    State(core): State<Arc<Core>>,
    caller: Caller,
    PathOf(user): PathOf<String>,
    holds: bool,
) -> Result<Response, Refused> {
    let user = UserId::new(&user)?;
    caller.may(&core, Command::Other, 0, None).await?;
    if user == caller.user {
        return Err(Refused::new(ErrorCode::Invalid, "nobody blocks themselves"));
    }
    match core.deps.delivery.set_block(&caller.user, &user, holds).await? {
        Noted::Changed | Noted::Unchanged => Ok(done()),
        Noted::Full => {
            let detail = "you block as many users as the server allows (users.blocks_max): let one of them go first";
            Err(Refused::new(ErrorCode::Refused, detail))
        }
    }
}
