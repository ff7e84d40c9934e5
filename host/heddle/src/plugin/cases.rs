//! `heddle plugin test`: the cases of a plugin in the engine that serves, on fresh and on used instances.

use std::fmt::Write as _;
use std::path::Path;

use heddle_model::{Clock as _, SystemClock};
use heddle_pack::{Hook, Packed};
use heddle_wasm::{Answered, Engine, Limits, LoadOptions, Mismatch, run_cases};
use serde_json::{Value, json};

use super::source::Source;
use crate::cli::Output;
use crate::failure::Failure;

/// Columns of an answer that is shown in a line.
const ANSWER_CHARS_MAX: usize = 100;

/// What one case showed.
#[derive(Debug)]
pub struct Tried {
    name: String,
    hook: Hook,
    /// Of one call on a used instance.
    micros: f64,
    steps: Vec<Answered>,
    /// Answers of used instances that differ from those of fresh ones.
    impure: Vec<Mismatch>,
    /// Why it could not be run at all.
    broken: Option<String>,
}

impl Tried {
    /// As expected, and the same on every instance?
    pub fn passed(&self) -> bool {
        self.broken.is_none() && self.impure.is_empty() && self.steps.iter().all(|step| step.fits)
    }

    fn json(&self) -> Value {
        let step = |step: &Answered| json!({"expected": step.wanted, "found": step.found, "passed": step.fits});
        let impure = |wrong: &Mismatch| json!({"step": wrong.step, "fresh": wrong.wanted, "used": wrong.found});
        json!({
            "name": self.name, "hook": self.hook.as_str(), "passed": self.passed(), "micros": self.micros,
            "steps": self.steps.iter().map(step).collect::<Vec<_>>(),
            "impure": self.impure.iter().map(impure).collect::<Vec<_>>(),
            "problem": self.broken,
        })
    }

    /// For people, what is wrong with it.
    pub fn problem(&self) -> String {
        let wrong = self.wrong();
        format!("case {:?}: {}", self.name, wrong.join("; "))
    }

    fn wrong(&self) -> Vec<String> {
        let mut wrong: Vec<String> = self.broken.iter().cloned().collect();
        for (at, step) in self.steps.iter().enumerate().filter(|(_, step)| !step.fits) {
            wrong.push(format!("step {}: expected {}, found {}", at + 1, step.wanted, step.found));
        }
        for Mismatch { step, wanted, found, .. } in &self.impure {
            wrong.push(format!(
                "step {step}: a fresh instance answers {wanted}, a used one {found}: keep nothing between calls"
            ));
        }
        wrong
    }

    /// For people: a line, and one for each wrong answer.
    pub fn line(&self) -> String {
        let mark = if self.passed() { "ok  " } else { "FAIL" };
        let answers: Vec<String> = self.steps.iter().map(|step| step.wanted.to_string()).collect();
        let answers = if self.passed() { cut(&answers.join(" ")) } else { String::new() };
        let mut out = format!("{mark}  {:<32} {:>7.1} µs  {answers}", self.name, self.micros).trim_end().to_owned();
        for wrong in self.wrong() {
            let _ = write!(out, "\n      {wrong}");
        }
        out
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(ANSWER_CHARS_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// The engine, with the limits of an operator who says nothing.
///
/// # Errors
/// The machine does not give it what it needs.
pub fn engine() -> Result<Engine, Failure> {
    let limits = Limits { instances_max: 64, ..Limits::default() };
    Engine::new(limits).map_err(|error| Failure::new(error.to_string()))
}

/// Runs them all.
///
/// # Errors
/// The plugin cannot be loaded.
pub fn try_all(engine: &Engine, packed: &Packed) -> Result<Vec<Tried>, String> {
    let plugin = engine.load(packed, &LoadOptions::default()).map_err(|error| error.to_string())?;
    let clock = SystemClock::new();
    let mut tried = Vec::with_capacity(packed.cases.len());
    let mut sound = Vec::with_capacity(packed.cases.len());
    for case in &packed.cases {
        let answers = plugin.answers(case);
        let took = answers.as_ref().ok().map(|_| plugin.time_case(case, &|| clock.monotonic()));
        let micros = took.and_then(Result::ok).unwrap_or_default().as_secs_f64() * 1e6;
        let (steps, broken) = match answers {
            Ok(steps) => (steps, None),
            Err(fault) => (Vec::new(), Some(fault.to_string())),
        };
        if broken.is_none() {
            sound.push(case.clone());
        }
        tried.push(Tried { name: case.name.clone(), hook: case.hook, micros, steps, impure: Vec::new(), broken });
    }
    let report = run_cases(&plugin, &sound).map_err(|fault| fault.to_string())?;
    for wrong in report.impure {
        if let Some(tried) = tried.iter_mut().find(|tried| tried.name == wrong.case) {
            tried.impure.push(wrong);
        }
    }
    Ok(tried)
}

/// `heddle plugin test`: prints a line a case.
///
/// # Errors
/// It does not build or load, or a case fails.
pub fn command(path: &Path, output: Output, out: &mut impl std::io::Write) -> Result<String, Failure> {
    let source = Source::open(path)?;
    let place = source.path.display().to_string();
    let packed = heddle_pack::unpack(source.bytes).map_err(|error| Failure::new(format!("{place}: {error}")))?;
    let tried = try_all(&engine()?, &packed).map_err(|error| Failure::new(format!("{place}: {error}")))?;
    let failed = tried.iter().filter(|case| !case.passed()).count();
    let (name, version) = (&packed.manifest.name, &packed.manifest.version);
    let text = match output {
        Output::Json => json!({
            "plugin": name, "version": version, "digest": packed.digest,
            "passed": tried.len() - failed, "failed": failed,
            "cases": tried.iter().map(Tried::json).collect::<Vec<_>>(),
        })
        .to_string(),
        Output::Text => {
            let mut lines: Vec<String> = tried.iter().map(Tried::line).collect();
            lines.push(match (tried.len(), failed) {
                (0, _) => format!("{name} {version} has no cases: write cases/NAME.json, each server runs them"),
                (all, 0) => format!("{all} case(s) pass, each on fresh and on used instances"),
                (all, failed) => format!("{failed} of {all} case(s) fail"),
            });
            lines.join("\n")
        }
    };
    writeln!(out, "{text}").map_err(|error| Failure::new(format!("stdout: {error}")))?;
    match failed {
        0 => Ok(String::new()),
        failed => Err(Failure::new(format!("{name} {version} would not be deployed: {failed} case(s) fail"))),
    }
}
