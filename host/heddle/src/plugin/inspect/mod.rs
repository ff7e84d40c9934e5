//! `heddle plugin inspect` and `check`: what is in a file, without running it; and whether a server would take it.

mod problems;
mod shown;

use std::path::Path;
use std::sync::Arc;

use heddle_model::{Clock as _, SystemClock};
use heddle_pack::{PackError, Packed, Surface};
use heddle_wasm::{Engine, LoadOptions};
use serde_json::json;

use super::cases;
use super::progress::Progress;
use super::sign;
use super::source::Source;
use crate::cli::Output;
use crate::failure::Failure;

/// A file taken apart as far as it goes.
#[derive(Debug)]
pub struct Inspected {
    path: String,
    bytes: usize,
    digest: String,
    /// The id of the key that signed it, and what it says; whether it is trusted only a server knows.
    signed: Option<(String, String)>,
    packed: Result<Packed, PackError>,
    surface: Result<Surface, PackError>,
}

/// What the engine says of it.
#[derive(Debug, Default)]
pub struct Measured {
    compile_ms: Option<f64>,
    memory_start_bytes: Option<usize>,
    cases: usize,
    problems: Vec<String>,
}

impl Inspected {
    fn of(path: &Path) -> Result<Self, Failure> {
        let source = Source::open(path)?;
        let bytes: Arc<[u8]> = source.bytes.into();
        Ok(Self {
            path: source.path.display().to_string(),
            bytes: bytes.len(),
            signed: signed(&source.path)?,
            digest: heddle_pack::digest(&bytes),
            surface: heddle_pack::surface(&bytes),
            packed: heddle_pack::unpack(bytes),
        })
    }

    /// Compiles, starts and configures it, runs its cases. What is known to be wrong already is not said twice.
    fn measure(&self, engine: &Engine) -> Measured {
        let mut measured = Measured { problems: problems::of(self, &engine.limits()), ..Measured::default() };
        let Ok(packed) = &self.packed else { return measured };
        if !measured.problems.is_empty() {
            return measured;
        }
        let clock = SystemClock::new();
        let start = clock.monotonic();
        match engine.load(packed, &LoadOptions::default()) {
            Ok(plugin) => {
                measured.compile_ms = Some((clock.monotonic() - start).as_secs_f64() * 1e3);
                measured.memory_start_bytes = Some(plugin.memory_bytes());
            }
            Err(error) => {
                measured.problems = problems::each_hook(engine, packed, error.to_string());
                return measured;
            }
        }
        match cases::try_all(engine, packed) {
            Ok(tried) => {
                measured.cases = tried.len();
                let failed = tried.iter().filter(|case| !case.passed());
                measured.problems.extend(failed.map(cases::Tried::problem));
            }
            Err(error) => measured.problems.push(error),
        }
        measured
    }
}

fn signed(file: &Path) -> Result<Option<(String, String)>, Failure> {
    let text = sign::read(file, None)?;
    Ok(text.map(|text| {
        let comment = text.lines().find_map(|line| line.strip_prefix("trusted comment: ")).unwrap_or_default();
        (heddle_pack::signature_key(&text).unwrap_or_else(|| "that cannot be read".to_owned()), comment.to_owned())
    }))
}

/// `heddle plugin inspect`: nothing of it is compiled or run.
///
/// # Errors
/// It cannot be read at all.
pub fn inspect(path: &Path, output: Output) -> Result<String, Failure> {
    let inspected = Inspected::of(path)?;
    if let (Err(error), Err(_)) = (&inspected.packed, &inspected.surface) {
        return Err(Failure::new(format!("{}: {error}", inspected.path)));
    }
    Ok(match output {
        Output::Json => shown::json(&inspected).to_string(),
        Output::Text => shown::text(&inspected, true),
    })
}

/// `heddle plugin check`: prints what it is, then everything that stands in its way.
///
/// # Errors
/// A server would not take it.
pub fn check(path: &Path, output: Output, out: &mut impl std::io::Write) -> Result<String, Failure> {
    let inspected = Inspected::of(path)?;
    let progress = Progress::of(format!("compiling {} and running its cases", path.display()));
    let measured = inspected.measure(&cases::engine()?);
    drop(progress);
    let fits = measured.problems.is_empty();
    let text = match output {
        Output::Json => {
            let mut all = shown::json(&inspected);
            all["fits"] = fits.into();
            all["compile_ms"] = json!(measured.compile_ms);
            all["memory_start_bytes"] = json!(measured.memory_start_bytes);
            all["problems"] = json!(measured.problems);
            all["notes"] = json!(problems::notes(&inspected));
            all.to_string()
        }
        Output::Text => {
            let verdict = shown::measured(&measured);
            let notes: Vec<String> =
                problems::notes(&inspected).iter().map(|note| format!("note        {note}")).collect();
            [shown::text(&inspected, false), verdict, notes.join("\n")].concat()
        }
    };
    writeln!(out, "{}", text.trim_end()).map_err(|error| Failure::new(format!("stdout: {error}")))?;
    if fits {
        return Ok(String::new());
    }
    let mut said = format!("{} does not fit, {} problem(s):", inspected.path, measured.problems.len());
    for problem in &measured.problems {
        said.push_str("\n  ");
        said.push_str(&problem.replace('\n', "\n  "));
    }
    Err(Failure::new(said))
}

#[cfg(test)]
mod tests;
