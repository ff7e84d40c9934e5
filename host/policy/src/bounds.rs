//! Keeps catalog and disk within their bounds, whatever is deployed: what generations that are loaded or draining need stays.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use heddle_model::Digest;
use heddle_store::{CatalogBounds, CatalogRemoved, StoreError};
use tokio::time::{MissedTickBehavior, interval};

use crate::policies::{Policies, Shared};

/// How often it is looked whether there is something to do.
const LOOK: Duration = Duration::from_secs(5);
/// What was added within so long stays: some node may be making a generation of it. Beyond what the nodes get to be ready.
const YOUNG: Duration = Duration::from_secs(120);

/// After each change, and once more when what it brought is not young any more; until the policies are gone.
pub(crate) async fn tend(shared: Weak<Shared>) {
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut due, mut recalled) = (None, false);
    loop {
        look.tick().await;
        let Some(shared) = shared.upgrade() else { return };
        if !recalled {
            let told = Policies { shared: Arc::clone(&shared) }.recall_failing().await;
            recalled = told.is_ok();
        }
        let now = shared.floor.deps.clock.monotonic();
        if shared.changed.swap(false, Ordering::Relaxed) {
            due = Some(now + YOUNG);
        } else if due.is_some_and(|due| due <= now) {
            due = None;
        } else {
            continue;
        }
        let policies = Policies { shared };
        if let Err(error) = policies.keep_within_bounds().await {
            tracing::debug!(%error, "the catalog is not tidied now");
            due = Some(now);
        }
    }
}

impl Policies {
    /// Removes what catalog and disk hold beyond their bounds, and brings onto the disk what is needed there.
    ///
    /// # Errors
    /// The catalog does not answer.
    pub async fn keep_within_bounds(&self) -> Result<CatalogRemoved, StoreError> {
        let (floor, limits) = (&self.shared.floor, self.shared.floor.limits.load_full());
        let (generations, files) = self.needed();
        floor.files.tend(files.clone()).await?;
        let young = u64::try_from(YOUNG.as_millis()).unwrap_or(u64::MAX);
        let bounds = CatalogBounds {
            file_bytes_max: limits.catalog_bytes_max,
            plugins_max: limits.catalog_plugins_max,
            generations_max: limits.catalog_generations_max,
            audit_max: limits.audit_max,
            plugins_needed: files,
            generations_needed: generations,
            added_before: floor.deps.clock.now().saturating_sub(young),
        };
        let removed = floor.deps.catalog.keep_within(bounds).await?;
        if removed != CatalogRemoved::default() {
            tracing::info!(?removed, "the catalog was above its bounds, what was used longest ago went");
        }
        Ok(removed)
    }

    /// Numbers and files of what decides, of what drains or is kept, and of what is about to decide.
    fn needed(&self) -> (BTreeSet<u64>, BTreeSet<Digest>) {
        let current = self.current();
        let (mut numbers, mut files) = (BTreeSet::from([current.number()]), current.files.clone());
        let older = self.shared.older.lock();
        for (number, of) in older.files() {
            numbers.insert(number);
            files.extend(of);
        }
        drop(older);
        if let Some(following) = &self.shared.following {
            files.extend(following.files());
        }
        (numbers, files)
    }
}
