//! `heddle replay`: asks a running server to give a user's devices again what they had.

use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::admin::quoted;
use crate::cli::{Output, ReplayArgs};
use crate::failure::Failure;

/// The server answers within this: it may wait for its archive.
const DEADLINE: Duration = Duration::from_secs(20);

/// Asks, and says what stdout should show.
///
/// # Errors
/// If there is no server, no such user, device or moment, or no right to ask.
pub async fn command(args: &ReplayArgs) -> Result<String, Failure> {
    let mut body = since(&args.since)?;
    body["why"] = args.why.clone().into();
    if let Some(device) = &args.device {
        body["device"] = device.clone().into();
    }
    let client = args.server.client(DEADLINE)?;
    let path = format!("/users/{}/replay", quoted(&args.user));
    let answer = client.ask(Method::POST, &path, body.to_string().into()).await?;
    let answer = answer.map_err(|refusal| match refusal.status {
        StatusCode::NOT_FOUND => Failure::missing(refusal.detail),
        status if status.is_client_error() => Failure::usage(refusal.detail),
        status => Failure::new(format!("{} answered {status}: {}", client.address(), refusal.detail)),
    })?;
    Ok(match args.output {
        Output::Json => answer.to_string(),
        Output::Text => people(&answer),
    })
}

/// An offset, a span before now, or a moment.
fn since(text: &str) -> Result<Value, Failure> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let offset = text.parse::<u64>().map_err(|error| Failure::usage(format!("--since {text}: {error}")))?;
        return Ok(json!({ "offset": offset }));
    }
    if let Some(span) = crate::config::span(text.trim_end_matches("ago").trim_end()) {
        return Ok(json!({ "ago_ms": u64::try_from(span.as_millis()).unwrap_or(u64::MAX) }));
    }
    let moment = humantime::parse_rfc3339_weak(text).ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let moment = moment.ok_or_else(|| {
        Failure::usage(format!(
            "--since {text:?} is no moment: write one like 2026-01-31T08:00:00Z, a span before now like '2 h', or an offset"
        ))
    })?;
    Ok(json!({ "at": u64::try_from(moment.as_millis()).unwrap_or(u64::MAX) }))
}

fn people(answer: &Value) -> String {
    let devices: Vec<&str> = answer["devices"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut out = format!(
        "{} goes back to offset {} on {}, and takes {} events from there",
        answer["user"].as_str().unwrap_or("-"),
        answer["after"],
        devices.join(", "),
        answer["events"]
    );
    if answer["before_oldest"] == true {
        let oldest = Duration::from_millis(answer["oldest"].as_u64().unwrap_or_default());
        let oldest = humantime::format_rfc3339_seconds(UNIX_EPOCH + oldest);
        let _ = write!(out, "\nnothing from before {oldest} is kept: that is all there is");
    }
    let _ = write!(
        out,
        "\n{} connected now, told to come again at once; other devices go back when they connect next",
        answer["connections"]
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_goes_back_and_where_is_one_sentence() {
        let answer = json!({
            "user": "bob", "after": 0, "events": 4, "devices": ["phone", "tablet"], "connections": 1,
            "before_oldest": true, "oldest": 1_000,
        });
        assert_eq!(
            people(&answer),
            "bob goes back to offset 0 on phone, tablet, and takes 4 events from there\n\
             nothing from before 1970-01-01T00:00:01Z is kept: that is all there is\n\
             1 connected now, told to come again at once; other devices go back when they connect next"
        );
    }

    #[test]
    fn a_point_is_an_offset_a_span_or_a_moment() {
        for (text, wanted) in [
            ("8796093022208", json!({ "offset": 8_796_093_022_208_u64 })),
            ("0", json!({ "offset": 0 })),
            ("2 h", json!({ "ago_ms": 7_200_000 })),
            ("90 min ago", json!({ "ago_ms": 5_400_000 })),
            ("1970-01-01T00:00:01Z", json!({ "at": 1_000 })),
            ("1970-01-01 00:00:01.5", json!({ "at": 1_500 })),
        ] {
            assert_eq!(since(text).unwrap(), wanted, "{text}");
        }
        for text in ["", "yesterday", "-3", "2 fortnights", "1969-01-01T00:00:00Z"] {
            assert!(since(text).unwrap_err().to_string().contains("no moment"), "{text}");
        }
    }
}
