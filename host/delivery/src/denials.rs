//! Who denies whom: blocks between users, and users whose tokens an operator took back. All of it is in memory, and each node asks the store once a
//! second what changed since; the bus only makes that sooner. (DELIVERY 9)

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use heddle_model::{Millis, UserId};
use heddle_store::{AuditEntry, Denial, Noted, Revocation, Store, StoreError};
use parking_lot::RwLock;
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

use crate::config::DeliveryConfig;
use crate::delivery::{Delivery, Shared};
use crate::hub::NodeMessage;

/// How often the store is asked.
const ASK: Duration = Duration::from_secs(1);
/// Changes that are read at once.
const PAGE: u32 = 5_000;
/// Changed pairs whose presence is told at once; presence is a hint.
const RELATED_MAX: usize = 1_000;

/// What two users are to each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Pair {
    /// The first blocks the second.
    pub(crate) blocks: bool,
    /// The second blocks the first.
    pub(crate) blocked: bool,
}

impl Pair {
    /// One of them blocks the other.
    pub(crate) fn apart(self) -> bool {
        self.blocks || self.blocked
    }
}

/// What the store had when it was asked last.
#[derive(Default)]
struct Known {
    version: u64,
    /// Who blocks whom. A pair is kept as its hash, with a key of this process: nobody makes two of them alike, and by chance no two are.
    blocks: HashSet<u64>,
    /// There was no room for all of them.
    partial: bool,
    revoked: HashMap<UserId, Millis>,
}

/// What has another meaning than before.
#[derive(Debug, Default, PartialEq, Eq)]
struct Changed {
    pairs: Vec<(UserId, UserId)>,
    revocations: bool,
}

/// The memory of one node.
pub(crate) struct Denials {
    store: Store,
    hasher: RandomState,
    blocks_max: usize,
    known: RwLock<Known>,
    /// One reader of the store at a time, so that what is known never goes back.
    reading: tokio::sync::Mutex<()>,
    /// Somebody says that something changed.
    pub(crate) hint: Notify,
}

impl Denials {
    /// All that the store has now.
    ///
    /// # Errors
    /// It does not answer.
    pub(crate) async fn open(config: &DeliveryConfig, store: Store) -> Result<Self, StoreError> {
        let denials = Self {
            store,
            hasher: RandomState::new(),
            blocks_max: config.blocks_cached,
            known: RwLock::default(),
            reading: tokio::sync::Mutex::default(),
            hint: Notify::new(),
        };
        denials.read().await?;
        Ok(denials)
    }

    /// What `user` and each of `others` are to each other. Where memory has no room for all, the store is asked; if it is away, what is known
    /// counts: a message is not held up.
    pub(crate) async fn between(&self, user: &UserId, others: &[UserId]) -> Vec<Pair> {
        let partial = self.known.read().partial;
        if partial && let Ok(pairs) = self.store.denials.blocks_between(user, others).await {
            return pairs.into_iter().map(|(blocks, blocked)| Pair { blocks, blocked }).collect();
        }
        let known = self.known.read();
        if known.blocks.is_empty() {
            return vec![Pair::default(); others.len()];
        }
        let has = |who: &UserId, whom: &UserId| known.blocks.contains(&self.hash(who, whom));
        others.iter().map(|other| Pair { blocks: has(user, other), blocked: has(other, user) }).collect()
    }

    /// As [`between`](Self::between), of two.
    pub(crate) async fn pair(&self, user: &UserId, other: &UserId) -> Pair {
        self.between(user, std::slice::from_ref(other)).await.pop().unwrap_or_default()
    }

    /// Is a token of this user refused that was issued then?
    pub(crate) fn refuses(&self, user: &UserId, issued: Millis) -> bool {
        self.known.read().revoked.get(user).is_some_and(|upto| issued <= *upto)
    }

    fn hash(&self, who: &UserId, whom: &UserId) -> u64 {
        self.hasher.hash_one((who.as_str(), whom.as_str()))
    }

