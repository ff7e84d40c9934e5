//! What happens to calls after they were answered, off the path: repetition, shadows, recording. Everything here is bounded, drops and counts.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use arc_swap::ArcSwap;
use heddle_model::Clock;
use heddle_pack::contract::Moment;
use metrics::counter;
use tokio::sync::mpsc::Sender;

use crate::WatchConfig;
use crate::call::{Answer, Call};
use crate::component::Component;
use crate::health::{Alarm, Health};
use crate::record::Recorder;
use crate::shadow::Shadow;

/// Calls that wait for the thread which looks at them.
const WAITING_MAX: usize = 256;
/// Nice: these threads get what the others leave.
const NICE: i32 = 19;

/// A call to be made again on a fresh instance.
pub(crate) struct Repetition {
    pub(crate) component: Arc<dyn Component>,
    pub(crate) health: Arc<Health>,
    pub(crate) at: Moment,
    pub(crate) call: Call,
    pub(crate) said: Answer,
}

/// A call to be shown to a shadow.
struct Shown {
    shadow: Arc<Shadow>,
    live_version: u32,
    at: Moment,
    call: Call,
    said: Answer,
}

/// Where calls go after they were answered.
pub(crate) struct Watch {
    config: ArcSwap<WatchConfig>,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) alarms: Sender<Alarm>,
    repetitions: SyncSender<Repetition>,
    shown: SyncSender<Shown>,
}

impl Watch {
    /// Starts the two threads; they end when the last watched plugin is gone.
    ///
    /// # Errors
    /// The machine gives no thread.
    pub(crate) fn start(config: WatchConfig, alarms: Sender<Alarm>, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let (repetitions, repeated) = sync_channel(WAITING_MAX);
        let (shown, seen) = sync_channel(WAITING_MAX);
        let recorder = Arc::new(Recorder::new(config.record.clone()));
        let (to_repeat, to_show) = (Arc::clone(&recorder), Arc::clone(&recorder));
        behind("policy-repeat", repeated, move |repetition| repeat(repetition, &to_repeat))?;
        behind("policy-shadow", seen, move |Shown { shadow, live_version, at, call, said }| {
            shadow.see(&*clock, &to_show, live_version, at, call, said);
        })?;
        Ok(Self { config: ArcSwap::from_pointee(config), recorder, alarms, repetitions, shown })
    }

    /// From now on as configured here.
    pub(crate) fn configure(&self, config: WatchConfig) {
        self.recorder.configure(config.record.clone());
        self.config.store(Arc::new(config));
    }

    pub(crate) fn config(&self) -> Arc<WatchConfig> {
        self.config.load_full()
    }

    /// Of so many calls of a plugin one is repeated; 0: none.
    pub(crate) fn repeat_one_in(&self) -> u64 {
        self.config.load().repeat_one_in
    }

    pub(crate) fn repeat(&self, repetition: Repetition) {
        if self.repetitions.try_send(repetition).is_err() {
            counter!("heddle_policy_repetitions_dropped_total").increment(1);
        }
    }

    pub(crate) fn show(&self, shadow: &Arc<Shadow>, live_version: u32, at: Moment, call: &Call, said: &Answer) {
        let shown = Shown { shadow: Arc::clone(shadow), live_version, at, call: call.clone(), said: said.clone() };
        if self.shown.try_send(shown).is_err() {
            shadow.dropped();
        }
    }
}

/// A thread of low priority that takes one after the other.
fn behind<T: Send + 'static>(
    name: &str,
    items: Receiver<T>,
    mut each: impl FnMut(T) + Send + 'static,
) -> io::Result<()> {
    let run = move || {
        // On Linux this is about the calling thread alone. Without it the thread competes, nothing else.
        let _ = rustix::process::setpriority_process(None, NICE);
        items.into_iter().for_each(&mut each);
    };
    thread::Builder::new().name(name.to_owned()).spawn(run).map(drop)
}

fn repeat(repetition: Repetition, recorder: &Recorder) {
    let Repetition { component, health, at, mut call, mut said } = repetition;
    let mut again = call.make(at, &*component);
    counter!("heddle_policy_repetitions_total").increment(1);
    // No room, no time: that tells of the machine.
    if again == said || matches!(&again, Answer::Fault(kind) if kind == "busy" || kind == "deadline") {
        return;
    }
    recorder.redact(&mut call, [&mut said, &mut again]);
    let text = |answer: &Answer| serde_json::to_string(answer).unwrap_or_default();
    health.impure(format!("{} on a used instance, {} on a fresh one", text(&said), text(&again)));
}
