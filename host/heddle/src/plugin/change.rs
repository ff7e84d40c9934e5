//! `heddle plugin deploy`, `set`, `chain`, `remove`, `rollback`, `list`, `history`: what a running server decides with.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use hyper::body::Bytes;
use hyper::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::args::{AskArgs, ChangeArgs, PluginCommand};
use super::progress::Progress;
use crate::admin::quoted;
use crate::cli::Output;
use crate::failure::Failure;

/// Compiling a large component takes its time: with the defaults up to five minutes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(330);

/// Asks the server, and says what stdout should show.
///
/// # Errors
/// What the server refuses, and why.
pub async fn command(command: PluginCommand) -> Result<String, Failure> {
    match command {
        PluginCommand::Build { dir, out, output } => super::build(&dir, out, output),
        PluginCommand::Author(command) => super::author::command(command).await,
        PluginCommand::Deploy { file, hook, shadow, canary, signature, allow_downgrade, change } => {
            let bytes = read(&file)?;
            let mut path =
                format!("/policies/plugins?file={}&why={}", quoted(&file.display().to_string()), why(&change));
            at_hook(&mut path, hook);
            if shadow {
                path.push_str("&trial=shadow");
            }
            if let Some(percent) = canary {
                let _ = write!(path, "&trial=canary&percent={percent}");
            }
            if let Some(signature) = super::sign::read(&file, signature.as_deref())? {
                let _ = write!(path, "&signature={}", quoted(&signature));
            }
            if allow_downgrade {
                path.push_str("&allow_downgrade=true");
            }
            let _progress = Progress::of(format!("the server compiles {} and runs its cases", file.display()));
            changed(&change, Method::POST, &path, bytes).await
        }
        PluginCommand::Set { plugin, values, change } => {
            let path = format!("/policies/plugins/{}?why={}", quoted(&plugin), why(&change));
            changed(&change, Method::PATCH, &path, settings(&values)?.to_string().into()).await
        }
        PluginCommand::Chain { hook, plugins, change } => {
            let path = format!("/policies/chains/{}?why={}", quoted(&hook), why(&change));
            changed(&change, Method::PUT, &path, json!(plugins).to_string().into()).await
        }
        PluginCommand::Remove { plugin, hook, change } => {
            let mut path = format!("/policies/plugins/{}?why={}", quoted(&plugin), why(&change));
            at_hook(&mut path, hook);
            changed(&change, Method::DELETE, &path, Bytes::new()).await
        }
        PluginCommand::Enable { plugin, hook, change } => enable(&plugin, hook, true, &change).await,
        PluginCommand::Disable { plugin, hook, change } => enable(&plugin, hook, false, &change).await,
        PluginCommand::Trial { ask } => {
            let answer = answer(&ask, Method::GET, "/policies/trial", Bytes::new()).await?;
            Ok(printed(ask.output, &answer, super::trial::text_of))
        }
        PluginCommand::Promote { change } => {
            let path = format!("/policies/trial/promote?why={}", why(&change));
            changed(&change, Method::POST, &path, Bytes::new()).await
        }
        PluginCommand::Abandon { change } => {
            changed(&change, Method::DELETE, &format!("/policies/trial?why={}", why(&change)), Bytes::new()).await
        }
        PluginCommand::Replay { file, last, from, limit, ask } => {
            super::replay::command(&read(&file)?, &last, from.as_deref(), limit, &ask).await
        }
        PluginCommand::Record { last, hook, ask } => super::replay::record(&last, hook.as_deref(), &ask).await,
        PluginCommand::Revoke { generation, change } => {
            let mut path = format!("/policies/revoke?why={}", why(&change));
            if let Some(generation) = generation {
                let _ = write!(path, "&generation={generation}");
            }
            changed(&change, Method::POST, &path, Bytes::new()).await
        }
        PluginCommand::Rollback { generation, change } => {
            let mut path = format!("/policies/rollback?why={}", why(&change));
            if let Some(to) = generation {
                let _ = write!(path, "&to={to}");
            }
            changed(&change, Method::POST, &path, Bytes::new()).await
        }
        PluginCommand::List { ask } => {
            let answer = answer(&ask, Method::GET, "/policies", Bytes::new()).await?;
            Ok(printed(ask.output, &answer, |answer| {
                format!("generation {}{}\n{}", answer["generation"], older(answer), chains(answer))
            }))
        }
        PluginCommand::History { limit, ask } => {
            let answer = answer(&ask, Method::GET, &format!("/policies/history?limit={limit}"), Bytes::new()).await?;
            Ok(printed(ask.output, &answer, history))
        }
    }
}

fn at_hook(path: &mut String, hook: Option<String>) {
    if let Some(hook) = hook {
        let _ = write!(path, "&hook={}", quoted(&hook));
    }
}

async fn enable(plugin: &str, hook: Option<String>, enabled: bool, change: &ChangeArgs) -> Result<String, Failure> {
    let mut path = format!("/policies/plugins/{}/enabled?why={}", quoted(plugin), why(change));
    at_hook(&mut path, hook);
    changed(change, Method::PUT, &path, json!(enabled).to_string().into()).await
}

