//! What is taken back without an operator: a plugin that goes on failing, and a canary that refuses otherwise than the rest.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use heddle_model::Hook;
use heddle_pack::OnFailure;
use metrics::counter;
use serde_json::{Map, Value};
use tokio::sync::mpsc::Receiver;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::arm::leaves_band;
use crate::change::{BACK_MAX, Carried, Next, recorded, resolve};
use crate::content::{Content, Entry, version};
use crate::edit::replace;
use crate::health::Alarm;
use crate::member::Member;
use crate::policies::{Policies, Shared};
use crate::{ChangeError, Generation, PluginRef};

/// How often the arms are compared.
const LOOK: Duration = Duration::from_millis(200);
/// How often another change may be quicker.
const TRIES: usize = 10;

/// What the audit says of a plugin that was taken back, and of a trial that was ended.
pub(crate) const HEDDLE: &str = "heddle";
const BREAK: &str = "break";
const ABANDON: &str = "abandon";

/// Is this a change that nobody asked for?
pub(crate) fn is_own(who: &str, what: &str) -> bool {
    who == HEDDLE && (what == BREAK || what == ABANDON)
}

/// Runs until the policies are gone.
pub(crate) async fn guard(shared: Weak<Shared>, mut alarms: Receiver<Alarm>) {
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
        let config = policies.shared.floor.watch.config();
        let mut done = Ok(());
        for _ in 0..TRIES {
            done = match &alarm {
                Some(alarm) => policies.heed(alarm, config.breaker).await,
                None => policies.compare_arms(config.canary_band_percent).await,
            };
            match &done {
                // Another node sees the same, and may have done what is to be done.
                Err(ChangeError::Conflict) => {}
                Err(ChangeError::Busy) => policies.go_first().await,
                _ => break,
            }
            sleep(LOOK).await;
        }
        if let Err(error) = done {
            if let (true, Some(alarm)) = (passes(&error), &alarm) {
                alarm.unheeded();
            }
            tracing::error!(%error, "a policy that fails cannot be taken back, its failure mode goes on deciding");
        }
    }
}

/// Might it go better when it is tried again?
fn passes(error: &ChangeError) -> bool {
    match error {
        ChangeError::Busy | ChangeError::Conflict | ChangeError::Catalog(_) => true,
        ChangeError::Abandoned { .. } | ChangeError::Cluster { .. } => true,
        ChangeError::Unknown { .. } | ChangeError::Refused { .. } => false,
    }
}

impl Policies {
    /// Takes back a plugin that goes on failing, if it still has a say.
    async fn heed(&self, alarm: &Alarm, breaker: bool) -> Result<(), ChangeError> {
        let Alarm { hook, name, digest, generation, why, .. } = alarm;
        let current = self.current();
        let of_file = |member: &Arc<Member>| member.hook == *hook && member.digest == *digest;
        let tried = current.on_trial().find(|(member, _)| of_file(member)).map(|(member, _)| member);
        let holds = current.chain(*hook).iter().find(|member| of_file(member));
        let outcome = match tried.or(holds) {
            None => "gone",
            Some(member) if !self.is_of(alarm, &current, &member.config).await? => "late",
            Some(_) if tried.is_some() => "trial",
            Some(_) if breaker => "chain",
            Some(_) => "off",
        };
        counter!("heddle_policy_breaker_total", "outcome" => outcome).increment(1);
        tracing::error!(%hook, plugin = %name, generation, why, outcome, "policy goes on failing");
        match (outcome, tried.or(holds)) {
            ("trial", _) => self.abandon(why).await,
            ("chain", Some(member)) => match self.take_back(member, why).await {
                // There is nothing to go back to.
                Err(error @ ChangeError::Unknown { .. }) => {
                    self.fails_and_stays(*hook, member, why).await?;
                    Err(error)
                }
                done => done,
            },
            ("off", Some(member)) => Ok(self.fails_and_stays(*hook, member, why).await?),
            _ => Ok(()),
        }
    }

