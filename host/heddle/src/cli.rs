//! The command line, and what `--help` teaches.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// A real-time messaging platform whose behaviour is made of WebAssembly components.
#[derive(Debug, Parser)]
#[command(name = "heddle", version, propagate_version = true, max_term_width = 110, arg_required_else_help = true)]
#[command(after_help = "Start here:
  heddle dev                     a server on this machine, with tokens for alice and bob
  heddle chat --user alice       chat with bob, in another terminal
  heddle explain MESSAGE_ID      who decided about a message

`heddle COMMAND --help` has examples for each.")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a server for development: on loopback, with tokens, nothing to configure
    Dev(DevArgs),
    /// Start a server with a configuration
    Serve(ServeArgs),
    /// Chat in the terminal, or run a script of frames
    Chat(crate::chat::ChatArgs),
    /// Print a token for a user, alone on one line
    Token(TokenArgs),
    /// Show or check configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Look into the log
    #[command(subcommand)]
    Log(LogCommand),
    /// Repair the archive from the log
    #[command(subcommand)]
    Archive(ArchiveCommand),
    /// Say who decided about a message: generation, plugin, digest, microseconds
    Explain(ExplainArgs),
    /// Give a user's devices again what they had, from log and archive
    Replay(ReplayArgs),
    /// List the nodes that share log and store: roles, load, generation, how far behind
    Nodes(NodesArgs),
    /// Take a user's tokens back, give them back, or see how a user stands
    #[command(subcommand)]
    User(crate::user::UserCommand),
    /// Build plugins, and change which decide, while the server runs
    #[command(subcommand)]
    Plugin(crate::plugin::PluginCommand),
    /// Reckon servers, partitions, brokers, storage and cost of a target, with the formulas
    Capacity(Box<crate::capacity::CapacityArgs>),
    /// Print the version
    Version,
    /// Native code for a component: what a server starts to compile one, never a person
    #[command(
        hide = true,
        after_help = "Example:
  heddle compile-component 60 2147483648 < my-policy.wasm > my-policy.native"
    )]
    CompileComponent(CompileComponentArgs),
}

/// What `heddle compile-component` may use.
#[derive(Debug, Args)]
pub struct CompileComponentArgs {
    /// CPU time that it may use
    pub seconds: u64,
    /// Memory that it may use
    pub bytes: u64,
}

/// How a command prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// A hook, and the plugin file or the built-in policy that decides there.
#[derive(Debug, Clone)]
pub struct PolicyFlag {
    /// The key of the hook's chain.
    pub key: &'static str,
    /// The plugin file, or the name of a built-in policy.
    pub file: String,
}

fn policy_flag(text: &str) -> Result<PolicyFlag, String> {
    let (hook, file) = text.split_once('=').ok_or("write it as HOOK=FILE or HOOK=NAME, like routing=my-policy.wasm")?;
    let hook = heddle_model::Hook::named(hook.trim())
        .ok_or_else(|| format!("there is no hook {hook:?}: it is rate-limit, routing, fanout or presence"))?;
    if file.is_empty() {
        return Err(format!("{hook} has no file: write it as {hook}=FILE"));
    }
    Ok(PolicyFlag { key: policies_key(hook), file: file.to_owned() })
}

fn policies_key(hook: heddle_model::Hook) -> &'static str {
    match hook {
        heddle_model::Hook::RateLimit => "policies.rate_limit",
        heddle_model::Hook::Routing => "policies.routing",
        heddle_model::Hook::Fanout => "policies.fanout",
        heddle_model::Hook::Presence => "policies.presence",
    }
}

/// `heddle dev`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  heddle dev                                       127.0.0.1:7600 for clients, 127.0.0.1:7601 for you
  heddle dev --listen 127.0.0.1:0 --admin 127.0.0.1:0 --output json     free ports, told on one line
  heddle dev --policy routing=my-policy.wasm       with a policy of yours (see heddle plugin build)
  heddle dev --policy routing=inbox-routing --policy routing=my-policy.wasm      behind the built-in one
  heddle dev --set gateway.heartbeat='10 s'        any key of heddle config show --defaults

