//! `heddle chat`: a terminal client for people, and a script runner for shells and tests.

mod args;
mod input;
mod position;
mod rest;
mod script;
mod state;
mod ui;
mod view;

pub use args::ChatArgs;

use std::io::IsTerminal as _;

use rest::Place;

use crate::cli::TokenArgs;
use crate::failure::Failure;
use crate::ready::RunFile;

/// Where the server of `heddle dev` listens if nobody says otherwise.
const SERVER_DEFAULT: &str = "127.0.0.1:7600";
/// Where it listens for operators.
const ADMIN_DEFAULT: &str = "127.0.0.1:7601";

/// Runs the client until it is done.
///
/// # Errors
/// If the arguments are wrong, the server is not there, or the script fails.
pub fn command(args: &ChatArgs) -> Result<(), Failure> {
    let token = token(args)?;
    let running = RunFile::read(&args.data).ok();
    let running = running.filter(|running| args.server.as_ref().is_none_or(|it| *it == running.client.to_string()));
    let server = args.server.clone().or_else(|| running.as_ref().map(|running| running.client.to_string()));
    let server = server.unwrap_or_else(|| SERVER_DEFAULT.to_owned());
    let device =
        args.device.clone().unwrap_or_else(|| if args.script.is_some() { "script" } else { "terminal" }.into());
    heddle_protocol::check_id(&device).map_err(|error| Failure::usage(format!("--device {device:?}: {error}")))?;
    if let Some(to) = &args.to {
        heddle_protocol::check_user(to).map_err(|error| Failure::usage(format!("--to {to:?}: {error}")))?;
    }
    if let Some(file) = &args.script {
        let steps = script::steps(file)?;
        let terms = script::Terms { server, token, device, timeout: args.timeout };
        let runtime = crate::small_runtime()?;
        let outcome = runtime.block_on(script::run(&terms, steps, std::io::stdout()));
        runtime.shutdown_background();
        return outcome;
    }
    if !(std::io::stdin().is_terminal() && std::io::stdout().is_terminal()) {
        let what =
            "the screen needs a terminal for input and output: use --script FILE, or --script - for standard input";
        return Err(Failure::usage(what));
    }
    let (admin, admin_token) = match running {
        Some(running) => (running.admin.to_string(), running.admin_token),
        None => (ADMIN_DEFAULT.to_owned(), crate::token::DEVELOPMENT_ADMIN_TOKEN.to_owned()),
    };
    let terms = ui::Terms {
        user: args.user.clone(),
        device,
        server: Place { address: server, token },
        admin: Place { address: args.admin.clone().unwrap_or(admin), token: admin_token },
        to: args.to.clone().or_else(|| answering(args)),
    };
    let runtime = crate::small_runtime()?;
    let outcome = runtime.block_on(ui::run(terms));
    // The terminal may be blocked in a read that nothing ends.
    runtime.shutdown_background();
    outcome
}

/// In `dev` bob answers, so a newcomer's first line goes to bob.
fn answering(args: &ChatArgs) -> Option<String> {
    let partner = if args.user == "bob" { "alice" } else { "bob" };
    args.token.is_none().then(|| partner.to_owned())
}

fn token(args: &ChatArgs) -> Result<String, Failure> {
    if let Some(token) = &args.token {
        return Ok(token.clone());
    }
    crate::token::command(&TokenArgs { user: args.user.clone(), role: None, ttl: "30 d".to_owned(), config: None })
}
