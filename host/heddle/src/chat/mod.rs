//! `heddle chat`: a terminal client for people, and a script runner for shells and tests.

mod args;
mod script;

pub use args::ChatArgs;

use crate::cli::TokenArgs;
use crate::failure::Failure;
use crate::ready::RunFile;

/// Where the server of `heddle dev` listens if nobody says otherwise.
const SERVER_DEFAULT: &str = "127.0.0.1:7600";

/// Runs the client until it is done.
///
/// # Errors
/// If the arguments are wrong, the server is not there, or the script fails.
pub fn command(args: &ChatArgs) -> Result<(), Failure> {
    let token = token(args)?;
    let running = RunFile::read(&args.data).ok();
    let server = args.server.clone().or_else(|| running.as_ref().map(|running| running.client.to_string()));
    let server = server.unwrap_or_else(|| SERVER_DEFAULT.to_owned());
    let device =
        args.device.clone().unwrap_or_else(|| if args.script.is_some() { "script" } else { "terminal" }.into());
    heddle_protocol::check_id(&device).map_err(|error| Failure::usage(format!("--device {device:?}: {error}")))?;
    let Some(file) = &args.script else {
        return Err(Failure::usage("the screen is not there yet: use --script FILE, or --script - for standard input"));
    };
    let runtime = crate::small_runtime()?;
    let steps = script::steps(file)?;
    let terms = script::Terms { server, token, device, timeout: args.timeout };
    let outcome = runtime.block_on(script::run(&terms, steps, std::io::stdout()));
    // Standard input may be blocked in a read that nothing ends.
    runtime.shutdown_background();
    outcome
}

fn token(args: &ChatArgs) -> Result<String, Failure> {
    if let Some(token) = &args.token {
        return Ok(token.clone());
    }
    crate::token::command(&TokenArgs { user: args.user.clone(), ttl: "30 d".to_owned(), config: None })
}