    /// Takes in what changed since the last time; or all, if what is known is of another history than the store's, or too old.
    async fn read(&self) -> Result<Changed, StoreError> {
        let _one = self.reading.lock().await;
        let from = self.known.read().version;
        let mut page = self.store.denials.denials_since(from, PAGE).await?;
        let lost = page.version < from || from > 0 && page.forgotten > from;
        let mut anew = lost.then(Known::default);
        if lost {
            tracing::info!(from, newest = page.version, "blocks and revocations are read anew");
            page = self.store.denials.denials_since(0, PAGE).await?;
        }
        let mut changed = Changed { revocations: lost, ..Changed::default() };
        loop {
            match &mut anew {
                Some(anew) => self.take(anew, &page.changes),
                None if page.changes.is_empty() => {}
                None => self.take(&mut self.known.write(), &page.changes),
            }
            let full = page.changes.len() == PAGE as usize;
            let upto =
                if full { page.changes.last().map_or(page.version, |(version, _)| *version) } else { page.version };
            for (_, denial) in page.changes {
                match denial {
                    Denial::Revocation { .. } => changed.revocations = true,
                    Denial::Block { user, other, .. } if changed.pairs.len() < RELATED_MAX => {
                        changed.pairs.push((user, other));
                    }
                    Denial::Block { .. } => {}
                }
            }
            match &mut anew {
                Some(anew) => anew.version = upto,
                None if upto != from => self.known.write().version = upto,
                None => {}
            }
            if !full {
                break;
            }
            page = self.store.denials.denials_since(upto, PAGE).await?;
        }
        if let Some(anew) = anew {
            *self.known.write() = anew;
        }
        Ok(changed)
    }

    fn take(&self, known: &mut Known, changes: &[(u64, Denial)]) {
        for (_, denial) in changes {
            match denial {
                Denial::Block { user, other, holds: false } => {
                    known.blocks.remove(&self.hash(user, other));
                }
                Denial::Block { user, other, holds: true } => {
                    if known.blocks.len() < self.blocks_max {
                        known.blocks.insert(self.hash(user, other));
                    } else if !std::mem::replace(&mut known.partial, true) {
                        tracing::warn!(
                            max = self.blocks_max,
                            "there are more blocks than memory is for: the store is asked about each message, raise users.blocks_cached_max"
                        );
                    }
                }
                Denial::Revocation { user, upto: Some(upto) } => {
                    known.revoked.insert(user.clone(), *upto);
                }
                Denial::Revocation { user, upto: None } => {
                    known.revoked.remove(user);
                }
            }
        }
    }

    fn show(&self) {
        let known = self.known.read();
        metrics::gauge!("heddle_blocks").set(known.blocks.len() as f64);
        metrics::gauge!("heddle_revoked_users").set(known.revoked.len() as f64);
    }
}

