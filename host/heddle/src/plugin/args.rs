//! The words of `heddle plugin`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::admin::AdminArgs;
use crate::cli::Output;

/// `heddle plugin`.
#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// Build a plugin into one file: component, manifest and cases
    #[command(after_help = "Examples:
  heddle plugin build plugins/token-bucket
  heddle dev --policy rate-limit=plugins/token-bucket/token-bucket.wasm

The digest that it prints is `sha256sum` of the file; records, generations and explain speak of that digest.")]
    Build {
        /// The plugin's directory, with its plugin.toml
        #[arg(default_value = ".")]
        dir: PathBuf,
        /// Where to write the file; else NAME.wasm in the directory
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// For people or programs
        #[arg(long, value_enum, default_value = "text")]
        output: Output,
    },
    #[command(flatten)]
    Author(super::author::AuthorCommand),
    /// Let a plugin decide from the next message on, in place of the one of its name
    #[command(after_help = "Examples:
  heddle plugin deploy my-policy.wasm -m 'quiet after ten'
  heddle plugin deploy my-policy.wasm --hook routing --data /var/lib/heddle
  heddle plugin deploy my-policy.wasm --shadow     then: heddle plugin trial, and promote or abandon
  heddle plugin deploy my-policy.wasm --canary 10%
  heddle plugin rollback                           back to the generation before

