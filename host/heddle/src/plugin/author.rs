//! What a plugin's author types.

use std::path::PathBuf;

use clap::Subcommand;

use crate::cli::Output;
use crate::failure::Failure;

/// The part of `heddle plugin` that makes and tries plugins.
#[derive(Debug, Subcommand)]
pub enum AuthorCommand {
    /// Make a directory with a plugin in Rust that builds and passes its cases, offline
    #[command(after_help = "Examples:
  heddle plugin new quiet-hours --hook routing
  heddle plugin new my-limits --hook rate-limit --hook routing plugins/my-limits

Hooks: rate-limit, routing, fanout, presence. The SDK is written beside it: the first build needs nothing that a build of
this binary has not downloaded already.")]
    New {
        /// The plugin's name: a-z, 0-9 and -
        name: String,
        /// Where it decides; repeatable
        #[arg(long = "hook", value_name = "HOOK", required = true)]
        hooks: Vec<String>,
        /// Where to make it; else a directory of its name
        dir: Option<PathBuf>,
        /// For people or programs
        #[arg(long, value_enum, default_value = "text")]
        output: Output,
    },
}

/// Does it, and says what stdout should show beyond what was printed on the way.
///
/// # Errors
/// What is wrong with the plugin, or with the server.
pub async fn command(command: AuthorCommand) -> Result<String, Failure> {
    match command {
        AuthorCommand::New { name, hooks, dir, output } => super::new::command(&name, &hooks, dir, output),
    }
}
