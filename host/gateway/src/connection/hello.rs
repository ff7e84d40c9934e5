//! From an open socket to a session.

use std::sync::Arc;
use std::time::Duration;

use heddle_delivery::{OpenError, Opening, Session};
use heddle_model::{DeviceId, Position, brief_hash};
use heddle_policy::{Command as RateCommand, Refusal, RefusalCode};
use heddle_presence::Mark;
use heddle_protocol::{ClientFrame, CloseCode, ErrorCode, ErrorFrame, Gap, GapReason, Hello, HelloOk, ServerFrame};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::outbox::Outbox;
use super::typing::Typing;
use super::unsettled::Unsettled;
use super::{Connection, End, answer, broken};
use crate::auth::{AuthError, Identity};
use crate::core::{Asker, Core};
use crate::encode;
use crate::limits::{FrameBudget, address_mark};
use crate::upgrade::Visitor;

/// Waits for `hello`, checks all that it takes, opens the session and says `hello_ok`.
pub(super) async fn greet(
    core: &Arc<Core>,
    outbox: &mut Outbox,
    visitor: Visitor,
) -> Result<(Connection, Session), End> {
    let left = visitor.deadline.saturating_sub(core.deps.clock.monotonic());
    let (hello, size) = match tokio::time::timeout(left, first_frame(outbox)).await {
        Ok(first) => first?,
        Err(_) => {
            return Err(End::Close(CloseCode::NoAnswer, CloseCode::NoAnswer.reason_with("no hello in time")));
        }
    };
    let Identity { user, until, issued, .. } = match visitor.identity {
        Some(identity) => identity,
        None => match identify(core, &hello).await {
            Ok(identity) => identity,
            Err(error) => return Err(unauthorized(core, outbox, &error).await),
        },
    };
    drop(visitor.anonymous);
    let Ok(device) = DeviceId::new(&hello.device) else {
        return Err(End::Close(CloseCode::Malformed, CloseCode::Malformed.reason_with("the device is too long")));
    };
    let id = core.next_connection();
    let mark = Mark { device: brief_hash(device.as_str().as_bytes()), address: address_mark(visitor.ip) };
    let (max, elsewhere) = (core.config().connections_per_user_max, core.deps.delivery.presence().elsewhere(&user));
    let Some(slot) = core.counts.join(&user, &device, id, max, &elsewhere) else {
        let detail = format!("{max} devices of this user are connected");
        return Err(End::Close(CloseCode::TooManyConnections, CloseCode::TooManyConnections.reason_with(&detail)));
    };
    let asker = Asker { user: &user, ip: visitor.ip, connection: Some(id) };
    let generation = core.deps.policies.current();
    if let Err(refusal) = core.ask_rate(&generation, asker, RateCommand::Connect, size, None).await {
        outbox.send_all(vec![encode::text(&ServerFrame::Error(not_let_in(&refusal)))]).await?;
        return Err(End::with(CloseCode::TryLater));
    }
    let resume = hello.resume.map(Position);
    let opening = Opening { user: user.clone(), device: device.clone(), issued, connection: id, resume, mark };
    let (session, opened) = match core.deps.delivery.open(opening).await {
        Ok(opened) => opened,
        Err(OpenError::TryLater(reason)) => {
            outbox.send_all(vec![try_later(&reason)]).await?;
            return Err(End::with(CloseCode::TryLater));
        }
        Err(OpenError::Revoked) => return Err(unauthorized(core, outbox, &AuthError::Revoked).await),
    };
    let ok = HelloOk {
        session: format!("{}-{id}", core.deps.node),
        user: user.to_string(),
        device: device.to_string(),
        offset: opened.offset.0,
        heartbeat_ms: core.config().heartbeat_ms,
        resumed: opened.resumed,
        gap: opened.gap.map(|gap| Gap {
            reason: match gap {
                heddle_delivery::Gap::AboveHead => GapReason::AboveHead,
                heddle_delivery::Gap::Lost => GapReason::Lost,
            },
        }),
    };
    let now = core.deps.clock.monotonic();
    let connection = Connection {
        core: Arc::clone(core),
        id,
        user,
        device,
        ip: visitor.ip,
        mark,
        until,
        typing: Typing::default(),
        unsettled: Unsettled::default(),
        budget: FrameBudget::full(core.config().frames_burst_max, now),
        heard: true,
        next_ping: now + Duration::from_millis(core.config().heartbeat_ms),
        reported: None,
        acked: opened.offset.0,
        turn: None,
        _slots: (visitor.permit, visitor.address, slot),
    };
    let mut out = vec![encode::text(&ServerFrame::HelloOk(ok))];
    connection.watch_contacts(&mut out).await;
    match outbox.send_all(out).await {
        Ok(()) => Ok((connection, session)),
        Err(end) => {
            session.close().await;
            Err(end)
        }
    }
}

