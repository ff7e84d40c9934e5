//! `heddle plugin replay` and `record`: what was decided, put to a candidate, in this process.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use heddle_model::{Clock as _, Hook, SystemClock};
use heddle_pack::Packed;
use heddle_policy::{Component, Loaded, Recorded, Replayed, Succession, replay};
use heddle_wasm::{Engine, Limits, LoadOptions, Plugin};
use hyper::body::Bytes;
use serde_json::{Map, Value, json};

use super::args::AskArgs;
use super::change::{answer, printed};
use super::progress::Progress;
use crate::admin::{AdminArgs, quoted};
use crate::cli::Output;
use crate::failure::Failure;

const DEADLINE: Duration = Duration::from_secs(60);
/// Calls that are timed on a warm instance.
const TIMED_MAX: usize = 2_000;
const MEMORY_MAX: usize = 1 << 30;
const DEADLINE_MS_MAX: u32 = 10_000;

/// One hook's replay.
struct Report {
    hook: Hook,
    replayed: Replayed,
    before: Option<Cost>,
    now: Cost,
}

/// Of a warm instance.
#[derive(Clone, Copy)]
struct Cost {
    micros: f64,
    memory_bytes: usize,
}

/// What was recorded, a call a line.
///
/// # Errors
/// If no server answers.
pub(super) async fn record(last: &str, hook: Option<&str>, ask: &AskArgs) -> Result<String, Failure> {
    let calls = fetch(last, hook, &ask.server).await?;
    let lines = String::from_utf8_lossy(&calls);
    Ok(match ask.output {
        Output::Text => lines.trim_end().to_owned(),
        Output::Json => format!("[{}]", lines.lines().collect::<Vec<_>>().join(",")),
    })
}

/// Puts the calls to the file.
///
/// # Errors
/// If there are no calls for it, or it cannot be loaded.
pub(super) async fn command(
    file: &Bytes,
    last: &str,
    from: Option<&Path>,
    limit: usize,
    ask: &AskArgs,
) -> Result<String, Failure> {
    let candidate = heddle_pack::unpack(file.as_ref()).map_err(|error| Failure::new(error.to_string()))?;
    let (lines, set) = match from {
        Some(path) => {
            let lines = std::fs::read(path)
                .map_err(|error| Failure::missing(format!("cannot read {path:?} ({error}): name a file of calls")))?;
            (Bytes::from(lines), Value::Null)
        }
        None => {
            (fetch(last, None, &ask.server).await?, answer(ask, hyper::Method::GET, "/policies", Bytes::new()).await?)
        }
    };
    let calls = parse(&lines)?;
    let name = &candidate.manifest.name;
    let _progress = Progress::of(format!("compiling {name}, then putting {} calls to it", calls.len()));
    let engine =
        Engine::new(Limits { memory_bytes_max: MEMORY_MAX, deadline_ms_max: DEADLINE_MS_MAX, ..Limits::default() })
            .map_err(|error| Failure::new(error.to_string()))?;
    let mut reports = Vec::new();
    for hook in Hook::ALL {
        let declared = heddle_pack::Hook::from_name(hook.name());
        if declared.is_some_and(|hook| candidate.manifest.hooks.contains_key(&hook)) {
            let live = live(&set, hook, &candidate.manifest.name);
            let before = match (live, from) {
                (Some(live), None) => Some(load_live(&engine, live, ask).await?),
                _ => None,
            };
            let config = inherited(&candidate, live, before.as_ref());
            reports.extend(one_hook(&engine, &candidate, config, hook, &calls, before)?);
        }
    }
    if reports.is_empty() {
        let hooks: Vec<&str> = candidate.manifest.hooks.keys().map(|hook| hook.as_str()).collect();
        return Err(Failure::missing(format!(
            "no call of {} was recorded: send some messages, or widen --last; policies.record says what a server keeps",
            hooks.join(", ")
        )));
    }
    let json = Value::Array(reports.iter().map(|report| as_json(report, limit)).collect());
    Ok(printed(ask.output, &json, |_| reports.iter().map(|report| as_text(report, limit)).collect()))
}

async fn fetch(last: &str, hook: Option<&str>, server: &AdminArgs) -> Result<Bytes, Failure> {
    let span = humantime::parse_duration(last)
        .map_err(|error| Failure::usage(format!("--last {last:?} is not a time ({error}): write 10m, or 90s")))?;
    let mut path = format!("/policies/recorded?last_ms={}", span.as_millis());
    if let Some(hook) = hook {
        let _ = write!(path, "&hook={}", quoted(hook));
    }
    server.client(DEADLINE)?.fetch(&path).await
}

fn parse(lines: &Bytes) -> Result<Vec<Recorded>, Failure> {
    let lines = lines.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.trim_ascii().is_empty());
    let call = |(at, line): (usize, &[u8])| {
        serde_json::from_slice(line).map_err(|error| {
            Failure::usage(format!("line {} is no call as `heddle plugin record` prints it: {error}", at + 1))
        })
    };
    lines.map(call).collect()
}

/// What decides now under this name.
fn live<'a>(set: &'a Value, hook: Hook, name: &str) -> Option<&'a Value> {
    let policies = set["policies"].as_array()?;
    policies.iter().find(|live| live["hook"] == hook.name() && live["name"] == name && live["standing"] == "decides")
}