/// Asks the store each second, or when somebody says that it is time, until delivery stops.
pub(crate) async fn watch(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(ASK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut away = false;
    loop {
        tokio::select! {
            () = shared.stop.cancelled() => return,
            _ = ticks.tick() => {}
            () = shared.denials.hint.notified() => {}
        }
        match shared.heed_denials().await {
            Ok(()) if std::mem::take(&mut away) => tracing::info!("blocks and revocations are up to date again"),
            Ok(()) => {}
            Err(error) => {
                metrics::counter!("heddle_denial_reads_failed_total").increment(1);
                if !std::mem::replace(&mut away, true) {
                    tracing::warn!(%error, "blocks and revocations are as they were: new ones wait for the store");
                }
            }
        }
    }
}

impl Shared {
    /// Reads what changed, and does what follows: connections with tokens that are refused now go, and who may not see whom any more is told.
    async fn heed_denials(&self) -> Result<(), StoreError> {
        let changed = self.denials.read().await?;
        if changed.revocations {
            self.hub.revoke(|user, issued| self.denials.refuses(user, issued));
        }
        for (user, other) in changed.pairs {
            self.presence.related_anew(&user, &other).await;
        }
        self.denials.show();
        Ok(())
    }
}

impl Delivery {
    /// Whom the user blocks.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn blocks(&self, user: &UserId) -> Result<Vec<UserId>, StoreError> {
        self.shared.store.denials.blocks(user).await
    }

    /// `user` blocks `other`, or no longer. Once it answers it holds at this node, and within about a second at the others.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn set_block(&self, user: &UserId, other: &UserId, holds: bool) -> Result<Noted, StoreError> {
        let (now, max) = (self.shared.clock.now(), self.shared.config.blocks_max);
        let noted = self.shared.store.denials.set_block(user, other, holds, now, max).await?;
        self.spread(noted == Noted::Changed).await;
        Ok(noted)
    }

    /// Takes a user's tokens back. Once it answers it holds at this node, and within about a second at the others.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn revoke(&self, revocation: Revocation, audit: AuditEntry) -> Result<Noted, StoreError> {
        let noted = self.shared.store.denials.revoke(revocation, audit, self.shared.config.revocations_max).await?;
        self.spread(noted == Noted::Changed).await;
        Ok(noted)
    }

    /// Takes a revocation back; false if there was none.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn restore(&self, user: &UserId, audit: AuditEntry) -> Result<bool, StoreError> {
        let changed = self.shared.store.denials.restore(user, audit).await?;
        self.spread(changed).await;
        Ok(changed)
    }

    /// The user's revocation, as the store has it.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn revocation(&self, user: &UserId) -> Result<Option<Revocation>, StoreError> {
        self.shared.store.denials.revocation(user).await
    }

    /// When the user was first seen, if ever.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn seen_since(&self, user: &UserId) -> Result<Option<Millis>, StoreError> {
        self.shared.people.since(user).await
    }

    /// Connections of the user at this node.
    #[must_use]
    pub fn connections_here(&self, user: &UserId) -> usize {
        self.shared.hub.of_user(user)
    }

    /// Is a token of this user refused that was issued then? From memory.
    #[must_use]
    pub fn refuses(&self, user: &UserId, issued: Millis) -> bool {
        self.shared.denials.refuses(user, issued)
    }

    /// Heeds a change here, and tells the others that there is one.
    async fn spread(&self, changed: bool) {
        if let Err(error) = self.shared.heed_denials().await {
            tracing::debug!(%error, "a change of blocks or revocations waits for the next look");
        }
        if changed {
            self.shared.bus.broadcast(Arc::new(NodeMessage::Denials)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use heddle_model::SystemClock;
    use heddle_store::{DENIAL_FORGOTTEN_MS, SqliteStore, StoreConfig};

    use super::*;

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    struct World {
        denials: Denials,
        store: Store,
        _directory: tempfile::TempDir,
    }

    impl World {
        async fn with(blocks_cached: usize) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let config = StoreConfig::at(directory.path().join("store.db"));
            let store = SqliteStore::open(config, Arc::new(SystemClock::new())).await.unwrap().store();
            let config = DeliveryConfig { blocks_cached, ..DeliveryConfig::default() };
            let denials = Denials::open(&config, store.clone()).await.unwrap();
            Self { denials, store, _directory: directory }
        }

        async fn set(&self, who: &str, whom: &str, holds: bool, at: Millis) {
            self.store.denials.set_block(&user(who), &user(whom), holds, at, 99).await.unwrap();
        }

        async fn blocks(&self, who: &str, whom: &str) -> bool {
            let pair = self.denials.pair(&user(who), &user(whom)).await;
            let reverse = self.denials.pair(&user(whom), &user(who)).await;
            assert_eq!((pair.blocks, pair.blocked), (reverse.blocked, reverse.blocks));
            pair.blocks
        }
    }

    #[tokio::test]
    async fn what_changed_is_known_after_the_next_look_and_said_once() {
        let world = World::with(99).await;
        world.set("bob", "alice", true, 1).await;
        assert!(!world.blocks("bob", "alice").await);
        let changed = world.denials.read().await.unwrap();
        assert_eq!(changed, Changed { pairs: vec![(user("bob"), user("alice"))], revocations: false });
        assert!(world.blocks("bob", "alice").await && !world.blocks("alice", "bob").await);
        assert_eq!(world.denials.read().await.unwrap(), Changed::default());
        world.set("bob", "alice", false, 2).await;
        world.denials.read().await.unwrap();
        assert!(!world.blocks("bob", "alice").await);
    }

    #[tokio::test]
    async fn who_was_away_while_a_change_was_forgotten_reads_anew() {
        let world = World::with(99).await;
        world.set("bob", "alice", true, 1).await;
        world.denials.read().await.unwrap();
        world.set("bob", "alice", false, 2).await;
        // The row that says so is gone by now.
        world.set("carol", "dave", true, DENIAL_FORGOTTEN_MS + 9).await;
        assert!(world.denials.read().await.unwrap().revocations, "whoever is revoked is looked for again");
        assert!(!world.blocks("bob", "alice").await && world.blocks("carol", "dave").await);
    }

    #[tokio::test]
    async fn what_memory_has_no_room_for_is_asked_of_the_store() {
        let world = World::with(1).await;
        world.set("bob", "alice", true, 1).await;
        world.set("carol", "alice", true, 2).await;
        world.denials.read().await.unwrap();
        assert!(world.blocks("bob", "alice").await && world.blocks("carol", "alice").await);
        world.set("dave", "alice", true, 3).await;
        assert!(world.blocks("dave", "alice").await);
    }
}