Its secret is published and its tokens live 30 days: it listens on loopback only. Use `heddle serve` for the rest.")]
pub struct DevArgs {
    /// Where everything durable lives
    #[arg(long, value_name = "DIR", default_value = "./heddle-data")]
    pub data: PathBuf,
    /// Address for clients; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7600")]
    pub listen: SocketAddr,
    /// Address for operators; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7601")]
    pub admin: SocketAddr,
    /// One JSON line when ready, or a screen for people
    #[arg(long, value_enum, default_value = "text")]
    pub output: Output,
    /// Do not answer as bob
    #[arg(long)]
    pub no_bot: bool,
    /// A plugin file for a hook, or the name of a built-in policy; repeatable, asked in this order
    #[arg(long = "policy", value_name = "HOOK=FILE", value_parser = policy_flag)]
    pub policies: Vec<PolicyFlag>,
    /// Any key of the configuration; repeatable
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// `heddle serve`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  heddle config show --defaults > heddle.toml      every key, explained
  heddle config check heddle.toml                  all problems at once
  heddle serve --config heddle.toml
  HEDDLE_GATEWAY__LISTEN=0.0.0.0:7600 heddle serve --config heddle.toml

Stop it with SIGTERM or Ctrl-C: it sends clients away at a pace, then says what is safe where.")]
pub struct ServeArgs {
    /// The configuration
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// One JSON line when ready, or a line for people
    #[arg(long, value_enum, default_value = "text")]
    pub output: Output,
    /// A plugin file for a hook, or the name of a built-in policy; repeatable, in place of the hook's chain in the configuration
    #[arg(long = "policy", value_name = "HOOK=FILE", value_parser = policy_flag)]
    pub policies: Vec<PolicyFlag>,
    /// Any key of the configuration; repeatable
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// `heddle token`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  heddle token --user carol                                   for `heddle dev`
  heddle token --user carol --ttl '1 h' --config heddle.toml  signed with the file's auth.secret
  heddle token --user ops --role policy-admin                 may change policies (viewer and operator may less)
  curl -H \"Authorization: Bearer $(heddle token --user carol)\" http://127.0.0.1:7600/v1/conversations")]
pub struct TokenArgs {
    /// Whose token
    #[arg(long, value_name = "NAME")]
    pub user: String,
    /// What it opens at the admin listener; without, it is a client's token
    #[arg(long, value_name = "ROLE", value_parser = ["viewer", "operator", "policy-admin"])]
    pub role: Option<String>,
    /// How long it is valid, with its unit: ms, s, min, h, d
    #[arg(long, value_name = "TIME", default_value = "30 d")]
    pub ttl: String,
    /// Sign with the secret of this configuration instead of the development secret
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// `heddle config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print the configuration in force: file and HEDDLE_SECTION__KEY variables over the defaults
    #[command(after_help = "Examples:
  heddle config show --defaults                  every key, its meaning, its default
  heddle config show --config heddle.toml        what is in force, what differs from the defaults")]
    Show {
        /// The configuration
        #[arg(long, value_name = "FILE", conflicts_with = "defaults")]
        config: Option<PathBuf>,
        /// Every key with its meaning and default
        #[arg(long)]
        defaults: bool,
    },
    /// Let a running server read its configuration again: limits and keys take effect, the rest is said to need a restart
    #[command(after_help = "Examples:
  heddle config reload --data /var/lib/heddle
  heddle config reload --admin https://10.0.0.5:7601 --ca my-authority.pem --token \"$TOKEN\"
  kill -HUP $(pidof heddle)                      the same; the answer is in the server's log

Everything wrong is told at once, and then nothing changes. Sockets that are open keep what was decided at their door.")]
    Reload {
        /// Where the server is.
        #[command(flatten)]
        server: crate::admin::AdminArgs,
        /// For people or programs
        #[arg(long, value_enum, default_value = "text")]
        output: Output,
    },
    /// Check a file and the HEDDLE_SECTION__KEY variables: all problems at once, exit 64 if there are any
    #[command(after_help = "Example:
  heddle config check heddle.toml && systemctl restart heddle")]
    Check {
        /// The configuration
        file: PathBuf,
    },
}

/// `heddle log`.
#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Print durable records with their stamps, one JSON object a line
    #[command(after_help = "Examples:
  heddle log cat --topic messages
  heddle log cat --topic group_messages --partition 3 --from 100 --data /var/lib/heddle
  heddle log cat --topic messages | grep alice
  heddle log cat --topic messages --config heddle.toml     of a log on Kafka, or where the file says

It only reads, and works while servers run. On Kafka it shows what does not stand as well: of two records with one message_id, the second.")]
    Cat(LogCatArgs),
    /// Say into how many partitions the log is cut, or cut it into more
    #[command(after_help = "Examples:
  heddle log partitions                                  how many there are
  heddle log partitions 200                              cut it into 200, with people on line
  heddle log partitions 200 --admin 10.0.0.5:7601 --token \"$TOKEN\"

On Kafka only; they never become fewer. Every node refuses sends, retryably, until all that was accepted is worked on and archived, and then starts
anew within its process: clients are sent away and come back to where they were. It takes some 20 seconds, longer if the archive is behind
(`heddle nodes`). What was accepted stays; positions only grow. Correct `kafka.partitions` in the files afterwards.")]
    Partitions(LogPartitionsArgs),
    /// List records that were given up: they failed for their own sake, were set aside, and passed
    #[command(after_help = "Examples:
  heddle log dead                                        of the server of ./heddle-data, those of last first
  heddle log dead --limit 10 --output json | jq .dead
  heddle log dead --admin 10.0.0.5:7601 --token \"$TOKEN\"

The record itself stays in the log as long as it is kept there, and in the table dead_letters of the store. None is the rule: each is a bug, or a
disk that lies. The metric is heddle_dead_letters_total.")]
    Dead(LogDeadArgs),
}

