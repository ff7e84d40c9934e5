//! REST: a call is a command, with the same tokens and the same policies.

mod blocks;
mod contacts;
mod conversations;
mod extract;
mod groups;
mod messages;
mod openapi;
mod presence;
mod problem;

use std::sync::Arc;

use axum::Router;
use axum::routing::{delete, get, post, put};

use crate::core::Core;

pub(crate) use extract::{BodyOf, PathOf, QueryOf, body_of};
pub(crate) use problem::{Refused, method_not_allowed, not_found, problem, read_error};

/// All client paths but the WebSocket.
pub(crate) fn router(core: Arc<Core>) -> Router {
    Router::new()
        .route("/v1/messages", post(messages::send))
        .route("/v1/conversations", get(conversations::list))
        .route("/v1/conversations/{conversation}/messages", get(conversations::history))
        .route("/v1/conversations/{conversation}/mute", put(conversations::mute).delete(conversations::unmute))
        .route("/v1/groups", post(groups::create))
        .route("/v1/groups/{group}", get(groups::read).patch(groups::change).delete(groups::remove))
        .route("/v1/groups/{group}/members", post(groups::add_member))
        .route("/v1/groups/{group}/members/{user}", delete(groups::remove_member))
        .route("/v1/contacts", get(contacts::list))
        .route("/v1/contacts/{user}", put(contacts::add).delete(contacts::remove))
        .route("/v1/blocks", get(blocks::list))
        .route("/v1/blocks/{user}", put(blocks::add).delete(blocks::remove))
        .route("/v1/presence", get(presence::get))
        .route("/v1/openapi.json", get(openapi::document))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(core)
}
