//! What is taken back without an operator: a plugin that goes on failing, and a canary that refuses otherwise than the rest.

use std::sync::Weak;
use std::time::Duration;

use heddle_model::Hook;
use heddle_pack::OnFailure;
use metrics::counter;
use tokio::sync::mpsc::Receiver;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::arm::leaves_band;
use crate::change::{BACK_MAX, Carried, recorded, resolve};
use crate::content::Content;
use crate::edit::replace;
use crate::health::Alarm;
use crate::policies::{Policies, Shared};
use crate::{ChangeError, PluginRef, WatchConfig};

/// How often the arms are compared.
const LOOK: Duration = Duration::from_millis(200);
/// How often another node may be quicker with the same.
const TRIES: usize = 3;

/// Runs until the policies are gone.
pub(crate) async fn guard(shared: Weak<Shared>, mut alarms: Receiver<Alarm>, config: WatchConfig) {
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let alarm = tokio::select! {
            alarm = alarms.recv() => match alarm {
                Some(alarm) => Some(alarm),
                None => return,
            },
            _ = look.tick() => None,
        };
        let Some(shared) = shared.upgrade() else { return };
        let policies = Policies { shared };
        let mut done = Ok(());
        for _ in 0..TRIES {
            done = match &alarm {
                Some(alarm) => policies.heed(alarm, config.breaker).await,
                None => policies.compare_arms(config.canary_band_percent).await,
            };
            // Another node sees the same, and may have done what is to be done.
            if !matches!(done, Err(ChangeError::Busy | ChangeError::Conflict)) {
                break;
            }
            sleep(LOOK).await;
        }
        if let Err(error) = done {
            tracing::error!(%error, "a policy that fails cannot be taken back, its failure mode goes on deciding");
        }
    }
}

impl Policies {
    /// Takes back a plugin that goes on failing, if it still has a say.
    async fn heed(&self, alarm: &Alarm, breaker: bool) -> Result<(), ChangeError> {
        let Alarm { hook, name, digest, generation, why } = alarm;
        let current = self.current();
        let tried = current.on_trial().any(|(member, _)| member.hook == *hook && member.digest == *digest);
        let holds = current.chain(*hook).iter().any(|member| member.digest == *digest);
        let outcome = match (tried, holds, breaker) {
            (true, ..) => "trial",
            (false, true, true) => "chain",
            (false, true, false) => "off",
            (false, false, _) => "gone",
        };
        counter!("heddle_policy_breaker_total", "outcome" => outcome).increment(1);
        tracing::error!(%hook, plugin = %name, generation, why, outcome, "policy goes on failing");
        match outcome {
            "trial" => self.abandon(why).await,
            "chain" => self.take_back(*hook, name, why).await,
            _ => Ok(()),
        }
    }

    /// Abandons a canary that refuses another share than the rest.
    async fn compare_arms(&self, band_percent: u32) -> Result<(), ChangeError> {
        let current = self.current();
        let Some(canary) = &current.canary else { return Ok(()) };
        for hook in [Hook::RateLimit, Hook::Routing] {
            let (own, others) = (canary.arm.tally(hook), current.stable.tally(hook));
            if leaves_band(own, others, band_percent) {
                let why = format!(
                    "{hook}: the canary refuses {} of {}, the others {} of {}",
                    own.refused, own.asked, others.refused, others.asked
                );
                return self.abandon(&why).await;
            }
        }
        Ok(())
    }

    async fn abandon(&self, why: &str) -> Result<(), ChangeError> {
        let _only = self.shared.changing.lock().await;
        let (newest, before) = self.newest().await?;
        let mut config = resolve(&before, &self.shared.floor).await?;
        if config.trial.take().is_none() {
            return Ok(());
        }
        self.decide(&newest, &before, &config, Carried::of(&before), ("heddle", "abandon", why)).await.map(drop)
    }

    /// The present set, with the version before of this plugin.
    async fn take_back(&self, hook: Hook, name: &str, why: &str) -> Result<(), ChangeError> {
        let _only = self.shared.changing.lock().await;
        let floor = &self.shared.floor;
        let (newest, before) = self.newest().await?;
        let mut config = resolve(&before, floor).await?;
        let with = self.earlier(newest.number, &before, hook, name).await?;
        replace(&mut config, hook, name, with);
        self.decide(&newest, &before, &config, Carried::of(&before), ("heddle", "break", why)).await.map(drop)
    }

    /// What stood there before: another version, or none.
    async fn earlier(
        &self,
        newest: u64,
        content: &Content,
        hook: Hook,
        name: &str,
    ) -> Result<Option<PluginRef>, ChangeError> {
        let floor = &self.shared.floor;
        let nothing = || ChangeError::Unknown { what: format!("earlier version of {name} at {hook} to go back to") };
        let now = content.entry(hook, name).ok_or_else(nothing)?;
        for number in (newest.saturating_sub(BACK_MAX).max(1)..newest).rev() {
            let Some(row) = floor.deps.catalog.generation(number).await? else { continue };
            let Some(older) = Content::parse(&row.json) else { continue };
            match older.entry(hook, name) {
                Some(entry) if entry.digest == now.digest && entry.config == now.config => {}
                Some(entry) => return recorded(floor, entry).await.map(Some),
                // Whoever said `closed` wants nothing to pass undecided.
                None if now.on_failure == OnFailure::Closed => return Err(nothing()),
                None => return Ok(None),
            }
        }
        Err(nothing())
    }
}
