//! `heddle explain`: asks a running server who decided about a message.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::Value;

use crate::cli::{ExplainArgs, Output};
use crate::failure::Failure;
use crate::ready::RunFile;

/// The server answers within this.
const DEADLINE: Duration = Duration::from_secs(10);
/// A longer answer is not one.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Asks, and says what stdout should show.
///
/// # Errors
/// If there is no server, no such message, or no right to ask.
pub async fn command(args: &ExplainArgs) -> Result<String, Failure> {
    let id = heddle_model::MessageId::parse(&args.message_id)
        .map_err(|error| Failure::usage(format!("message id {:?}: {error}", args.message_id)))?;
    let (address, token) = match args.admin {
        Some(admin) => (admin, args.token.clone().unwrap_or_else(|| crate::token::DEVELOPMENT_ADMIN_TOKEN.to_owned())),
        None => {
            let found = RunFile::read(&args.data)?;
            (found.admin, args.token.clone().unwrap_or(found.admin_token))
        }
    };
    let answer = tokio::time::timeout(DEADLINE, get(address, &format!("/explain/{id}"), &token))
        .await
        .map_err(|_| Failure::new(format!("{address} did not answer within {} s", DEADLINE.as_secs())))??;
    match args.output {
        Output::Json => Ok(answer.to_string()),
        Output::Text => Ok(people(&answer)),
    }
}

async fn get(address: SocketAddr, path: &str, token: &str) -> Result<Value, Failure> {
    let unreachable = |error: &dyn std::fmt::Display| {
        Failure::missing(format!(
            "no server answers at {address} ({error}): start one with `heddle dev`, or name it with --admin"
        ))
    };
    let stream = tokio::net::TcpStream::connect(address).await.map_err(|error| unreachable(&error))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| unreachable(&error))?;
    let driver = tokio::spawn(connection);
    let request = Request::get(path)
        .header("host", address.to_string())
        .header("authorization", format!("Bearer {token}"))
        .body(Empty::<Bytes>::new())
        .map_err(|error| Failure::usage(format!("the token cannot stand in a header: {error}")))?;
    let response = sender.send_request(request).await.map_err(|error| unreachable(&error))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
        .collect()
        .await
        .map_err(|error| Failure::new(format!("the answer of {address} broke off: {error}")))?
        .to_bytes();
    driver.abort();
    let answer: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    if status.is_success() {
        return Ok(answer);
    }
    let detail = answer.get("detail").or_else(|| answer.get("title")).and_then(Value::as_str).unwrap_or("no detail");
    Err(match status.as_u16() {
        401 | 403 => Failure::usage(format!(
            "{address} refused the admin token ({detail}): name it with --token, or the data directory with --data"
        )),
        404 => Failure::missing(format!("{address} knows no such message: {detail}")),
        other => Failure::new(format!("{address} answered {other}: {detail}")),
    })
}

/// The answer as lines for people.
#[must_use]
pub fn people(answer: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut out = String::new();
    let Some(fields) = answer.as_object() else { return answer.to_string() };
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_array() && !value.is_object()) {
        let _ = writeln!(out, "{:<14} {}", name.replace('_', " "), text(value));
    }
    for decision in decisions(answer) {
        let field = |name: &str| decision.get(name).map_or_else(|| "-".to_owned(), text);
        let fallback = decision.get("fallback").filter(|value| !value.is_null());
        let stood_in = fallback.map_or_else(String::new, |fallback| format!(", after a fault: {}", text(fallback)));
        let plugin = format!("{} {}", field("plugin"), field("version"));
        let _ = writeln!(
            out,
            "{:<10} {:<12} {plugin:<24} {:>5} µs{stood_in}\n           sha256 {}",
            field("hook"),
            field("verdict"),
            field("micros"),
            field("digest")
        );
    }
    out.trim_end().to_owned()
}

/// Wherever in the answer they stand: every object with a hook and a digest.
fn decisions(value: &Value) -> Vec<&Value> {
    match value {
        Value::Object(fields) if fields.contains_key("hook") && fields.contains_key("digest") => vec![value],
        Value::Object(fields) => fields.values().flat_map(decisions).collect(),
        Value::Array(items) => items.iter().flat_map(decisions).collect(),
        _ => Vec::new(),
    }
}
