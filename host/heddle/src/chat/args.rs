//! What `heddle chat` takes.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::named::Named;

/// `heddle chat`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  heddle chat --user alice                       with the server of `heddle dev`
  heddle chat --user alice --to bob              straight into the conversation with bob
  heddle chat --user alice --server wss://chat.example --token \"$TOKEN\"
  heddle chat --user alice --server wss://127.0.0.1:7600 --ca my-authority.pem
  heddle chat --user alice --device tablet       a second window of the same user
  heddle chat --user alice --script hello.txt    no screen: for shells and tests

A script has one step a line: a JSON frame to send, `wait TYPE` for a frame from the server, `pause MS`, or `# a remark`.
Received frames are printed, one JSON object a line. `hello` is sent by itself, unless the first step is one. A `wait`
is also content with a frame that came earlier and that no other `wait` has taken; `wait close` waits for the end.

  printf '%s\\n' '{\"type\":\"chat_message\",\"client_id\":\"m1\",\"to\":\"bob\",\"text\":\"hi\"}' 'wait accepted' |
    heddle chat --user alice --script -")]
pub struct ChatArgs {
    /// Who you are
    #[arg(long, value_name = "NAME")]
    pub user: String,
    /// The server's address for clients; else that of the server in the data directory, else 127.0.0.1:7600
    #[arg(long, value_name = "ADDR", alias = "url", value_parser = Named::parse)]
    pub server: Option<Named>,
    /// Trust the authorities in this PEM file instead of those of this machine
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Your token; else one is made with the development secret, which `heddle dev` takes
    #[arg(long, env = "HEDDLE_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// This device's name: the same name is the same device, with its position [default: terminal, or script]
    #[arg(long, value_name = "NAME")]
    pub device: Option<String>,
    /// Begin in the conversation with this user
    #[arg(long, value_name = "NAME", conflicts_with = "script")]
    pub to: Option<String>,
    /// The server's address for operators, for /why; else that of the server in the data directory, else 127.0.0.1:7601
    #[arg(long, value_name = "ADDR", value_parser = Named::parse)]
    pub admin: Option<Named>,
    /// The data directory of the server
    #[arg(long, value_name = "DIR", default_value = "./heddle-data")]
    pub data: PathBuf,
    /// Do what this file says instead of showing a screen; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    pub script: Option<PathBuf>,
    /// How long each `wait` of a script may take
    #[arg(long, value_name = "TIME", default_value = "10 s", value_parser = timeout, requires = "script")]
    pub timeout: Duration,
}

/// A time with its unit, or seconds.
fn timeout(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<u32>().ok().map(|seconds| Duration::from_secs(seconds.into()));
    let span = seconds.or_else(|| crate::config::span(text)).filter(|span| !span.is_zero());
    span.ok_or_else(|| "write it with its unit, like '10 s' or '500 ms'".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_has_a_unit_or_counts_seconds() {
        assert_eq!(timeout("500 ms"), Ok(Duration::from_millis(500)));
        assert_eq!(timeout("3"), Ok(Duration::from_secs(3)));
        assert!(timeout("0").is_err() && timeout("soon").is_err());
    }
}
