//! Is a plugin well? Its calls and faults are counted, it is spared the keys that kill it, and if it goes on failing an alarm is raised.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use heddle_model::{Digest, Hook};
use lru::LruCache;
use parking_lot::Mutex;
use tokio::sync::mpsc::Sender;

use crate::component::Fault;
use crate::meter::Meter;

/// Faults for one key, and the plugin is not asked about it for [`SPARED`]: one poisonous message does not take everybody's policy down.
const STRIKES: u32 = 2;
const SPARED: Duration = Duration::from_secs(10);
/// Keys whose strikes are remembered, of each plugin; the oldest go.
const STRUCK_MAX: NonZeroUsize = NonZeroUsize::new(1_024).unwrap();
/// The breaker opens after so many faults in a row,
const IN_A_ROW: u32 = 5;
/// or when more than one call in a hundred, of at least so many within [`WINDOW`], was a fault.
const CALLS_MIN: u64 = 100;
const WINDOW: Duration = Duration::from_secs(10);
const FAULT_SHARE: u64 = 100;
/// A plugin on trial is given less patience.
const TRIAL_FAULTS_MAX: u64 = 3;
/// Repeated calls, which are few, that were answered otherwise.
const IMPURE_MAX: u32 = 3;

/// A plugin goes on failing.
#[derive(Debug, Clone)]
pub(crate) struct Alarm {
    pub(crate) hook: Hook,
    pub(crate) name: Box<str>,
    pub(crate) digest: Digest,
    /// The generation that it failed in.
    pub(crate) generation: u64,
    /// For the audit.
    pub(crate) why: String,
    raised: Arc<AtomicBool>,
}

impl Alarm {
    /// Nobody could do anything about it: the next fault raises it again.
    pub(crate) fn unheeded(&self) {
        self.raised.store(false, Ordering::Relaxed);
    }
}

/// What is counted of one plugin in one generation.
pub(crate) struct Health {
    pub(crate) hook: Hook,
    pub(crate) name: Box<str>,
    pub(crate) digest: Digest,
    pub(crate) generation: u64,
    on_trial: bool,
    alarms: Sender<Alarm>,
    pub(crate) meter: Meter,
    faults: AtomicU64,
    in_a_row: AtomicU32,
    impure: AtomicU32,
    /// An alarm is raised, and nobody said that it could not be heeded.
    alarmed: Arc<AtomicBool>,
    /// Keys with strikes: while there are none, nothing is looked up.
    struck: AtomicUsize,
    sick: Mutex<Sick>,
}

struct Sick {
    window: Window,
    strikes: LruCache<u64, (u32, Duration)>,
}

/// Since when, and what had been counted then.
#[derive(Default)]
struct Window {
    from: Duration,
    calls: u64,
    faults: u64,
}

/// What a plugin did since its generation began to decide.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Calls.
    pub calls: u64,
    /// Calls without a usable answer.
    pub faults: u64,
    /// Denials, rejections and discards.
    pub refusals: u64,
}

impl Health {
    pub(crate) fn new(
        hook: Hook,
        name: &str,
        digest: Digest,
        generation: u64,
        on_trial: bool,
        alarms: Sender<Alarm>,
    ) -> Self {
        Self {
            hook,
            name: name.into(),
            digest,
            generation,
            on_trial,
            alarms,
            meter: Meter::default(),
            faults: AtomicU64::new(0),
            in_a_row: AtomicU32::new(0),
            impure: AtomicU32::new(0),
            alarmed: Arc::default(),
            struck: AtomicUsize::new(0),
            sick: Mutex::new(Sick { window: Window::default(), strikes: LruCache::new(STRUCK_MAX) }),
        }
    }

    pub(crate) fn tally(&self) -> Tally {
        Tally {
            calls: self.meter.calls(),
            faults: self.faults.load(Ordering::Relaxed),
            refusals: self.meter.refusals(),
        }
    }

    /// Did it go on failing?
    pub(crate) fn failed_for_good(&self) -> bool {
        self.alarmed.load(Ordering::Relaxed)
    }

    /// Does it fail more often than is borne?
    pub(crate) fn faulty(&self) -> bool {
        let Tally { calls, faults, .. } = self.tally();
        self.failed_for_good() || faults * FAULT_SHARE > calls
    }

    /// Is it not to be asked about this key now?
    pub(crate) fn spared(&self, key: &str, now: Duration) -> bool {
        if self.struck.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let mut sick = self.sick.lock();
        let spared = match sick.strikes.get(&hash(key)) {
            Some((strikes, until)) => *strikes >= STRIKES && now < *until,
            None => false,
        };
        drop(sick);
        if spared {
            self.meter.failed("spared");
        }
        spared
    }

    /// A call was answered.
    pub(crate) fn well(&self, took: Duration) {
        self.meter.called(took);
        if self.in_a_row.load(Ordering::Relaxed) != 0 {
            self.in_a_row.store(0, Ordering::Relaxed);
        }
    }

    pub(crate) fn refused(&self) {
        self.meter.refused();
    }

    /// A call was not answered.
    pub(crate) fn failed(&self, fault: &Fault, key: &str, took: Duration, now: Duration) {
        self.meter.called(took);
        // The host's own want of room.
        if fault.kind == "busy" {
            self.meter.failed(fault.kind);
            return;
        }
        let faults = self.note(fault);
        let in_a_row = self.in_a_row.fetch_add(1, Ordering::Relaxed) + 1;
        let calls = self.meter.calls();
        let mut sick = self.sick.lock();
        sick.strike(hash(key), now);
        self.struck.store(sick.strikes.len(), Ordering::Relaxed);
        let (asked, failed) = sick.window.of(calls, faults, now);
        drop(sick);
        let why = if self.on_trial && faults >= TRIAL_FAULTS_MAX {
            format!("{faults} faults on trial")
        } else if in_a_row >= IN_A_ROW {
            format!("{in_a_row} faults in a row")
        } else if asked >= CALLS_MIN && failed * FAULT_SHARE > asked {
            format!("{failed} faults in {asked} calls")
        } else {
            return;
        };
        self.alarm(format!("{why}, the last: {}: {}", fault.kind, first_line(&fault.text)));
    }

