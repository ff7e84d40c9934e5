use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::time::{ClockId, clock_gettime};
use wasmtime::{Store, StoreContextMut, UpdateDeadline};

use crate::fault::Stop;
use crate::host::Host;

/// Ticks before the first look. Fewer would find innocent calls that begin just before a tick.
const FIRST_TICKS: u64 = 2;
const WALL_FACTOR: u64 = 10;

/// Whether a call began or was looked at since the clock last asked. A flag that is mostly read costs calls nothing, which a count would.
#[derive(Clone, Default)]
pub(crate) struct Activity(Arc<AtomicBool>);

impl Activity {
    fn note(&self) {
        if !self.0.load(Ordering::Relaxed) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    pub(crate) fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

/// The time of one call. The CPU clock is first read after two ticks (reading it costs half a microsecond), so that most calls never pay for it.
#[derive(Default)]
pub(crate) struct Deadline {
    deadline_ms: u32,
    looks: u64,
    cpu_base_ns: Option<u64>,
}

/// Gives the guest `deadline_ms` of CPU time from now, and ten times that by the wall.
pub(crate) fn start(store: &mut Store<Host>, deadline_ms: u32) {
    store.data_mut().deadline = Deadline { deadline_ms, looks: 0, cpu_base_ns: None };
    store.data().activity.note();
    store.set_epoch_deadline(FIRST_TICKS);
}

pub(crate) fn install(store: &mut Store<Host>) {
    store.epoch_deadline_callback(look);
}

fn look(mut store: StoreContextMut<'_, Host>) -> wasmtime::Result<UpdateDeadline> {
    store.data().activity.note();
    let deadline = &mut store.data_mut().deadline;
    let now_ns = thread_cpu_ns();
    let base_ns = *deadline.cpu_base_ns.get_or_insert(now_ns);
    let spent_ms = FIRST_TICKS + now_ns.saturating_sub(base_ns) / 1_000_000;
    let wall_ms = FIRST_TICKS + deadline.looks;
    deadline.looks += 1;
    // At least one tick after the baseline, whatever the deadline.
    if deadline.looks > 1 && spent_ms >= u64::from(deadline.deadline_ms) {
        return Err(Stop::Cpu { deadline_ms: deadline.deadline_ms }.into());
    }
    if wall_ms >= u64::from(deadline.deadline_ms) * WALL_FACTOR {
        return Err(Stop::Wall { wall_ms }.into());
    }
    Ok(UpdateDeadline::Continue(1))
}

fn thread_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}
