//! Reads the control log and obeys it: loads what is prepared, and lets decide what is activated.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use heddle_model::{Clock, Digest, NodeId};
use heddle_store::CatalogGeneration;
use metrics::gauge;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::ledger::{Cut, Ledger, News};
use super::{Agreed, Cluster, Control, Entry};
use crate::change::parsed;
use crate::floor::Floor;
use crate::policies::{Policies, Shared};
use crate::{ChangeError, Generation};

/// A node that has not known for longer that it read everything refuses to decide. (DELIVERY 27)
const CONFIRMED_WITHIN: Duration = Duration::from_secs(5);
/// How often it asks.
const ASK: Duration = Duration::from_secs(1);
/// Between two tries of something that failed.
const RETRY: Duration = Duration::from_millis(500);
/// What every entry begins with, whatever its kind.
const ENTRY: &[u8] = b"{\"type\":";
/// How often what a node has to say is written before it gives up.
const WRITES: usize = 3;

/// What this node knows of the control log.
pub(crate) struct Following {
    pub(super) cluster: Cluster,
    clock: Arc<dyn Clock>,
    /// As far as it was obeyed.
    pub(super) ledger: watch::Sender<Ledger>,
    /// The offset after the last record that was obeyed.
    applied: watch::Sender<u64>,
    /// Loaded, and does not decide yet: what this node is about to propose, and what was prepared; by content, for both may have one number.
    prepared: Mutex<Vec<(Digest, Arc<Generation>)>>,
    /// The number that this node carries through; 0: none.
    pub(super) proposing: AtomicU64,
    /// When it was asked where the log ends, and all up to there was obeyed since: milliseconds of the monotonic clock.
    confirmed: AtomicU64,
    /// Why it cannot go on for good.
    broken: OnceLock<String>,
    /// Decide, and are not in the catalog yet, as far as this node knows.
    unrecorded: Mutex<VecDeque<Arc<Agreed>>>,
}

/// What is being loaded.
struct Loading {
    agreed: Arc<Agreed>,
    task: JoinHandle<()>,
}

impl Following {
    /// Reads the log to its end.
    pub(crate) async fn begin(cluster: Cluster, clock: Arc<dyn Clock>) -> Result<Arc<Self>, String> {
        let following = Arc::new(Self {
            cluster,
            clock,
            ledger: watch::Sender::default(),
            applied: watch::Sender::new(0),
            prepared: Mutex::default(),
            proposing: AtomicU64::new(0),
            confirmed: AtomicU64::new(0),
            broken: OnceLock::new(),
            unrecorded: Mutex::default(),
        });
        following.catch_up().await?;
        Ok(following)
    }

    pub(crate) fn node(&self) -> &NodeId {
        &self.cluster.node
    }

    pub(crate) fn control(&self) -> &dyn Control {
        &*self.cluster.control
    }

    /// Waits for such a state of the log's partitions.
    pub(crate) async fn cut_until(&self, until: impl Fn(Cut) -> bool) -> Cut {
        let mut ledger = self.ledger.subscribe();
        // The sender lives as long as `self`.
        ledger.wait_for(|ledger| until(ledger.cut)).await.map(|ledger| ledger.cut).unwrap_or_default()
    }

    /// What decides everywhere, if anything was agreed yet.
    pub(crate) fn active(&self) -> Option<Arc<Agreed>> {
        self.ledger.borrow().active.clone()
    }

    pub(crate) fn newest(&self) -> Option<CatalogGeneration> {
        self.active().map(|agreed| agreed.row())
    }

    /// What decides, and the number of what follows it: taken at once, so that whatever decides in between has this number or one above it.
    pub(crate) fn newest_and_next(&self) -> Result<(CatalogGeneration, u64), ChangeError> {
        let ledger = self.ledger.borrow();
        if ledger.pending.is_some() {
            return Err(ChangeError::Busy);
        }
        let active = ledger.active.as_ref().ok_or(ChangeError::Conflict)?;
        Ok((active.row(), ledger.last + 1))
    }

    /// The least number that was not prepared yet.
    pub(crate) fn next_number(&self) -> u64 {
        self.ledger.borrow().last + 1
    }

    /// What was prepared under this number and is loaded.
    pub(crate) fn held(&self, number: u64) -> Option<Arc<Generation>> {
        let pending = self.ledger.borrow().pending.as_ref().map(|pending| Arc::clone(&pending.agreed))?;
        self.loaded(&pending).filter(|generation| generation.number() == number)
    }

    /// What is loaded here and does not decide yet came from these.
    pub(crate) fn files(&self) -> BTreeSet<Digest> {
        self.prepared.lock().iter().flat_map(|(_, generation)| generation.files.iter().copied()).collect()
    }

    fn loaded(&self, agreed: &Agreed) -> Option<Arc<Generation>> {
        let content = agreed.content();
        let prepared = self.prepared.lock();
        let found = prepared.iter().find(|(of, generation)| *of == content && generation.number() == agreed.number);
        found.map(|(_, generation)| Arc::clone(generation))
    }