impl Connection {
    /// A device is subscribed to its user's contacts by itself. Presence is a hint: without the store there is none.
    async fn watch_contacts(&self, out: &mut Vec<Utf8Bytes>) {
        let delivery = &self.core.deps.delivery;
        let Ok(mut contacts) = delivery.contacts(&self.user).await else { return };
        contacts.truncate(heddle_protocol::limits::USERS_MAX);
        if contacts.is_empty() {
            return;
        }
        if let Ok(seen) = delivery.presence().subscribe(&self.user, &self.socket(), &contacts).await {
            out.extend(seen.iter().map(|seen| encode::text(&ServerFrame::PresenceUpdate(encode::wire_presence(seen)))));
        }
    }
}

async fn first_frame(outbox: &mut Outbox) -> Result<(Hello, usize), End> {
    loop {
        let message = match outbox.next().await {
            None => return Err(End::Gone),
            Some(Err(error)) => return Err(broken(&error)),
            Some(Ok(message)) => message,
        };
        match message {
            Message::Text(text) => match heddle_protocol::parse(&text) {
                Ok(command) => match command.frame {
                    ClientFrame::Hello(hello) => return Ok((hello, text.len())),
                    other => {
                        let mut frame = error(ErrorCode::HelloExpected, "the first frame must be hello");
                        frame.command = Some(other.type_name().to_owned());
                        frame.reference = command.reference;
                        outbox.send_all(vec![encode::text(&ServerFrame::Error(frame))]).await?;
                        let reason = CloseCode::Malformed.reason_with("the first frame must be hello");
                        return Err(End::Close(CloseCode::Malformed, reason));
                    }
                },
                Err(error) => outbox.send_all(vec![encode::text(&answer(&error)?)]).await?,
            },
            Message::Binary(_) => {
                let reason = CloseCode::Malformed.reason_with("a binary frame, and frames are JSON text");
                return Err(End::Close(CloseCode::Malformed, reason));
            }
            Message::Close(_) => return Err(End::Gone),
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
    }
}

async fn identify(core: &Core, hello: &Hello) -> Result<Identity, AuthError> {
    core.auth().verify(hello.token.as_deref().ok_or(AuthError::Missing)?).await
}

async fn unauthorized(core: &Core, outbox: &mut Outbox, refused: &AuthError) -> End {
    core.figures.auth_failed(refused.word());
    let frame = ServerFrame::Error(error(ErrorCode::Unauthorized, &refused.to_string()));
    if let Err(end) = outbox.send_all(vec![encode::text(&frame)]).await {
        return end;
    }
    let code = match refused {
        AuthError::Expired { .. } => CloseCode::TokenExpired,
        AuthError::Revoked => CloseCode::Revoked,
        _ => CloseCode::TokenInvalid,
    };
    End::with(code)
}

/// What a policy says to somebody who connects.
fn not_let_in(refusal: &Refusal) -> ErrorFrame {
    let code = match refusal.code {
        RefusalCode::RateLimited => ErrorCode::RateLimited,
        RefusalCode::Refused => ErrorCode::Refused,
        RefusalCode::PolicyUnavailable => ErrorCode::PolicyUnavailable,
    };
    let mut frame = error(code, &refusal.reason);
    frame.retryable = refusal.retryable;
    frame.retry_after_ms = refusal.retry_after_ms;
    frame
}

/// An `error` with the code's own word on whether to try again.
pub(super) fn error(code: ErrorCode, reason: &str) -> ErrorFrame {
    ErrorFrame {
        command: None,
        reference: None,
        code,
        reason: reason.to_owned(),
        retryable: code.retryable(),
        retry_after_ms: None,
        hint: None,
    }
}

pub(super) fn try_later(reason: &str) -> Utf8Bytes {
    encode::text(&ServerFrame::Error(error(ErrorCode::TryLater, reason)))
}
