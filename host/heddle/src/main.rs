//! The binary: the command line, the configuration, and the one place that names concrete backends.
//!
//! It wires the crates below it and says in words what they report; it decides nothing about messages. Read `cli` (what can be typed) and
//! `run` (how a server is put together) first.

#![allow(unreachable_pub, reason = "a binary has no outside: `pub` says what a module offers to the others")]

mod admin;
mod again;
mod archive_rebuild;
mod capacity;
mod chat;
mod cli;
mod compile;
mod config;
mod config_command;
mod explain;
mod failure;
mod log_cat;
mod log_dead;
mod log_partitions;
mod named;
mod nodes;
mod plugin;
mod ready;
mod reload;
mod replay;
mod serve;
mod server;
mod token;
mod user;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use cli::{ArchiveCommand, Cli, Command, LogCommand};
use failure::Failure;

#[allow(clippy::print_stderr, clippy::print_stdout, reason = "this is where the commands speak")]
fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(failure::USAGE) } else { ExitCode::SUCCESS };
        }
    };
    if let Command::CompileComponent(args) = &cli.command {
        return compile::command(args);
    }
    match dispatch(cli.command) {
        // Whoever closed the pipe has read enough.
        Ok(Some(text)) => drop(writeln!(std::io::stdout(), "{}", text.trim_end_matches('\n'))),
        Ok(None) => {}
        Err(failure) => {
            eprintln!("heddle: {failure}");
            return ExitCode::from(failure.code);
        }
    }
    ExitCode::SUCCESS
}

/// Does it; the text is for stdout.
fn dispatch(command: Command) -> Result<Option<String>, Failure> {
    match command {
        Command::Dev(args) => serve::dev(&args).map(|()| None),
        Command::Serve(args) => serve::serve(&args).map(|()| None),
        Command::Token(args) => token::command(&args).map(Some),
        Command::Chat(args) => chat::command(&args).map(|()| None),
        Command::Config(command) => small_runtime()?.block_on(config_command::command(&command)).map(Some),
        Command::Explain(args) => small_runtime()?.block_on(explain::command(&args)).map(Some),
        Command::User(command) => small_runtime()?.block_on(user::command(&command)).map(Some),
        Command::Nodes(args) => small_runtime()?.block_on(nodes::command(&args)).map(Some),
        Command::Log(LogCommand::Cat(args)) => log_cat::cat(&args, std::io::stdout().lock()).map(|()| None),
        Command::Log(LogCommand::Dead(args)) => small_runtime()?.block_on(log_dead::command(&args)).map(Some),
        Command::Log(LogCommand::Partitions(args)) => {
            small_runtime()?.block_on(log_partitions::command(&args)).map(Some)
        }
        Command::Archive(ArchiveCommand::Rebuild(args)) => {
            small_runtime()?.block_on(archive_rebuild::command(&args)).map(Some)
        }
        Command::Replay(args) => small_runtime()?.block_on(replay::command(&args)).map(Some),
        Command::Plugin(command) => {
            let runtime = small_runtime()?;
            let said = runtime.block_on(plugin::command(command));
            // A build may still run.
            runtime.shutdown_background();
            said.map(|text| (!text.is_empty()).then_some(text))
        }
        Command::Capacity(args) => capacity::command(&args).map(Some),
        Command::Version => Ok(Some(format!("heddle {}", env!("CARGO_PKG_VERSION")))),
        Command::CompileComponent(_) => Ok(None),
    }
}

/// For commands that speak over a socket and end.
fn small_runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("no runtime: {error}")))
}
