//! What `/metrics` shows of plugins. It lives and dies with their generation: the labels of a thousand swaps would fill any recorder.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::Generation;
use crate::member::Member;

/// Kinds of faults, and of calls that were not made.
const KINDS: [&str; 14] = [
    "trap",
    "deadline",
    "memory",
    "bad-answer",
    "body-not-declared",
    "no-message",
    "not-exported",
    "busy",
    "bounds",
    "rights",
    "impure",
    "gone",
    "spared",
    "other",
];
/// Upper bounds of the buckets, in nanoseconds.
const BOUNDS: [u64; 13] = [
    500, 1_000, 2_000, 5_000, 10_000, 100_000, 500_000, 1_000_000, 2_000_000, 5_000_000, 10_000_000, 25_000_000,
    50_000_000,
];

/// Counters of one plugin in one generation.
#[derive(Default)]
pub(crate) struct Meter {
    calls: AtomicU64,
    refusals: AtomicU64,
    faults: [AtomicU64; KINDS.len()],
    buckets: [AtomicU64; BOUNDS.len()],
    nanos: AtomicU64,
}

impl Meter {
    pub(crate) fn called(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
        if let Some(at) = BOUNDS.iter().position(|bound| nanos <= *bound) {
            self.buckets[at].fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn refused(&self) {
        self.refusals.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn failed(&self, kind: &str) {
        let at = KINDS.iter().position(|known| *known == kind).unwrap_or(KINDS.len() - 1);
        self.faults[at].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    pub(crate) fn refusals(&self) -> u64 {
        self.refusals.load(Ordering::Relaxed)
    }
}

/// The families of all these generations, in the text format of Prometheus (version 0.0.4). `loaded`: how many there are, by what they are for.
pub(crate) fn exposition(generations: &[Arc<Generation>], loaded: &[(&str, usize)]) -> String {
    let mut known: Vec<(&Arc<Member>, &str)> = Vec::new();
    for (member, standing) in generations.iter().flat_map(|generation| generation.members()) {
        if !known.iter().any(|(held, _)| Arc::ptr_eq(held, member)) {
            known.push((member, standing));
        }
    }
    let members: Vec<(String, &Member)> =
        known.into_iter().map(|(member, standing)| (labels(member, standing), &**member)).collect();
    let mut out = "# TYPE heddle_policy_generations gauge\n".to_owned();
    for (standing, count) in loaded {
        line(&mut out, "heddle_policy_generations", &format!("standing=\"{standing}\""), *count as u64);
    }
    out.push('\n');
    let mut family = |name: &str, kind: &str, each: &dyn Fn(&mut String, &str, &Member)| {
        let _ = writeln!(out, "# TYPE {name} {kind}");
        members.iter().for_each(|(labels, member)| each(&mut out, labels, member));
        out.push('\n');
    };
    family("heddle_policy_calls_total", "counter", &|out, labels, member| {
        line(out, "heddle_policy_calls_total", labels, member.health.meter.calls());
    });
    family("heddle_policy_refusals_total", "counter", &|out, labels, member| {
        line(out, "heddle_policy_refusals_total", labels, member.health.meter.refusals());
    });
    family("heddle_policy_faults_total", "counter", &|out, labels, member| {
        for (kind, faults) in KINDS.iter().zip(&member.health.meter.faults) {
            let faults = faults.load(Ordering::Relaxed);
            if faults > 0 {
                line(out, "heddle_policy_faults_total", &format!("{labels},kind=\"{kind}\""), faults);
            }
        }
    });
    family("heddle_policy_memory_bytes_peak", "gauge", &|out, labels, member| {
        line(out, "heddle_policy_memory_bytes_peak", labels, member.bare.memory_bytes_peak() as u64);
    });
    family("heddle_policy_call_seconds", "histogram", &|out, labels, member| {
        let meter = &member.health.meter;
        let mut below = 0;
        for (bound, bucket) in BOUNDS.iter().zip(&meter.buckets) {
            below += bucket.load(Ordering::Relaxed);
            let le = Duration::from_nanos(*bound).as_secs_f64();
            line(out, "heddle_policy_call_seconds_bucket", &format!("{labels},le=\"{le}\""), below);
        }
        let calls = meter.calls();
        line(out, "heddle_policy_call_seconds_bucket", &format!("{labels},le=\"+Inf\""), calls);
        let seconds = Duration::from_nanos(meter.nanos.load(Ordering::Relaxed)).as_secs_f64();
        let _ = writeln!(out, "heddle_policy_call_seconds_sum{{{labels}}} {seconds}");
        line(out, "heddle_policy_call_seconds_count", labels, calls);
    });
    out
}

/// Names of plugins have neither quotes nor backslashes: their manifests see to it.
fn labels(member: &Member, standing: &str) -> String {
    let Member { hook, name, health, .. } = member;
    let generation = health.generation;
    format!("hook=\"{hook}\",plugin=\"{name}\",standing=\"{standing}\",generation=\"{generation}\"")
}

fn line(out: &mut String, name: &str, labels: &str, value: u64) {
    let _ = writeln!(out, "{name}{{{labels}}} {value}");
}
