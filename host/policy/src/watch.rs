//! What happens to calls after they were answered, off the path: repetition, shadows, recording. Everything here is bounded, drops and counts.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use heddle_model::Clock;
use heddle_pack::contract::Moment;
use metrics::counter;
use tokio::sync::mpsc::Sender;

use crate::call::{Answer, Call};
use crate::component::Component;
use crate::health::{Alarm, Health};
use crate::record::{RecordConfig, Recorder};
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
    /// Of so many calls of a plugin one is repeated; 0: none.
    pub(crate) repeat_one_in: u64,
    pub(crate) recorder: Recorder,
    pub(crate) alarms: Sender<Alarm>,
    repetitions: SyncSender<Repetition>,
    shown: SyncSender<Shown>,
}

impl Watch {
    /// Starts the two threads; they end when the last watched plugin is gone.
    ///
    /// # Errors
    /// The machine gives no thread.
    pub(crate) fn start(
        repeat_one_in: u64,
        record: RecordConfig,
        alarms: Sender<Alarm>,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Self> {
        let (repetitions, repeated) = sync_channel(WAITING_MAX);
        let (shown, seen) = sync_channel(WAITING_MAX);
        behind("policy-repeat", repeated, repeat)?;
        behind("policy-shadow", seen, move |Shown { shadow, live_version, at, call, said }| {
            shadow.see(&*clock, live_version, at, call, said);
        })?;
        Ok(Self { repeat_one_in, recorder: Recorder::new(record), alarms, repetitions, shown })
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

fn repeat(repetition: Repetition) {
    let Repetition { component, health, at, call, said } = repetition;
    let again = call.make(at, &*component);
    counter!("heddle_policy_repetitions_total").increment(1);
    // No room, no time: that tells of the machine.
    if again == said || matches!(&again, Answer::Fault(kind) if kind == "busy" || kind == "deadline") {
        return;
    }
    let text = |answer: &Answer| serde_json::to_string(answer).unwrap_or_default();
    health.impure(format!("{} on a used instance, {} on a fresh one", text(&said), text(&again)));
}