    /// Did the version fail that the current generation has? An operator may have configured it otherwise since.
    async fn is_of(
        &self,
        alarm: &Alarm,
        current: &Generation,
        config: &Map<String, Value>,
    ) -> Result<bool, ChangeError> {
        if alarm.generation == current.number() {
            return Ok(true);
        }
        let row = self.shared.floor.deps.catalog.generation(alarm.generation).await?;
        let Some(then) = row.and_then(|row| Content::parse(&row.json)) else { return Ok(false) };
        let tried = then.trial.as_ref().and_then(|trial| trial.entries.get(&alarm.hook));
        let hex = alarm.digest.to_string();
        let mut entries = then.entry(alarm.hook, &alarm.name).into_iter().chain(tried);
        Ok(entries.any(|entry| entry.digest == hex && entry.config == *config))
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

    /// What takes a plugin back comes before what another change is waited for on all nodes.
    async fn go_first(&self) {
        if let Some(following) = &self.shared.following {
            following.preempt().await;
        }
    }

    async fn abandon(&self, why: &str) -> Result<(), ChangeError> {
        let newest = self.newest().await?;
        let mut config = resolve(&newest.content, &self.shared.floor).await?;
        if config.trial.take().is_none() {
            return Ok(());
        }
        self.decide(Next::after(&newest), &config, (HEDDLE, ABANDON, why)).await.map(drop)
    }

    /// The present set, with the last version of this plugin that did not fail.
    async fn take_back(&self, member: &Member, why: &str) -> Result<(), ChangeError> {
        let (hook, name) = (member.hook, &*member.name);
        let floor = &self.shared.floor;
        let newest = self.newest().await?;
        let before = &newest.content;
        let failed = version(&member.digest.to_string(), &member.config);
        // Somebody else has just changed it.
        if before.entry(hook, name).is_none_or(|entry| entry.of_version() != failed) {
            return Ok(());
        }
        let mut config = resolve(before, floor).await?;
        let (with, of) = self.earlier(newest.row.number, before, hook, name).await?;
        replace(&mut config, hook, name, with);
        let carried = Carried { failed: vec![failed], ..Carried::of(before) };
        let next = Next { lines: vec![&of, before], carried, ..Next::after(&newest) };
        self.decide(next, &config, (HEDDLE, BREAK, why)).await.map(drop)
    }

    /// What stood there before, and in which set: a version that was neither taken back nor revoked, or none.
    async fn earlier(
        &self,
        newest: u64,
        content: &Content,
        hook: Hook,
        name: &str,
    ) -> Result<(Option<PluginRef>, Content), ChangeError> {
        let floor = &self.shared.floor;
        let nothing = || ChangeError::Unknown { what: format!("earlier version of {name} at {hook} to go back to") };
        let now = content.entry(hook, name).ok_or_else(nothing)?;
        let mut failed: BTreeSet<String> = content.failed.iter().cloned().collect();
        failed.insert(now.of_version());
        let from = newest.saturating_sub(BACK_MAX).max(1);
        for number in content.revoked.range(from..) {
            let row = floor.deps.catalog.generation(*number).await?;
            let revoked = row.and_then(|row| Content::parse(&row.json));
            failed.extend(revoked.iter().filter_map(|revoked| revoked.entry(hook, name)).map(Entry::of_version));
        }
        for number in (from..newest).rev() {
            let Some(row) = floor.deps.catalog.generation(number).await? else { continue };
            let Some(older) = Content::parse(&row.json) else { continue };
            match older.entry(hook, name) {
                Some(entry) if failed.contains(&entry.of_version()) => {}
                Some(entry) => return Ok((Some(recorded(floor, entry).await?), older)),
                // Whoever said `closed` wants nothing to pass undecided.
                None if now.on_failure == OnFailure::Closed => return Err(nothing()),
                None => return Ok((None, older)),
            }
        }
        Err(nothing())
    }
}
