//! `heddle chat`: a terminal client for people, and a script runner for shells and tests.

mod args;
mod decides;
mod input;
mod position;
mod rest;
mod script;
mod state;
mod ui;
mod view;

pub use args::ChatArgs;

use std::io::IsTerminal as _;

use heddle_client::Address;
use rest::Place;

use crate::cli::TokenArgs;
use crate::failure::Failure;
use crate::ready::RunFile;

/// What `heddle plugin dev` writes as the reason of a change, before the moment of the save.
pub const SAVED_AT: &str = "plugin dev, saved at";

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
    let is_it =
        |named: &crate::named::Named, run: &RunFile| run.client.is_some_and(|at| named.authority == at.to_string());
    let running = running.filter(|run| args.server.as_ref().is_none_or(|named| is_it(named, run)));
    let server = server(args, running.as_ref())?;
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
    let admin = match (&args.admin, &running) {
        (Some(admin), _) => admin.address(args.ca.as_deref())?,
        (None, Some(running)) => running.admin_address()?,
        (None, None) => Address::from(ADMIN_DEFAULT),
    };
    let development = || crate::token::DEVELOPMENT_ADMIN_TOKEN.to_owned();
    let admin_token = running.map_or_else(development, |running| running.admin_token);
    let terms = ui::Terms {
        user: args.user.clone(),
        device,
        server: Place { address: server, token },
        admin: Place { address: admin, token: admin_token },
        to: args.to.clone().or_else(|| answering(args)),
    };
    let runtime = crate::small_runtime()?;
    let outcome = runtime.block_on(ui::run(terms));
    // The terminal may be blocked in a read that nothing ends.
    runtime.shutdown_background();
    outcome
}

/// A server that runs here says itself how it is believed.
fn server(args: &ChatArgs, running: Option<&RunFile>) -> Result<Address, Failure> {
    match (&args.server, running) {
        (_, Some(running)) if args.ca.is_none() => running.client_address(),
        (Some(server), _) => server.address(args.ca.as_deref()),
        (None, Some(running)) => running.named_client()?.address(args.ca.as_deref()),
        (None, None) => Ok(Address::from(SERVER_DEFAULT)),
    }
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
