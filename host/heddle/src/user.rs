//! `heddle user revoke`, `restore`, `show`: asks a running server to take a user's tokens back, or how the user stands.

use std::time::{Duration, UNIX_EPOCH};

use clap::Subcommand;
use hyper::body::Bytes;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::admin::quoted;
use crate::cli::Output;
use crate::failure::Failure;
use crate::plugin::args::{AskArgs, ChangeArgs};

/// The server answers within this.
const DEADLINE: Duration = Duration::from_secs(10);

/// `heddle user`.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Refuse every token of a user that was issued until now, and close the user's connections on all nodes
    #[command(after_help = "Examples:
  heddle user revoke mallory -m 'the phone was stolen'
  heddle user revoke mallory --new-tokens -m 'spam'       tokens that are issued later too
  heddle user revoke mallory --admin 10.0.0.5:7601 --token \"$TOKEN\"

Nodes heed it within about a second, without Redis too. What was sent to the user waits as for anybody who is away.")]
    Revoke {
        /// Whose
        #[arg(value_name = "NAME")]
        user: String,
        /// Those that are issued later too, until the user is restored
        #[arg(long)]
        new_tokens: bool,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Take a revocation back: tokens count again until they expire
    #[command(after_help = "Example:
  heddle user restore mallory -m 'it was found'")]
    Restore {
        /// Whose
        #[arg(value_name = "NAME")]
        user: String,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Say since when a user is known, whether revoked, and how many connections the asked node has
    #[command(after_help = "Examples:
  heddle user show mallory
  heddle user show mallory --output json")]
    Show {
        /// Who
        #[arg(value_name = "NAME")]
        user: String,
        #[command(flatten)]
        ask: AskArgs,
    },
}

/// Asks, and says what stdout should show.
///
/// # Errors
/// If there is no server, no right to ask, or it refuses.
pub async fn command(command: &UserCommand) -> Result<String, Failure> {
    match command {
        UserCommand::Revoke { user, new_tokens, change } => {
            let body = json!({ "why": change.why, "new_tokens": new_tokens }).to_string();
            let path = format!("/users/{}/revocation", quoted(user));
            let answer = ask(&change.ask, Method::PUT, &path, body.into()).await?;
            Ok(printed(&change.ask, &answer, |answer| format!("{user} is revoked: {}", which(answer))))
        }
        UserCommand::Restore { user, change } => {
            let path = format!("/users/{}/revocation?why={}", quoted(user), quoted(&change.why));
            let answer = ask(&change.ask, Method::DELETE, &path, Bytes::new()).await?;
            Ok(printed(&change.ask, &answer, |_| format!("{user} is restored: tokens count again until they expire")))
        }
        UserCommand::Show { user, ask: args } => {
            let answer = ask(args, Method::GET, &format!("/users/{}", quoted(user)), Bytes::new()).await?;
            Ok(printed(args, &answer, people))
        }
    }
}

async fn ask(args: &AskArgs, method: Method, path: &str, body: Bytes) -> Result<Value, Failure> {
    let client = args.server.client(DEADLINE)?;
    let answer = client.ask(method, path, body).await?;
    answer.map_err(|refusal| match refusal.status {
        StatusCode::NOT_FOUND => Failure::missing(refusal.detail),
        status => Failure::new(format!("{} answered {status}: {}", client.address(), refusal.detail)),
    })
}

fn printed(args: &AskArgs, answer: &Value, text: impl Fn(&Value) -> String) -> String {
    match args.output {
        Output::Json => answer.to_string(),
        Output::Text => text(answer),
    }
}

fn people(answer: &Value) -> String {
    let seen =
        answer["seen_since"].as_u64().map_or("never seen".to_owned(), |at| format!("known since {}", moment(at)));
    let (asked, here) = (answer["asked"].as_str().unwrap_or("-"), answer["connections_here"].as_u64().unwrap_or(0));
    let revocation = &answer["revocation"];
    let standing = if revocation.is_null() {
        "not revoked".to_owned()
    } else {
        let who = revocation["who"].as_str().unwrap_or("-");
        let why = revocation["why"].as_str().filter(|why| !why.is_empty()).map(|why| format!(": {why}"));
        let at = revocation["at"].as_u64().map(moment).unwrap_or_default();
        format!("revoked at {at} by {who}{}\n  {}", why.unwrap_or_default(), which(revocation))
    };
    let user = answer["user"].as_str().unwrap_or("-");
    format!("{user}\n  {seen}\n  {here} connections at {asked}\n  {standing}")
}

fn which(revocation: &Value) -> String {
    if revocation["new_tokens"] == true {
        return "all tokens are refused, new ones too".to_owned();
    }
    let at = revocation["at"].as_u64().map(moment).unwrap_or_default();
    format!("tokens issued until {at} are refused")
}

fn moment(at_ms: u64) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(at_ms)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_shown_with_what_an_operator_did_and_why() {
        let mut answer = json!({
            "user": "mallory", "seen_since": 0, "asked": "n1", "connections_here": 2, "revocation": null,
        });
        assert_eq!(
            people(&answer),
            "mallory\n  known since 1970-01-01T00:00:00Z\n  2 connections at n1\n  not revoked"
        );
        answer["seen_since"] = Value::Null;
        answer["revocation"] = json!({ "at": 60_000, "who": "ops", "why": "stolen", "new_tokens": false });
        let shown = people(&answer);
        assert!(
            shown.contains("never seen") && shown.contains("revoked at 1970-01-01T00:01:00Z by ops: stolen"),
            "{shown}"
        );
        assert!(shown.ends_with("tokens issued until 1970-01-01T00:01:00Z are refused"), "{shown}");
        answer["revocation"]["new_tokens"] = true.into();
        assert!(people(&answer).ends_with("all tokens are refused, new ones too"));
    }
}
