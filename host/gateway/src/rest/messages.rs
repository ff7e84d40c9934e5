//! `POST /v1/messages`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use heddle_delivery::{SendOutcome, Submitted};
use heddle_protocol::{Accepted, ErrorCode, ParseError, RejectCode, Rejected};

use super::Refused;
use super::extract::{BodyOf, Caller};
use crate::core::{Core, accepted, conversation, rejected};

pub(super) async fn send(
    State(core): State<Arc<Core>>,
    caller: Caller,
    body: BodyOf,
) -> Result<Json<Accepted>, Refused> {
    let began = core.deps.clock.monotonic();
    let message = heddle_protocol::parse_send(body.text()?).map_err(refused)?;
    let to = conversation(&message.target)?;
    let submission = core.submission(caller.asker(), to, message, body.0.len()).await?;
    let outcome = match core.deps.delivery.submit(submission).await {
        Submitted::Settled(outcome) => outcome,
        Submitted::Appending(outcome) => outcome.await,
    };
    let took = core.deps.clock.monotonic().saturating_sub(began);
    match outcome {
        SendOutcome::Accepted(outcome) => {
            core.figures.send_settled(took, "accepted");
            Ok(Json(accepted(outcome)))
        }
        SendOutcome::Rejected(outcome) => {
            let outcome = rejected(outcome);
            core.figures.send_settled(took, outcome.code.as_str());
            Err(outcome.into())
        }
    }
}

fn refused(error: ParseError) -> Refused {
    let reason = error.to_string();
    match error {
        ParseError::TooLarge { client_id, .. } => Rejected::new(client_id, RejectCode::TooLarge, reason).into(),
        _ => Refused::new(ErrorCode::Invalid, reason),
    }
}