fn why(change: &ChangeArgs) -> String {
    quoted(&change.why)
}

pub(super) fn read(file: &Path) -> Result<Bytes, Failure> {
    std::fs::read(file).map(Bytes::from).map_err(|error| {
        Failure::missing(format!("cannot read {file:?} ({error}): name the file that `heddle plugin build` wrote"))
    })
}

/// `KEY=VALUE` as JSON: a value that is none is a text.
fn settings(values: &[String]) -> Result<Value, Failure> {
    let mut settings = Map::new();
    for setting in values {
        let (key, value) = setting
            .split_once('=')
            .filter(|(key, _)| !key.is_empty())
            .ok_or_else(|| Failure::usage(format!("{setting:?} is no KEY=VALUE, like burst=40")))?;
        let value = match value {
            "" => Value::Null,
            value => serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned())),
        };
        settings.insert(key.to_owned(), value);
    }
    Ok(Value::Object(settings))
}

pub(super) async fn answer(ask: &AskArgs, method: Method, path: &str, body: Bytes) -> Result<Value, Failure> {
    let client = ask.server.client(DEADLINE)?;
    client.ask(method, path, body).await?.map_err(|refusal| match refusal.status {
        StatusCode::NOT_FOUND => Failure::missing(refusal.detail),
        _ => Failure::new(refusal.detail),
    })
}

async fn changed(change: &ChangeArgs, method: Method, path: &str, body: Bytes) -> Result<String, Failure> {
    let answer = answer(&change.ask, method, path, body).await?;
    Ok(printed(change.ask.output, &answer, |answer| {
        let (before, now) = (&answer["before"], &answer["generation"]);
        if before == now {
            return format!("generation {now} goes on: nothing would be otherwise");
        }
        let seconds = answer["took_ms"].as_f64().unwrap_or_default() / 1e3;
        format!("generation {now} decides, after {before} ({seconds:.2} s)\n{}", chains(answer))
    }))
}

pub(super) fn printed(output: Output, answer: &Value, people: impl FnOnce(&Value) -> String) -> String {
    match output {
        Output::Json => answer.to_string(),
        Output::Text => people(answer).trim_end().to_owned(),
    }
}

pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

/// A line a plugin.
fn chains(answer: &Value) -> String {
    let mut out = String::new();
    for policy in answer["policies"].as_array().into_iter().flatten() {
        let plugin = format!("{} {}", text(&policy["name"]), text(&policy["version"]));
        // 0: it was not measured, or failed when it was.
        let micros = policy["micros"].as_f64().filter(|micros| *micros > 0.0);
        let micros = micros.map_or_else(|| "-".to_owned(), |micros| format!("{micros:.1} µs"));
        let digest = text(&policy["digest"]).get(..12).unwrap_or("-");
        let _ = write!(out, "{:<10} {plugin:<28} {micros:>10}  sha256 {digest}", text(&policy["hook"]));
        match text(&policy["standing"]) {
            "decides" => out.push('\n'),
            "disabled" => out.push_str("  disabled: it is not asked, see `heddle plugin enable`\n"),
            standing => drop(writeln!(out, "  {standing}")),
        }
    }
    out
}

/// Which ones before it are still there.
fn older(answer: &Value) -> String {
    let mut out = String::new();
    let numbers = |key: &str| answer[key].as_array().cloned().unwrap_or_default();
    let (loaded, waiting) = (numbers("loaded"), numbers("waiting"));
    for (key, what) in [("draining", "draining"), ("kept", "kept for a way back")] {
        let shown = |number: &Value| {
            let not_loaded = (key == "draining" && !loaded.contains(number)).then_some("not loaded");
            let waits = (key == "draining" && waiting.contains(number)).then_some("its records wait to be worked on");
            let said: Vec<&str> = not_loaded.into_iter().chain(waits).collect();
            if said.is_empty() { number.to_string() } else { format!("{number} ({})", said.join(", ")) }
        };
        let numbers: Vec<String> = numbers(key).iter().map(shown).collect();
        if !numbers.is_empty() {
            let _ = write!(out, "  {what}: {}", numbers.join(", "));
        }
    }
    out
}

/// A line a change, newest first.
fn history(answer: &Value) -> String {
    let mut out = String::new();
    for change in answer["changes"].as_array().into_iter().flatten() {
        let seconds = i64::try_from(change["at"].as_u64().unwrap_or_default() / 1_000).unwrap_or_default();
        let at = humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + Duration::from_secs(seconds.unsigned_abs()));
        let generation = change["detail"]["after"]["generation"].as_u64().map_or_else(String::new, |n| n.to_string());
        let (what, who, why) = (text(&change["what"]), text(&change["who"]), text(&change["why"]));
        let standing = change["standing"].as_str().unwrap_or_default();
        let _ = writeln!(out, "{at}  {generation:>5} {standing:<8}  {what:<10} {who:<12} {why}");
    }
    out
}