    /// A call was answered otherwise when it was repeated.
    pub(crate) fn impure(&self, text: String) {
        let fault = Fault { kind: "impure", text };
        self.note(&fault);
        if self.impure.fetch_add(1, Ordering::Relaxed) + 1 >= IMPURE_MAX {
            self.alarm(format!("{IMPURE_MAX} calls were answered otherwise when repeated: {}", fault.text));
        }
    }

    /// Counts it; how many there are now.
    fn note(&self, fault: &Fault) -> u64 {
        self.meter.failed(fault.kind);
        let faults = self.faults.fetch_add(1, Ordering::Relaxed) + 1;
        // A plugin under attack must not fill the disk with its traps.
        if faults.is_power_of_two() {
            tracing::warn!(hook = %self.hook, plugin = %self.name, digest = %self.digest, kind = fault.kind, faults,
                text = %fault.text, "policy failed");
        }
        faults
    }

    fn alarm(&self, why: String) {
        if self.alarmed.swap(true, Ordering::Relaxed) {
            return;
        }
        let (hook, name, digest) = (self.hook, self.name.clone(), self.digest);
        let raised = Arc::clone(&self.alarmed);
        let alarm = Alarm { hook, name, digest, generation: self.generation, why, raised };
        // Nobody has looked at those before: the next fault tries again.
        if self.alarms.try_send(alarm).is_err() {
            self.alarmed.store(false, Ordering::Relaxed);
        }
    }
}

impl Sick {
    fn strike(&mut self, key: u64, now: Duration) {
        let strikes = match self.strikes.get(&key) {
            Some((strikes, until)) if now < *until => strikes + 1,
            _ => 1,
        };
        self.strikes.put(key, (strikes, now + SPARED));
        while let Some((key, _)) = self.strikes.peek_lru().filter(|(_, (_, until))| *until <= now) {
            let key = *key;
            self.strikes.pop(&key);
        }
    }
}

impl Window {
    /// Calls and faults within it, with the present one.
    fn of(&mut self, calls: u64, faults: u64, now: Duration) -> (u64, u64) {
        if now.saturating_sub(self.from) > WINDOW {
            *self = Self { from: now, calls: calls.saturating_sub(1), faults: faults.saturating_sub(1) };
        }
        (calls.saturating_sub(self.calls), faults.saturating_sub(self.faults))
    }
}

fn hash(key: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::{Receiver, channel};

    use super::*;

    const TRAP: Fault = Fault { kind: "trap", text: String::new() };

    fn health(on_trial: bool) -> (Health, Receiver<Alarm>) {
        let (alarms, heard) = channel(4);
        (Health::new(Hook::Routing, "p", Digest([1; 32]), 7, on_trial, alarms), heard)
    }

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn five_faults_in_a_row_raise_one_alarm() {
        let (health, mut heard) = health(false);
        for n in 0..4 {
            health.failed(&TRAP, &format!("u{n}"), at(0), at(n));
        }
        health.well(at(0));
        for n in 0..4 {
            health.failed(&TRAP, &format!("v{n}"), at(0), at(n));
        }
        assert!(heard.try_recv().is_err());
        for n in 0..4 {
            health.failed(&TRAP, &format!("w{n}"), at(0), at(n));
        }
        assert!(heard.try_recv().unwrap().why.starts_with("5 faults in a row"));
        assert!(heard.try_recv().is_err());
    }

    #[test]
    fn more_than_one_call_in_a_hundred_raises_an_alarm_but_only_of_a_hundred() {
        let (health, mut heard) = health(false);
        let mut ms = 0;
        for round in 0..4 {
            health.failed(&TRAP, &format!("u{round}"), at(0), at(ms));
            for _ in 0..40 {
                ms += 10;
                health.well(at(0));
            }
        }
        assert_eq!(heard.try_recv().unwrap().why, "4 faults in 124 calls, the last: trap: ");
    }

    #[test]
    fn one_call_in_a_hundred_is_borne_and_an_old_window_is_forgotten() {
        let (health, mut heard) = health(false);
        for n in 0..20_u64 {
            (0..250).for_each(|_| health.well(at(0)));
            health.failed(&TRAP, &format!("u{n}"), at(0), at(n * 5_000));
        }
        assert!(heard.try_recv().is_err());
    }

    #[test]
    fn after_two_strikes_a_key_is_spared_for_a_while_and_the_others_are_not() {
        let (health, mut heard) = health(false);
        health.failed(&TRAP, "alice", at(0), at(0));
        assert!(!health.spared("alice", at(1)));
        health.failed(&TRAP, "alice", at(0), at(1));
        assert!(health.spared("alice", at(9_999)));
        assert!(!health.spared("bob", at(2)));
        assert!(!health.spared("alice", at(10_001)));
        assert!(heard.try_recv().is_err());
    }

    #[test]
    fn on_trial_three_faults_are_enough() {
        let (health, mut heard) = health(true);
        for n in 0..3 {
            (0..1_000).for_each(|_| health.well(at(0)));
            health.failed(&TRAP, &format!("u{n}"), at(0), at(n));
        }
        assert!(heard.try_recv().unwrap().why.starts_with("3 faults on trial"));
    }
}
