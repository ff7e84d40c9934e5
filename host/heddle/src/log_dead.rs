//! `heddle log dead`: asks a running server which records were given up. (DELIVERY 13)

use std::time::Duration;

use hyper::Method;
use hyper::body::Bytes;
use serde_json::Value;

use crate::cli::{LogDeadArgs, Output};
use crate::failure::Failure;

/// The server answers within this.
const DEADLINE: Duration = Duration::from_secs(10);

/// The text for stdout.
///
/// # Errors
/// If there is no server, no right to ask, or its store does not answer.
pub async fn command(args: &LogDeadArgs) -> Result<String, Failure> {
    let client = args.server.client(DEADLINE)?;
    let answer = client.ask(Method::GET, &format!("/log/dead?limit={}", args.limit), Bytes::new()).await?;
    let answer = answer.map_err(|refusal| {
        Failure::new(format!("{} answered {}: {}", client.address(), refusal.status, refusal.detail))
    })?;
    Ok(match args.output {
        Output::Json => answer.to_string(),
        Output::Text => shown(&answer),
    })
}

/// A record a line.
fn shown(answer: &Value) -> String {
    let dead = answer["dead"].as_array().map(Vec::as_slice).unwrap_or_default();
    if dead.is_empty() {
        return "no record was given up".to_owned();
    }
    let line = |row: &Value| {
        let at = row["at"].as_u64().unwrap_or_default();
        let at = humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + Duration::from_millis(at));
        let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        format!(
            "{at}  {} at {}, {} bytes, by the {}: {}",
            text("partition"),
            row["position"],
            row["bytes"],
            text("by"),
            text("error")
        )
    };
    dead.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::shown;

    #[test]
    fn a_record_that_was_given_up_is_a_line_with_place_time_and_reason() {
        let row = json!({ "partition": "messages/3", "position": 7, "by": "worker", "error": "it is short", "at": 86_400_000, "bytes": 9 });
        let text = shown(&json!({ "dead": [row] }));
        assert_eq!(text, "1970-01-02T00:00:00Z  messages/3 at 7, 9 bytes, by the worker: it is short");
        assert_eq!(shown(&json!({ "dead": [] })), "no record was given up");
    }
}