/// `heddle log dead`.
#[derive(Debug, Args)]
pub struct LogDeadArgs {
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
    /// Where the server is.
    #[command(flatten)]
    pub server: crate::admin::AdminArgs,
    /// For people or programs
    #[arg(long, value_enum, default_value = "text")]
    pub output: Output,
}

/// `heddle log partitions`.
#[derive(Debug, Args)]
pub struct LogPartitionsArgs {
    /// Into how many to cut it
    pub partitions: Option<u32>,
    /// Where a server is.
    #[command(flatten)]
    pub server: crate::admin::AdminArgs,
    /// For people or programs
    #[arg(long, value_enum, default_value = "text")]
    pub output: Output,
}

/// `heddle log cat`.
#[derive(Debug, Args)]
pub struct LogCatArgs {
    /// messages or group_messages
    #[arg(long, value_parser = ["messages", "group_messages"])]
    pub topic: String,
    /// Only this partition; else all, one after the other
    #[arg(long, value_name = "P")]
    pub partition: Option<u32>,
    /// From this log offset on
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub from: u64,
    /// The data directory
    #[arg(long, value_name = "DIR", default_value = "./heddle-data", conflicts_with = "config")]
    pub data: PathBuf,
    /// The configuration of a server, which says where its log is
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// `heddle archive`.
#[derive(Debug, Subcommand)]
pub enum ArchiveCommand {
    /// Make the archive's rows of the retained log anew, while no server runs
    #[command(after_help = "Examples:
  heddle archive rebuild --data /var/lib/heddle              what `heddle dev --data` wrote
  heddle archive rebuild --config heddle.toml --dry-run      say what is wrong, change nothing
  heddle archive rebuild --config heddle.toml --output json

Every server on it must be stopped: it takes their locks. Records, events, pulled messages, groups and receipts of what the log still has become
what the log says, others are removed; older rows, users, contacts, positions of devices and the catalog stay. It may be cut off at any time: what
is done is right, and it begins again.")]
    Rebuild(ArchiveRebuildArgs),
}

/// `heddle archive rebuild`.
#[derive(Debug, Args)]
pub struct ArchiveRebuildArgs {
    /// The data directory
    #[arg(long, value_name = "DIR", default_value = "./heddle-data", conflicts_with = "config")]
    pub data: PathBuf,
    /// The configuration of the servers, which says where log and store are
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Say what is wrong, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Any key of the configuration; repeatable
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// For people or programs
    #[arg(long, value_enum, default_value = "text")]
    pub output: Output,
}

/// `heddle explain`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  heddle explain r6hz5txhnsyngkxw7jqcznowva
  heddle explain r6hz5txhnsyngkxw7jqcznowva --data /var/lib/heddle --output json
  heddle explain r6hz5txhnsyngkxw7jqcznowva --admin 10.0.0.5:7601 --token \"$TOKEN\"

The server must run: it is found by run.json in its data directory, or by --admin.")]
pub struct ExplainArgs {
    /// The id, as `accepted` and `new_message` carry it
    pub message_id: String,
    /// Where the server is.
    #[command(flatten)]
    pub server: crate::admin::AdminArgs,
    /// For people or programs
    #[arg(long, value_enum, default_value = "text")]
    pub output: Output,
}

/// `heddle replay`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  heddle replay --user bob --since '2 h'                           all of bob's devices
  heddle replay --user bob --since 2026-01-31T08:00:00Z -m 'his phone lost them'
  heddle replay --user bob --device phone --since 8796093022250    behind this offset
  heddle replay --user bob --since 0 --admin 10.0.0.5:7601 --token \"$TOKEN\"

Each device goes on there once, whatever position it names, and takes its events again in order. Those that are connected are told to come again;
others go back at their next connection. Receipts are not sent again.")]
pub struct ReplayArgs {
    /// Whose stream
    #[arg(long, value_name = "NAME")]
    pub user: String,
    /// From where: a moment, a span before now, or an offset
    #[arg(long, value_name = "T", allow_hyphen_values = true)]
    pub since: String,
    /// Only this device; else all of them
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// Why, for the audit
    #[arg(short = 'm', long = "message", value_name = "WHY", default_value = "")]
    pub why: String,
    /// Where a server is.
    #[command(flatten)]
    pub server: crate::admin::AdminArgs,
    /// For people or programs
    #[arg(long, value_enum, default_value = "text")]
    pub output: Output,
}

/// `heddle nodes`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  heddle nodes                                         as the server of ./heddle-data sees them
  heddle nodes --admin 10.0.0.5:7601 --token \"$TOKEN\"
  watch -n 2 heddle nodes --data /var/lib/heddle
  heddle nodes --output json | jq '.nodes[] | select(.age_ms > 10000) | .node'     those that died

TO DERIVE and TO ARCHIVE count the records of a node's partitions that it has not worked on, or not archived, yet.")]
pub struct NodesArgs {
    /// Where a server is.
    #[command(flatten)]
    pub server: crate::admin::AdminArgs,
    /// For people or programs
    #[arg(long, value_enum, default_value = "text")]
    pub output: Output,
}

#[cfg(test)]
#[path = "cli_tests.rs"]
mod tests;
