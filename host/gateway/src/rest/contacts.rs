//! Contacts: directed, `bob` sees more of `alice` if `alice` listed `bob`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use heddle_model::UserId;
use heddle_policy::Command;
use heddle_protocol::rest::Contacts;

use super::extract::{Caller, done};
use super::{PathOf, Refused};
use crate::core::Core;

pub(super) async fn list(State(core): State<Arc<Core>>, caller: Caller) -> Result<Json<Contacts>, Refused> {
    caller.may(&core, Command::Other, 0, None).await?;
    let contacts = core.deps.delivery.contacts(&caller.user).await?;
    Ok(Json(Contacts { contacts: contacts.iter().map(ToString::to_string).collect() }))
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
    listed: bool,
) -> Result<Response, Refused> {
    let user = UserId::new(&user)?;
    caller.may(&core, Command::Other, 0, None).await?;
    core.deps.delivery.set_contact(&caller.user, &user, listed).await?;
    Ok(done())
}
