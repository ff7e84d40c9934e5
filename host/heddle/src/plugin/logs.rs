//! `heddle plugin logs`: what plugins wrote, as the running server keeps it.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, UNIX_EPOCH};

use hyper::Method;
use hyper::body::Bytes;
use serde_json::{Value, json};

use super::args::AskArgs;
use super::change::answer;
use crate::cli::Output;
use crate::failure::Failure;

/// Between two questions while it follows.
const PAUSE: Duration = Duration::from_millis(500);

/// Prints what is kept; then, if asked to, what comes, until it is interrupted.
///
/// # Errors
/// The server does not answer.
pub async fn command(
    plugin: Option<&str>,
    follow: bool,
    limit: usize,
    ask: &AskArgs,
    out: &mut impl Write,
) -> Result<String, Failure> {
    let mut tail = Tail::default();
    let mut limit = limit;
    loop {
        let kept = answer(ask, Method::GET, "/policies/log", Bytes::new()).await?;
        let new = tail.news(&kept, plugin);
        for line in &new[new.len().saturating_sub(limit)..] {
            let text = match ask.output {
                Output::Json => line.to_string(),
                Output::Text => shown(line),
            };
            // Whoever closed the pipe has read enough.
            if writeln!(out, "{text}").and_then(|()| out.flush()).is_err() {
                return Ok(String::new());
            }
        }
        if !follow {
            return Ok(String::new());
        }
        limit = usize::MAX;
        tokio::time::sleep(PAUSE).await;
    }
}

/// What was seen already. The server keeps the last lines of each plugin and numbers none of them.
#[derive(Debug, Default)]
struct Tail {
    seen: BTreeMap<String, Vec<Value>>,
}

impl Tail {
    /// The lines that were not there before, by their moment.
    fn news(&mut self, kept: &Value, plugin: Option<&str>) -> Vec<Value> {
        let mut news = Vec::new();
        let logs = kept.as_array().into_iter().flatten();
        for log in logs.filter(|log| plugin.is_none_or(|plugin| log["plugin"] == plugin)) {
            let lines = lines_of(log);
            let digest = log["digest"].as_str().unwrap_or_default().to_owned();
            let before = self.seen.insert(digest, lines.clone()).unwrap_or_default();
            let known = overlap(&before, &lines);
            news.extend(lines.into_iter().skip(known).map(|line| {
                json!({
                    "at": line["at"], "level": line["level"], "source": line["source"],
                    "plugin": log["plugin"], "digest": log["digest"], "text": line["text"],
                })
            }));
        }
        // The order within a plugin stays: the sort is stable.
        news.sort_by_key(|line| line["at"].as_u64());
        news
    }
}

fn lines_of(log: &Value) -> Vec<Value> {
    log["lines"].as_array().cloned().unwrap_or_default()
}

/// How many of the first lines of `now` are the last ones of `before`.
fn overlap(before: &[Value], now: &[Value]) -> usize {
    let most = before.len().min(now.len());
    (0..=most).rev().find(|count| before[before.len() - count..] == now[..*count]).unwrap_or(0)
}

fn shown(line: &Value) -> String {
    let text = |key: &str| line[key].as_str().unwrap_or("-").to_owned();
    let at = match line["at"].as_u64() {
        // During start and `configure` there is no moment.
        None | Some(0) => format!("{:<24}", "start"),
        Some(at) => humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(at)).to_string(),
    };
    let digest = text("digest").get(..8).unwrap_or("-").to_owned();
    format!("{at}  {:<5}  {} {digest}  {}", text("level"), text("plugin"), text("text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(texts: &[&str]) -> Value {
        let lines: Vec<Value> = texts.iter().map(|text| json!({"at": 5, "level": "info", "text": text})).collect();
        json!([{"plugin": "p", "digest": "d", "lines": lines}, {"plugin": "q", "digest": "e", "lines": [{"at": 1, "text": "other"}]}])
    }

    fn texts(lines: &[Value]) -> Vec<&str> {
        lines.iter().map(|line| line["text"].as_str().unwrap()).collect()
    }

    #[test]
    fn a_line_is_shown_once_even_when_older_ones_went() {
        let mut tail = Tail::default();
        assert_eq!(texts(&tail.news(&kept(&["a", "b"]), Some("p"))), ["a", "b"]);
        assert_eq!(texts(&tail.news(&kept(&["a", "b"]), Some("p"))), Vec::<&str>::new());
        assert_eq!(texts(&tail.news(&kept(&["b", "c", "c"]), Some("p"))), ["c", "c"]);
        assert_eq!(texts(&tail.news(&kept(&["x"]), Some("p"))), ["x"], "all of them went: the server started anew");
    }

    #[test]
    fn lines_of_all_plugins_stand_by_their_moment() {
        assert_eq!(texts(&Tail::default().news(&kept(&["a"]), None)), ["other", "a"]);
    }
}