async fn load_live(engine: &Engine, live: &Value, ask: &AskArgs) -> Result<Arc<Plugin>, Failure> {
    let digest = live["digest"].as_str().unwrap_or_default();
    let bytes = ask.server.client(DEADLINE)?.fetch(&format!("/policies/files/{digest}")).await?;
    let packed = heddle_pack::unpack(bytes.as_ref()).map_err(|error| Failure::new(error.to_string()))?;
    load(engine, &packed, live["config"].as_object().cloned())
}

fn load(engine: &Engine, packed: &Packed, config: Option<Map<String, Value>>) -> Result<Arc<Plugin>, Failure> {
    let random_seed = packed.digest.get(..16).and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or(0);
    let config = config.map(|config| Value::Object(config).to_string());
    let options = LoadOptions { config, random_seed, ..LoadOptions::default() };
    engine.load(packed, &options).map_err(|error| Failure::new(error.to_string()))
}

/// What a deployment would configure: the file's own, with what the operator had set for the one that decides.
fn inherited(candidate: &Packed, live: Option<&Value>, before: Option<&Arc<Plugin>>) -> Map<String, Value> {
    let mut config = candidate.manifest.config.as_object().cloned().unwrap_or_default();
    if let (Some(live), Some(before)) = (live, before) {
        let set = live["config"].as_object().into_iter().flatten();
        let differs = |(key, value): &(&String, &Value)| before.manifest().config.get(key.as_str()) != Some(*value);
        config.extend(set.filter(differs).map(|(key, value)| (key.clone(), value.clone())));
    }
    config
}

fn one_hook(
    engine: &Engine,
    candidate: &Packed,
    config: Map<String, Value>,
    hook: Hook,
    calls: &[Recorded],
    before: Option<Arc<Plugin>>,
) -> Result<Option<Report>, Failure> {
    let name = &candidate.manifest.name;
    let mut by_plugin: BTreeMap<&str, Vec<Recorded>> = BTreeMap::new();
    for call in calls.iter().filter(|call| call.hook == hook) {
        by_plugin.entry(&call.plugin).or_default().push(call.clone());
    }
    let own = by_plugin.remove(name.as_str());
    let (calls, succession) = match own {
        Some(calls) => {
            let other = before
                .as_ref()
                .is_some_and(|before| before.manifest().state_version != candidate.manifest.state_version);
            (calls, if other { Succession::OtherState } else { Succession::Same })
        }
        // It would come last: the calls of the one that is asked most often stand for those of the chain.
        None => match by_plugin.into_values().max_by_key(Vec::len) {
            Some(calls) => (calls, Succession::After),
            None => return Ok(None),
        },
    };
    let plugin = load(engine, candidate, Some(config))?;
    let component: Arc<dyn Component> = Arc::new(Loaded(Arc::clone(&plugin)));
    let replayed = replay(&component, &calls, succession);
    let now = cost(&plugin, &calls);
    let before = before.map(|before| cost(&before, &calls));
    Ok(Some(Report { hook, replayed, before, now }))
}

fn cost(plugin: &Arc<Plugin>, calls: &[Recorded]) -> Cost {
    let component = Loaded(Arc::clone(plugin));
    let clock = SystemClock::new();
    let timed = &calls[..calls.len().min(TIMED_MAX)];
    let mut spans: Vec<Duration> = Vec::with_capacity(timed.len());
    for recorded in timed {
        let start = clock.monotonic();
        recorded.call.make(recorded.at, &component);
        spans.push(clock.monotonic().saturating_sub(start));
    }
    spans.sort_unstable();
    let median = spans.get(spans.len() / 2).copied().unwrap_or_default();
    Cost { micros: median.as_secs_f64() * 1e6, memory_bytes: plugin.memory_bytes_peak() }
}

fn as_json(report: &Report, limit: usize) -> Value {
    let cost = |cost: Cost| json!({ "micros": cost.micros, "memory_bytes": cost.memory_bytes });
    let Report { hook, replayed, before, now } = report;
    json!({
        "hook": hook, "same": replayed.same, "changed": replayed.changed.len(), "skipped": replayed.skipped,
        "answers": replayed.answers, "before": before.map(cost), "now": cost(*now),
        "changes": replayed.changed.iter().take(limit).collect::<Vec<_>>(),
    })
}

fn as_text(report: &Report, limit: usize) -> String {
    let Report { hook, replayed, before, now } = report;
    let cost = |cost: Cost| format!("{:.1} µs, {} KiB", cost.micros, cost.memory_bytes >> 10);
    let before = before.map_or_else(String::new, |before| format!("{} before, ", cost(before)));
    let mut out =
        format!("{hook}: {} same, {} changed  ({before}{} now)\n", replayed.same, replayed.changed.len(), cost(*now));
    if replayed.skipped > 0 {
        let _ = writeln!(out, "  {} more were refused before it would be asked", replayed.skipped);
    }
    for change in replayed.changed.iter().take(limit) {
        let (answer, would, call) = (json!(change.recorded.answer), json!(change.would), json!(change.recorded.call));
        let _ = writeln!(out, "  {answer} -> {would}\n    {call}");
    }
    if replayed.changed.len() > limit {
        let _ = writeln!(out, "  and {} more: -n {}", replayed.changed.len() - limit, replayed.changed.len());
    }
    out
}