    pub(super) fn hold(&self, content: Digest, generation: Arc<Generation>) {
        self.prepared.lock().push((content, generation));
    }

    /// This one is not proposed any more; what another node prepared stays, were it the same.
    pub(super) fn let_go(&self, generation: &Arc<Generation>) {
        self.prepared.lock().retain(|(_, held)| !Arc::ptr_eq(held, generation));
    }

    fn forget(&self, agreed: &Agreed) {
        let content = agreed.content();
        self.prepared.lock().retain(|(of, generation)| *of != content || generation.number() != agreed.number);
    }

    /// Reads to the end before anything decides here.
    pub(crate) async fn catch_up(&self) -> Result<(), String> {
        let asked = self.clock.monotonic();
        let head = self.control().head().await?;
        let mut from = *self.applied.borrow();
        while from < head {
            let (records, next) = self.control().read(from).await?;
            for record in records {
                let (ledger, _) = self.met(&record)?;
                self.ledger.send_replace(ledger);
            }
            from = next;
            self.applied.send_replace(from);
        }
        self.confirm(asked);
        Ok(())
    }

    /// What is known after this record, and what that changes.
    fn met(&self, record: &[u8]) -> Result<(Ledger, News), String> {
        let mut ledger = self.ledger.borrow().clone();
        // The log's own record, which says which log it is, may be any bytes: a brace is not enough to tell it.
        if !record.starts_with(ENTRY) {
            return Ok((ledger, News::Void));
        }
        let entry = serde_json::from_slice::<Entry>(record);
        let entry = entry.map_err(|error| format!("the control log holds what this build does not read: {error}"))?;
        let news = ledger.apply(entry);
        Ok((ledger, news))
    }

    fn confirm(&self, asked: Duration) {
        self.confirmed.fetch_max(millis(asked), Ordering::AcqRel);
    }

    /// Whether this node knows what decides now. (DELIVERY 27)
    pub(crate) fn knows(&self) -> Result<(), String> {
        if let Some(broken) = self.broken.get() {
            return Err(broken.clone());
        }
        match self.ledger.borrow().cut {
            Cut { under_way: Some(partitions), .. } => {
                return Err(format!("the log is being cut into {partitions} partitions, which takes some seconds"));
            }
            Cut { done: Some(partitions), .. } if partitions != self.cluster.partitions => {
                return Err(format!(
                    "the log was cut into {partitions} partitions, and this node works with {}",
                    self.cluster.partitions
                ));
            }
            Cut { .. } => {}
        }
        let since = millis(self.clock.monotonic()).saturating_sub(self.confirmed.load(Ordering::Acquire));
        if since <= millis(CONFIRMED_WITHIN) {
            return Ok(());
        }
        Err(format!(
            "this node has not known for {} s which policy set decides: it cannot read control to its end",
            since / 1_000
        ))
    }

    pub(super) async fn say(&self, entry: &Entry) -> Result<(), String> {
        let bytes = serde_json::to_vec(entry).map_err(|error| error.to_string())?;
        self.control().write(bytes.into()).await
    }

    /// Says it until it stands; it may come to stand twice, and counts once.
    pub(super) async fn insist(&self, entry: Entry) {
        for _ in 0..WRITES {
            match self.say(&entry).await {
                Ok(()) => return,
                Err(reason) => tracing::warn!(reason, ?entry, "a record of the control log is not known to stand"),
            }
            sleep(RETRY).await;
        }
    }

    /// Puts what decides into the catalog, in order. Every node tries; the first does it.
    async fn record(&self, floor: &Floor) {
        loop {
            let Some(agreed) = self.unrecorded.lock().front().cloned() else { return };
            if let Err(error) = floor.deps.catalog.add_generation(agreed.row(), agreed.audit()).await {
                tracing::debug!(%error, number = agreed.number, "a generation waits for the catalog");
                return;
            }
            self.unrecorded.lock().pop_front();
        }
    }

    /// Ends what nobody carries through any more. `seen`: what was pending at the last look.
    async fn sweep(&self, seen: Option<u64>) -> Option<u64> {
        let pending = self.ledger.borrow().pending.clone()?.agreed;
        let number = pending.number;
        if seen != Some(number) || self.proposing.load(Ordering::Acquire) == number {
            return Some(number);
        }
        let why = if pending.by == *self.node() {
            "its proposal was given up".to_owned()
        } else {
            match self.control().members().await {
                Ok(members) if !members.contains(&pending.by) => format!("{} proposed it and is gone", pending.by),
                _ => return Some(number),
            }
        };
        self.insist(Entry::Abandon { number, by: self.node().clone(), why }).await;
        Some(number)
    }
}

