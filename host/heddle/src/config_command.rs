//! `heddle config`: show, check and reload.

use std::time::Duration;

use heddle_model::{Clock as _, SystemClock};
use hyper::Method;
use hyper::body::Bytes;
use serde_json::Value;

use crate::cli::{ConfigCommand, Output};
use crate::config::{Sources, annotated, backend_warnings, effective};
use crate::failure::Failure;
use crate::server::sound::sound;

/// A server reads its files within this, and asks brokers whether they take what it found.
const DEADLINE: Duration = Duration::from_secs(30);

/// The text for stdout.
///
/// # Errors
/// All problems, at once.
pub async fn command(command: &ConfigCommand) -> Result<String, Failure> {
    match command {
        ConfigCommand::Show { defaults: true, .. } => Ok(annotated()),
        ConfigCommand::Show { config, .. } => {
            let sources = Sources { file: config.clone(), variables: Sources::environment(), ..Sources::default() };
            Ok(effective(&sources.load()?))
        }
        ConfigCommand::Reload { server, output } => {
            let answer = server.client(DEADLINE)?.ask(Method::POST, "/config/reload", Bytes::new()).await?;
            let answer = answer.map_err(|refusal| Failure::new(format!("nothing was reloaded. {}", refusal.detail)))?;
            Ok(match output {
                Output::Json => answer.to_string(),
                Output::Text => people(&answer),
            })
        }
        ConfigCommand::Check { file } => {
            let sources = Sources { file: Some(file.clone()), variables: Sources::environment(), ..Sources::default() };
            let config = sound(&sources, false)?;
            let now = SystemClock::new().now();
            let mut warnings = crate::server::settings::gateway(&config, "", false)?.warnings(now);
            warnings.extend(backend_warnings(&config, now));
            let warnings = warnings.iter().map(|warning| format!("\n  warning: {warning}")).collect::<String>();
            Ok(format!("{} is right{warnings}", file.display()))
        }
    }
}

fn people(answer: &Value) -> String {
    let lines = |what: &str, keys: &Value| {
        let keys = keys.as_array().into_iter().flatten().filter_map(Value::as_str);
        keys.map(|key| format!("{what} {key}\n")).collect::<String>()
    };
    let text = lines("took effect:    ", &answer["applied"])
        + &lines("needs a restart:", &answer["waiting"])
        + &lines("warning:        ", &answer["warnings"]);
    if text.is_empty() { "no key differs; key files were read again".to_owned() } else { text }
}
