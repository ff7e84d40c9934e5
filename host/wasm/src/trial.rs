use std::time::Duration;

use heddle_pack::Case;
use serde_json::Value;

use crate::cases::{Source, fits, run};
use crate::engine::Engine;
use crate::fault::Fault;
use crate::plugin::Plugin;
use crate::wasi;

/// Turns of a case that are timed.
const TURNS: u32 = 15;

/// One step of a case, asked of a fresh instance.
#[derive(Clone, Debug, PartialEq)]
pub struct Answered {
    /// As the case says.
    pub wanted: Value,
    /// What came.
    pub found: Value,
    /// Has it everything that is wanted?
    pub fits: bool,
}

impl Plugin {
    /// What the steps of a case are answered, each by a fresh instance. A step that faults answers `{"fault": ...}`.
    ///
    /// # Errors
    /// There is no instance with the case's configuration.
    pub fn answers(&self, case: &Case) -> Result<Vec<Answered>, Fault> {
        let mut instance = self.configured(case)?;
        let found = run(&mut Source::Fresh(self, case, &mut instance), case)?;
        let answered = |(step, found): (&heddle_pack::Step, Value)| Answered {
            wanted: step.expect.clone(),
            fits: fits(&step.expect, &found),
            found,
        };
        Ok(case.steps.iter().zip(found).map(answered).collect())
    }

    /// How long a step of the case takes on a used instance: the median of some turns. `now` is a monotonic clock.
    ///
    /// # Errors
    /// As [`Plugin::answers`].
    pub fn time_case(&self, case: &Case, now: &dyn Fn() -> Duration) -> Result<Duration, Fault> {
        let mut instance = self.configured(case)?;
        let steps = u32::try_from(case.steps.len()).unwrap_or(u32::MAX).max(1);
        run(&mut Source::Used(self, case, &mut instance), case)?;
        let mut times = Vec::new();
        for _ in 0..TURNS {
            let start = now();
            run(&mut Source::Used(self, case, &mut instance), case)?;
            times.push(now().saturating_sub(start) / steps);
        }
        times.sort_unstable();
        Ok(times.get(times.len() / 2).copied().unwrap_or_default())
    }

    /// Linear memory of the largest warm instance, in bytes: right after loading, what the plugin has at its start.
    pub fn memory_bytes(&self) -> usize {
        self.warm.lock().iter().map(|instance| instance.store.data().memory_bytes()).max().unwrap_or(0)
    }
}

impl Engine {
    /// May a component import this interface? The version does not matter here.
    pub fn gives(import: &str) -> bool {
        let name = import.split('@').next().unwrap_or(import);
        wasi::LINKED.contains(&name) || name == "heddle:policy/types"
    }
}
