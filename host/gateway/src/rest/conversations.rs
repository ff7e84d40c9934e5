//! Conversations, their history, their mutes.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use heddle_delivery::{Status, ViewedMessage};
use heddle_model::{Conversation, MessageId, UserId};
use heddle_policy::Command;
use heddle_protocol::ErrorCode;
use heddle_protocol::limits::{HISTORY_PAGE_DEFAULT, HISTORY_PAGE_MAX};
use heddle_protocol::rest::{ConversationSummary, Conversations, History, HistoryMessage, HistoryQuery, MessageStatus};
use heddle_store::HistoryAnchor;

use super::extract::{Caller, QueryOf, done};
use super::{PathOf, Refused};
use crate::core::Core;
use crate::encode::{wire_conversation, wire_data, wire_tags, wire_target};

/// Conversations in one answer.
const CONVERSATIONS_MAX: u32 = 500;

pub(super) async fn list(State(core): State<Arc<Core>>, caller: Caller) -> Result<Json<Conversations>, Refused> {
    caller.may(&core, Command::History, 0, None).await?;
    let views = core.deps.delivery.conversations(&caller.user, CONVERSATIONS_MAX).await?;
    let summary = |view: heddle_delivery::ConversationView| ConversationSummary {
        conversation: wire_conversation(&view.conversation),
        name: view.name.map(String::from),
        unread: view.unread,
        muted: view.muted,
        last_message: view.last.map(|last| message(&last, &caller.user)),
    };
    Ok(Json(Conversations { conversations: views.into_iter().map(summary).collect() }))
}

pub(super) async fn history(
    State(core): State<Arc<Core>>,
    caller: Caller,
    PathOf(name): PathOf<String>,
    QueryOf(query): QueryOf<HistoryQuery>,
) -> Result<Json<History>, Refused> {
    let conversation = Conversation::parse(&name)?;
    let anchor = match (&query.before, &query.after) {
        (Some(_), Some(_)) => {
            return Err(Refused::new(ErrorCode::Invalid, "give one of `before` and `after`, not both"));
        }
        (Some(before), None) => HistoryAnchor::Before(MessageId::parse(before)?),
        (None, Some(after)) => HistoryAnchor::After(MessageId::parse(after)?),
        (None, None) => HistoryAnchor::Newest,
    };
    let limit = query.limit.unwrap_or(HISTORY_PAGE_DEFAULT);
    if !(1..=HISTORY_PAGE_MAX).contains(&limit) {
        return Err(Refused::new(ErrorCode::Invalid, format!("limit is {limit}, give 1 to {HISTORY_PAGE_MAX}")));
    }
    caller.may(&core, Command::History, 0, Some(&conversation)).await?;
    let view = core.deps.delivery.history(&caller.user, &conversation, anchor, limit).await?;
    let view = view
        .ok_or_else(|| Refused::new(ErrorCode::NotFound, format!("conversation {conversation} is not one of yours")))?;
    let messages = view.messages.iter().map(|viewed| message(viewed, &caller.user)).collect();
    Ok(Json(History { messages, more: view.more }))
}

pub(super) async fn mute(core: State<Arc<Core>>, caller: Caller, name: PathOf<String>) -> Result<Response, Refused> {
    set_mute(core, caller, name, true).await
}

pub(super) async fn unmute(core: State<Arc<Core>>, caller: Caller, name: PathOf<String>) -> Result<Response, Refused> {
    set_mute(core, caller, name, false).await
}

async fn set_mute(
    State(core): State<Arc<Core>>,
    caller: Caller,
    PathOf(name): PathOf<String>,
    muted: bool,
) -> Result<Response, Refused> {
    let conversation = Conversation::parse(&name)?;
    caller.may(&core, Command::Other, 0, Some(&conversation)).await?;
    core.deps.delivery.set_mute(&caller.user, &conversation, muted).await?;
    Ok(done())
}

fn message(viewed: &ViewedMessage, viewer: &UserId) -> HistoryMessage {
    let message = &viewed.message;
    HistoryMessage {
        message_id: message.id.to_string(),
        from: message.sender.to_string(),
        target: wire_target(&message.to),
        text: message.text.as_deref().map(str::to_owned),
        data: message.data.as_ref().and_then(wire_data),
        tags: wire_tags(&message.tags),
        sent_at: message.sent_at,
        lamport: message.lamport,
        order: viewed.order.0,
        offset: (viewed.position.0 > 0).then_some(viewed.position.0),
        client_id: (message.sender == *viewer).then(|| message.client_id.to_string()),
        status: match viewed.status {
            Status::Sent => MessageStatus::Sent,
            Status::Delivered => MessageStatus::Delivered,
            Status::Read => MessageStatus::Read,
        },
    }
}
