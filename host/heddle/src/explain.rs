//! `heddle explain`: asks a running server who decided about a message.

use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use hyper::body::Bytes;
use hyper::{Method, StatusCode};
use serde_json::Value;

use crate::cli::{ExplainArgs, Output};
use crate::failure::Failure;

/// The server answers within this.
const DEADLINE: Duration = Duration::from_secs(10);

/// Asks, and says what stdout should show.
///
/// # Errors
/// If there is no server, no such message, or no right to ask.
pub async fn command(args: &ExplainArgs) -> Result<String, Failure> {
    let id = heddle_model::MessageId::parse(&args.message_id)
        .map_err(|error| Failure::usage(format!("{error}; `accepted` names it, and so does heddle log cat")))?;
    let client = args.server.client(DEADLINE)?;
    let answer = client.ask(Method::GET, &format!("/explain/{id}"), Bytes::new()).await?;
    let answer = answer.map_err(|refusal| match refusal.status {
        StatusCode::NOT_FOUND => {
            Failure::missing(format!("{} knows no such message: {}", client.address(), refusal.detail))
        }
        status => Failure::new(format!("{} answered {status}: {}", client.address(), refusal.detail)),
    })?;
    match args.output {
        Output::Json => Ok(answer.to_string()),
        Output::Text => Ok(people(&answer)),
    }
}

/// The answer as lines for people.
#[must_use]
pub fn people(answer: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut out = String::new();
    let Some(fields) = answer.as_object() else { return answer.to_string() };
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_array() && !value.is_object()) {
        let shown = value.as_u64().filter(|_| name.ends_with("_at")).map_or_else(|| text(value), moment);
        let _ = writeln!(out, "{:<14} {shown}", name.replace('_', " "));
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

fn moment(at_ms: u64) -> String {
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(at_ms)).to_string()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_read_moments_as_dates_and_each_decision_with_its_fallback() {
        let decision = serde_json::json!({"hook": "routing", "plugin": "guard", "version": "1.1.0", "verdict": "accept",
            "micros": 27, "digest": "ab12", "fallback": "builtin"});
        let shown = people(&serde_json::json!({"sent_at": 1_700_000_000_123_u64, "order": 4, "decisions": [decision]}));
        assert!(shown.contains("sent at        2023-11-14T22:13:20.123Z"), "{shown}");
        assert!(shown.contains("order          4"), "{shown}");
        assert!(shown.contains("27 µs, after a fault: builtin"), "{shown}");
    }
}
