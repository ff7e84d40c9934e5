//! `heddle nodes`: asks a running server who is there, and how busy.

use std::time::{Duration, UNIX_EPOCH};

use hyper::Method;
use hyper::body::Bytes;
use serde_json::Value;

use crate::cli::{NodesArgs, Output};
use crate::failure::Failure;
use crate::server::roll::LEASE_MS;

/// The server answers within this.
const DEADLINE: Duration = Duration::from_secs(10);

/// Asks, and says what stdout should show.
///
/// # Errors
/// If there is no server, or no right to ask.
pub async fn command(args: &NodesArgs) -> Result<String, Failure> {
    let client = args.server.client(DEADLINE)?;
    let answer = client.ask(Method::GET, "/nodes", Bytes::new()).await?;
    let answer = answer.map_err(|refusal| {
        Failure::new(format!("{} answered {}: {}", client.address(), refusal.status, refusal.detail))
    })?;
    Ok(match args.output {
        Output::Json => answer.to_string(),
        Output::Text => people(&answer),
    })
}

/// A line a node, in columns as wide as what stands in them.
fn people(answer: &Value) -> String {
    const HEAD: [&str; 9] =
        ["NODE", "STATE", "ROLES", "GENERATION", "CONNECTIONS", "PARTITIONS", "TO DERIVE", "TO ARCHIVE", "CLIENTS AT"];
    let mut rows = vec![HEAD.map(str::to_owned)];
    rows.extend(answer["nodes"].as_array().into_iter().flatten().map(line));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn line(node: &Value) -> [String; 9] {
    let text = |name: &str| node[name].as_str().unwrap_or("-").to_owned();
    let number = |name: &str| node[name].as_u64().unwrap_or_default();
    let roles = node["roles"].as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>();
    let age = number("age_ms");
    let state = if age < LEASE_MS {
        format!("{} since {}", text("state"), moment(number("started_at")))
    } else {
        format!("gone for {}", humantime::format_duration(Duration::from_secs(age / 1_000)))
    };
    [
        text("node"),
        state,
        roles.join(","),
        number("generation").to_string(),
        number("connections").to_string(),
        number("partitions").to_string(),
        number("derive_lag").to_string(),
        number("archive_lag").to_string(),
        text("clients"),
    ]
}

fn moment(at_ms: u64) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(at_ms / 1_000)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_does_not_renew_its_row_is_gone() {
        let node = |name: &str, age: u64| {
            serde_json::json!({
                "node": name, "age_ms": age, "state": "serving", "roles": ["gateway", "worker"], "version": "1", "started_at": 0,
                "clients": "127.0.0.1:7600", "admin": "127.0.0.1:7601", "generation": 3, "connections": 17,
                "partitions": 6, "derive_lag": 0, "archive_lag": 250,
            })
        };
        let shown = people(&serde_json::json!({ "nodes": [node("a", 0), node("bravo", 75_000)] }));
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines.len(), 3, "{shown}");
        let column = lines[0].find("ROLES").expect("a head");
        assert_eq!(lines[1].find("gateway,worker"), Some(column), "{shown}");
        assert_eq!(lines[2].find("gateway,worker"), Some(column), "{shown}");
        assert!(lines[1].contains("serving since 1970-01-01T00:00:00Z") && lines[1].contains("250"), "{shown}");
        assert!(lines[2].contains("gone for 1m 15s"), "{shown}");
    }
}
