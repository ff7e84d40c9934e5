//! `/users/{user}/replay`: devices take again what they had.

use axum::Json;
use axum::extract::State;
use heddle_delivery::{ReplayError, ReplayWish};
use heddle_model::{DeviceId, POSITION_MAX, Position, UserId};
use heddle_protocol::{ErrorCode, Problem};
use heddle_store::{AuditEntry, StreamPoint};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Admin, Operator};
use crate::rest::{BodyOf, PathOf, Refused};

/// From where: exactly one of the first three.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// Milliseconds since 1970.
    at: Option<u64>,
    /// Milliseconds before now.
    ago_ms: Option<u64>,
    offset: Option<u64>,
    device: Option<String>,
    #[serde(default)]
    why: String,
}

impl Wanted {
    fn since(&self, now: u64) -> Option<StreamPoint> {
        match (self.at, self.ago_ms, self.offset) {
            (Some(at), None, None) => Some(StreamPoint::Time(at)),
            (None, Some(ago), None) => Some(StreamPoint::Time(now.saturating_sub(ago))),
            (None, None, Some(offset)) => Some(StreamPoint::Position(Position(offset))),
            _ => None,
        }
    }
}

pub(super) async fn replay(
    State(admin): State<Admin>,
    Operator(who): Operator,
    PathOf(user): PathOf<String>,
    body: BodyOf,
) -> Result<Json<Value>, Refused> {
    let wanted = body.json::<Wanted>()?;
    let user = UserId::new(&user)?;
    let device = wanted.device.as_deref().map(DeviceId::new).transpose()?;
    let deps = &admin.core.deps;
    let now = deps.clock.now();
    let since = wanted.since(now).ok_or_else(|| invalid("name one of at, ago_ms and offset"))?;
    let detail = match since {
        StreamPoint::Time(at) => json!({ "user": user.as_str(), "device": wanted.device, "at": at }),
        StreamPoint::Position(Position(offset)) if offset > POSITION_MAX => {
            return Err(invalid(&format!("{offset} is no offset: they are at most {POSITION_MAX}")));
        }
        StreamPoint::Position(offset) => {
            json!({ "user": user.as_str(), "device": wanted.device, "offset": offset })
        }
    };
    let audit = AuditEntry { at: now, who, what: "replay".to_owned(), why: wanted.why, detail: detail.to_string() };
    let wish = ReplayWish { user: user.clone(), since, device, audit };
    let replayed = deps.delivery.replay(wish).await.map_err(refused)?;
    let since_oldest = replayed.oldest.is_some_and(|oldest| matches!(since, StreamPoint::Time(at) if at < oldest));
    Ok(Json(json!({
        "user": user.as_str(),
        "after": replayed.after,
        "events": replayed.events,
        "oldest": replayed.oldest,
        "before_oldest": since_oldest,
        "devices": replayed.devices,
        "connections": replayed.connections,
    })))
}

fn invalid(detail: &str) -> Refused {
    Refused(Problem::new(ErrorCode::Invalid, detail).with_status(422))
}

fn refused(error: ReplayError) -> Refused {
    let detail = error.to_string();
    match error {
        ReplayError::UnknownUser(_) | ReplayError::UnknownDevice { .. } | ReplayError::NoDevice(_) => {
            Refused::new(ErrorCode::NotFound, detail)
        }
        ReplayError::Ahead { .. } | ReplayError::AboveHead { .. } => invalid(&detail),
        ReplayError::TryLater(_) => Refused::new(ErrorCode::Unavailable, detail),
        ReplayError::Store(error) => error.into(),
    }
}
