//! `heddle config`: show and check.

use crate::cli::ConfigCommand;
use crate::config::{Sources, annotated, effective};
use crate::failure::Failure;

/// The text for stdout.
///
/// # Errors
/// All problems, at once.
pub fn command(command: &ConfigCommand) -> Result<String, Failure> {
    match command {
        ConfigCommand::Show { defaults: true, .. } => Ok(annotated()),
        ConfigCommand::Show { config, .. } => {
            let sources = Sources { file: config.clone(), variables: Sources::environment(), ..Sources::default() };
            Ok(effective(&sources.load()?))
        }
        ConfigCommand::Check { file } => {
            let sources = Sources { file: Some(file.clone()), variables: Sources::environment(), ..Sources::default() };
            crate::config::check_serve(&sources.load()?, crate::token::DEVELOPMENT_SECRET)?;
            Ok(format!("{} is right", file.display()))
        }
    }
}