The server checks the file, compiles it, runs its cases and warms it up; then one pointer is exchanged. No connection closes, and each message is
decided by one generation. Whatever is wrong with the file, the present generation goes on.")]
    Deploy {
        /// The file that `heddle plugin build` wrote
        file: PathBuf,
        /// At this hook only; else at each that its manifest has
        #[arg(long, value_name = "HOOK")]
        hook: Option<String>,
        /// It is asked off the path, and compared with what decides: nobody waits for it
        #[arg(long, conflicts_with = "canary")]
        shadow: bool,
        /// It decides for so many per cent of the conversations, and is abandoned by itself when it fails or refuses otherwise than the rest
        #[arg(long, value_name = "PERCENT", value_parser = percent)]
        canary: Option<u32>,
        /// Its signature; else FILE.minisig, if that is there
        #[arg(long, value_name = "FILE")]
        signature: Option<PathBuf>,
        /// Where signatures are required: a lower version than one that was there before is meant
        #[arg(long)]
        allow_downgrade: bool,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Show how the plugin on trial does: a shadow's differences, a canary's refusals
    #[command(after_help = "Examples:
  heddle plugin trial
  heddle plugin trial --output json                with the newest differences, whole")]
    Trial {
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Let the plugin on trial decide for all
    #[command(after_help = "Examples:
  heddle plugin promote -m 'a day in the shadow, 3 differences, all wanted'")]
    Promote {
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// End the trial: what decided before goes on alone
    #[command(after_help = "Examples:
  heddle plugin abandon -m 'it refuses too much'")]
    Abandon {
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Put what was recorded to a plugin, and show what it would decide otherwise; nothing that serves is touched
    #[command(after_help = "Examples:
  heddle plugin replay my-policy.wasm --last 10m
  heddle plugin replay my-policy.wasm --from calls.ndjson          no server needed
  heddle plugin record --last 10m > calls.ndjson

Each call comes with its moment, luck, state and message as they were, so that the same file answers the same each time. Keys policies.record,
record_one_in and record_bodies say what a server records; without record_bodies the texts are crossed out.")]
    Replay {
        /// The file that `heddle plugin build` wrote
        file: PathBuf,
        /// What was recorded within this time
        #[arg(long, value_name = "TIME", default_value = "10m")]
        last: String,
        /// Calls that `heddle plugin record` printed
        #[arg(long, value_name = "FILE", conflicts_with = "last")]
        from: Option<PathBuf>,
        /// At most so many differences are shown
        #[arg(long, short = 'n', value_name = "N", default_value_t = 20)]
        limit: usize,
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Print what was recorded, a call a line, for `heddle plugin replay --from`
    #[command(after_help = "Examples:
  heddle plugin record --last 10m > calls.ndjson
  heddle plugin record --hook routing | grep '\"reject\"'
  heddle plugin record --output json               one array")]
    Record {
        /// What was recorded within this time
        #[arg(long, value_name = "TIME", default_value = "10m")]
        last: String,
        /// Calls of this hook only
        #[arg(long, value_name = "HOOK")]
        hook: Option<String>,
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Change a plugin's configuration: KEY=VALUE with a JSON value or a text, KEY= for the manifest's own
    #[command(after_help = "Examples:
  heddle plugin set token-bucket burst=40 per_second=20
  heddle plugin set token-bucket burst=            the manifest's value again")]
    Set {
        /// The plugin's name
        plugin: String,
        /// What to set
        #[arg(required = true, value_name = "KEY=VALUE")]
        values: Vec<String>,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Say in which order the plugins of a hook are asked
    #[command(after_help = "Examples:
  heddle plugin chain routing quiet-hours inbox-routing
  heddle plugin chain routing                      the built-in plugin alone

Each must stand in the chain already, else deploy it.")]
    Chain {
        /// rate-limit, routing, fanout or presence
        hook: String,
        /// Names, the first is asked first
        plugins: Vec<String>,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Take a plugin out of its chains; where none is left, the built-in one decides
    #[command(after_help = "Examples:
  heddle plugin remove quiet-hours
  heddle plugin remove quiet-hours --hook routing -m 'the holidays are over'")]
    Remove {
        /// The plugin's name
        plugin: String,
        /// At this hook only
        #[arg(long, value_name = "HOOK")]
        hook: Option<String>,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Ask a plugin again that keeps its place in its chain
    #[command(after_help = "Examples:
  heddle plugin enable quiet-hours")]
    Enable {
        /// The plugin's name
        plugin: String,
        /// At this hook only
        #[arg(long, value_name = "HOOK")]
        hook: Option<String>,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Do not ask a plugin any more; it keeps its place and its configuration
    #[command(after_help = "Examples:
  heddle plugin disable quiet-hours -m 'the fair is on'")]
    Disable {
        /// The plugin's name
        plugin: String,
        /// At this hook only
        #[arg(long, value_name = "HOOK")]
        hook: Option<String>,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Do not carry out any more what a generation decided: the built-in plan fans its records out
    #[command(after_help = "Examples:
  heddle plugin revoke -m 'it left people out'     the current one; the one before decides
  heddle plugin revoke 7")]
    Revoke {
        /// Which; else the current, and the one before it decides
        generation: Option<u64>,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Go back to an older generation, under a new number
    #[command(after_help = "Examples:
  heddle plugin rollback                           to the one before the current
  heddle plugin rollback 7 -m 'as it was on Monday'")]
    Rollback {
        /// Which; else the one before the current
        generation: Option<u64>,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Show which plugins decide now
    #[command(after_help = "Examples:
  heddle plugin list
  heddle plugin list --data /var/lib/heddle --output json")]
    List {
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Show who changed the policy set, when and why
    #[command(after_help = "Examples:
  heddle plugin history
  heddle plugin history -n 100 --output json       with the chains before and after")]
    History {
        /// At most so many changes
        #[arg(long, short = 'n', value_name = "N", default_value_t = 20)]
        limit: u32,
        #[command(flatten)]
        ask: AskArgs,
    },
}

/// `10` or `10%`.
fn percent(text: &str) -> Result<u32, String> {
    let number = text.trim().trim_end_matches('%').trim().parse().ok();
    number.filter(|percent| (1..=99).contains(percent)).ok_or_else(|| "write 1% to 99%".to_owned())
}

/// What every change takes.
#[derive(Debug, Args)]
pub struct ChangeArgs {
    /// Why, for the audit
    #[arg(short = 'm', long = "message", value_name = "WHY", default_value = "")]
    pub why: String,
    /// Where and how.
    #[command(flatten)]
    pub ask: AskArgs,
}

/// Which server, and how to print.
#[derive(Debug, Args)]
pub struct AskArgs {
    /// Which server.
    #[command(flatten)]
    pub server: AdminArgs,
    /// For people or programs
    #[arg(long, value_enum, default_value = "text")]
    pub output: Output,
}
