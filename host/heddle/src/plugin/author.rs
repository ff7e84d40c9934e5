//! What a plugin's author types.

use std::path::PathBuf;

use clap::Subcommand;

use super::args::AskArgs;
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
    /// Run a plugin's cases in the engine that serves: a line a case, on fresh and on used instances
    #[command(after_help = "Examples:
  heddle plugin test                               builds the plugin of this directory first
  heddle plugin test plugins/token-bucket
  heddle plugin test my-policy.wasm --output json

No server is needed. It ends with 1 if a case fails; the microseconds are those of one call on a used instance.")]
    Test {
        /// The plugin's directory, or the file that `heddle plugin build` wrote
        #[arg(default_value = ".", value_name = "DIR|FILE")]
        path: PathBuf,
        /// For people or programs
        #[arg(long, value_enum, default_value = "text")]
        output: Output,
    },
    /// Say whether a server would take a file: everything that is wrong at once, and what to do
    #[command(after_help = "Examples:
  heddle plugin check my-policy.wasm
  heddle plugin check my-policy.wasm --output json && heddle plugin deploy my-policy.wasm

It compiles, starts and configures the plugin and runs its cases, as a server does; it needs none. It ends with 1 if the
file does not fit.")]
    Check {
        /// The file that `heddle plugin build` wrote, or the plugin's directory
        #[arg(value_name = "FILE")]
        path: PathBuf,
        /// For people or programs
        #[arg(long, value_enum, default_value = "text")]
        output: Output,
    },
    /// Show what is in a file: manifest, cases, imports and exports; nothing of it is run
    #[command(after_help = "Examples:
  heddle plugin inspect my-policy.wasm
  heddle plugin inspect somebodys.wasm --output json")]
    Inspect {
        /// The file
        #[arg(value_name = "FILE")]
        path: PathBuf,
        /// For people or programs
        #[arg(long, value_enum, default_value = "text")]
        output: Output,
    },
    /// Build, try and deploy a plugin at every save, while a server runs
    #[command(after_help = "Examples:
  heddle plugin dev                                the plugin of this directory, on the server of ./heddle-data
  heddle plugin dev plugins/inbox-routing --restore
  heddle plugin dev my-policy --data /var/lib/heddle --output json

It watches the files that `watch` under [build] in plugin.toml names. A build that fails, a case that fails and a plugin
that the server refuses are shown, and the generation before goes on. Ctrl-C ends it; the last one stays, or with
--restore the one from before comes back.")]
    Dev {
        /// The plugin's directory, with its plugin.toml
        #[arg(default_value = ".")]
        dir: PathBuf,
        /// At the end, go back to the generation that decided before
        #[arg(long)]
        restore: bool,
        /// Sign each file with this secret key, where the server requires signatures
        #[arg(long, value_name = "KEY")]
        key: Option<PathBuf>,
        /// Which server, and how to print.
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Sign a plugin file: the signature is written beside it, as FILE.minisig
    #[command(after_help = "Examples:
  heddle plugin keys new
  heddle plugin sign my-policy.wasm --key heddle.key
  heddle plugin deploy my-policy.wasm              takes my-policy.wasm.minisig along

Keys and signatures are minisign's: `minisign -Vm my-policy.wasm -p heddle.key.pub` checks one. A key with a password is
opened with that of HEDDLE_KEY_PASSWORD.")]
    Sign {
        /// The file that `heddle plugin build` wrote
        file: PathBuf,
        /// The secret key
        #[arg(long, value_name = "KEY", default_value = "heddle.key")]
        key: PathBuf,
        /// For people or programs
        #[arg(long, value_enum, default_value = "text")]
        output: Output,
    },
    /// Show what plugins wrote: their log, and what they printed
    #[command(after_help = "Examples:
  heddle plugin logs
  heddle plugin logs quiet-hours -f
  heddle plugin logs -f --data /var/lib/heddle --output json

A server keeps the last 1,000 lines of a plugin and takes 100 a second; a line is at most 1 KiB.")]
    Logs {
        /// Of this plugin only
        plugin: Option<String>,
        /// Go on with what comes, until Ctrl-C
        #[arg(long, short = 'f')]
        follow: bool,
        /// At most so many of the kept ones
        #[arg(long, short = 'n', value_name = "N", default_value_t = 100)]
        limit: usize,
        /// Which server, and how to print.
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Keys to sign plugins with
    #[command(subcommand)]
    Keys(KeysCommand),
}

/// `heddle plugin keys`.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a secret key, and its public one beside it
    #[command(after_help = "Examples:
  heddle plugin keys new
  HEDDLE_KEY_PASSWORD=secret heddle plugin keys new release.key

It prints what a server's configuration needs to trust it.")]
    New {
        /// The secret key's file; the public one is FILE.pub
        #[arg(value_name = "FILE", default_value = "heddle.key")]
        file: PathBuf,
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
    let mut out = std::io::stdout();
    match command {
        AuthorCommand::Test { path, output } => super::cases::command(&path, output, &mut out),
        AuthorCommand::Check { path, output } => super::inspect::check(&path, output, &mut out),
        AuthorCommand::Logs { plugin, follow, limit, ask } => {
            super::logs::command(plugin.as_deref(), follow, limit, &ask, &mut out).await
        }
        AuthorCommand::Sign { file, key, output } => super::sign::sign(&file, &key, output),
        AuthorCommand::Keys(KeysCommand::New { file, output }) => super::sign::new_keys(&file, output),
        AuthorCommand::Dev { dir, restore, key, ask } => super::dev::command(&dir, restore, key.as_deref(), &ask).await,
        AuthorCommand::Inspect { path, output } => super::inspect::inspect(&path, output),
        AuthorCommand::New { name, hooks, dir, output } => super::new::command(&name, &hooks, dir, output),
    }
}