/// Reads on and obeys, until the policies are gone.
pub(crate) async fn obey(shared: Weak<Shared>, following: Arc<Following>) {
    let pending = following.ledger.borrow().pending.clone();
    let mut loading = pending.map(|pending| load_apart(shared.clone(), pending.agreed));
    if let Some(active) = following.active() {
        following.unrecorded.lock().push_back(active);
    }
    let mut from = *following.applied.borrow();
    loop {
        let read = timeout(ASK, following.control().read(from)).await;
        if shared.strong_count() == 0 {
            return;
        }
        let (records, next) = match read {
            Ok(Ok(read)) => read,
            Ok(Err(reason)) => {
                tracing::debug!(reason, from, "the control log cannot be read now");
                sleep(RETRY).await;
                continue;
            }
            Err(_) => continue,
        };
        for record in records {
            let (ledger, news) = match following.met(&record) {
                Ok(met) => met,
                Err(why) => {
                    tracing::error!(why, "this node accepts nothing any more, run a build that reads it");
                    drop(following.broken.set(why));
                    return;
                }
            };
            match news {
                News::Prepared(agreed) => loading = Some(load_apart(shared.clone(), agreed)),
                News::Activated(agreed) => {
                    if !enforce(&shared, &following, agreed, loading.take()).await {
                        return;
                    }
                }
                News::Abandoned => {
                    if let Some(loading) = loading.take() {
                        loading.task.abort();
                        following.forget(&loading.agreed);
                    }
                }
                News::Ready | News::Cut | News::Void => {}
            }
            following.ledger.send_replace(ledger);
        }
        from = next;
        following.applied.send_replace(from);
    }
}

/// Makes sure, again and again, that nothing was written that is not obeyed yet. It asks nobody else: a store that hangs must not make it late.
pub(crate) async fn confirm(shared: Weak<Shared>, following: Arc<Following>) {
    let mut applied = following.applied.subscribe();
    loop {
        let asked = following.clock.monotonic();
        match following.control().head().await {
            Ok(head) => {
                if timeout(CONFIRMED_WITHIN, applied.wait_for(|applied| *applied >= head)).await.is_ok() {
                    following.confirm(asked);
                }
            }
            Err(reason) => tracing::debug!(reason, "nobody says where the control log ends"),
        }
        gauge!("heddle_control_known").set(f64::from(u8::from(following.knows().is_ok())));
        if shared.strong_count() == 0 {
            return;
        }
        sleep(ASK).await;
    }
}

/// Records what waits for the catalog, and ends what nobody carries through.
pub(crate) async fn tidy(shared: Weak<Shared>, following: Arc<Following>) {
    let mut seen = None;
    while let Some(strong) = shared.upgrade() {
        following.record(&strong.floor).await;
        drop(strong);
        seen = following.sweep(seen).await;
        sleep(ASK).await;
    }
}

/// Loads it in a task of its own, and says so: reading goes on meanwhile.
fn load_apart(shared: Weak<Shared>, agreed: Arc<Agreed>) -> Loading {
    let what = Arc::clone(&agreed);
    let task = tokio::spawn(async move {
        let number = agreed.number;
        let Some(shared) = shared.upgrade() else { return };
        let policies = Policies { shared };
        let Some(following) = policies.shared.following.clone() else { return };
        let by = following.node().clone();
        // This node proposed it, and would not have before it was loaded. Were the same another's, that one waits to hear that it is ready here.
        if agreed.by == by && following.loaded(&agreed).is_some() {
            return;
        }
        match policies.load_agreed(&agreed).await {
            Ok(generation) => {
                following.hold(agreed.content(), generation);
                following.insist(Entry::Ready { number, by }).await;
            }
            Err(error) => {
                tracing::error!(%error, number, "a policy set that {} prepared cannot be loaded here", agreed.by);
                following.insist(Entry::Abandon { number, by, why: error.to_string() }).await;
            }
        }
    });
    Loading { agreed: what, task }
}

/// From now on it decides here. Tries until it can; false if the policies are gone.
async fn enforce(shared: &Weak<Shared>, following: &Following, agreed: Arc<Agreed>, loading: Option<Loading>) -> bool {
    if let Some(loading) = loading.filter(|loading| loading.agreed == agreed)
        && following.loaded(&agreed).is_none()
    {
        drop(loading.task.await);
    }
    loop {
        let Some(shared) = shared.upgrade() else { return false };
        let policies = Policies { shared };
        let loaded = match following.loaded(&agreed) {
            Some(held) => Ok(held),
            None => policies.load_agreed(&agreed).await,
        };
        match loaded {
            Ok(generation) => {
                let before = policies.swap(generation);
                following.forget(&agreed);
                tracing::info!(generation = agreed.number, before, by = %agreed.by, "another policy set decides");
                following.unrecorded.lock().push_back(agreed);
                following.record(&policies.shared.floor).await;
                return true;
            }
            Err(error) => {
                tracing::error!(%error, number = agreed.number, "the policy set that decides cannot be loaded here");
            }
        }
        drop(policies);
        sleep(RETRY).await;
    }
}

impl Policies {
    /// Loads and warms a policy set from the catalog's files.
    pub(crate) async fn load_agreed(&self, agreed: &Agreed) -> Result<Arc<Generation>, ChangeError> {
        let content = parsed(agreed.number, &agreed.proposal.json)?;
        let generation = self.shared.floor.load_content(&content, agreed.number).await?;
        Self::warm(generation).await
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
