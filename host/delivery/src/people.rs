//! What delivery remembers of users, and what presence asks of the rest.

use std::collections::HashSet;
use std::hash::Hash;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use heddle_model::{Clock, Conversation, GroupId, Millis, NodeId, UserId};
use heddle_presence::{PresenceSink, Relations, Update, relation};
use heddle_registry::Bus;
use heddle_store::{Store, StoreError};
use lru::LruCache;
use parking_lot::Mutex;

use crate::config::DeliveryConfig;
use crate::delivery::Delivery;
use crate::denials::Denials;
use crate::hub::NodeMessage;

/// Where other nodes write to the store too: for so long what was read from it counts.
const FRESH: Duration = Duration::from_secs(5);

/// Bounded memories of rows that rarely change.
pub(crate) struct People {
    store: Store,
    since: Mutex<LruCache<UserId, Millis>>,
    muted: Memory<GroupId, Arc<HashSet<UserId>>>,
    mutes: Memory<UserId, Arc<[Conversation]>>,
    lamports: Mutex<LruCache<UserId, u64>>,
}

/// What was read from the store, and when. This node forgets what it changes itself.
struct Memory<K: Hash + Eq, V> {
    read: Mutex<LruCache<K, (V, Duration)>>,
    clock: Arc<dyn Clock>,
    /// Others change it as well.
    shared: bool,
}

impl<K: Hash + Eq + Clone, V: Clone> Memory<K, V> {
    fn new(size: NonZeroUsize, clock: Arc<dyn Clock>, shared: bool) -> Self {
        Self { read: Mutex::new(LruCache::new(size)), clock, shared }
    }

    /// From memory, else from the store; while that is away, what it said last.
    async fn get(&self, key: &K, store: impl Future<Output = Result<V, StoreError>>) -> Result<V, StoreError> {
        let known = self.read.lock().get(key).cloned();
        let now = self.clock.monotonic();
        if let Some((value, at)) = &known
            && (!self.shared || now.saturating_sub(*at) < FRESH)
        {
            return Ok(value.clone());
        }
        match (store.await, known) {
            (Ok(value), _) => {
                self.read.lock().put(key.clone(), (value.clone(), now));
                Ok(value)
            }
            (Err(_), Some((value, _))) => Ok(value),
            (Err(error), None) => Err(error),
        }
    }

    fn forget(&self, key: &K) {
        self.read.lock().pop(key);
    }
}

impl People {
    /// `shared`: other nodes write to the store too.
    pub(crate) fn new(config: &DeliveryConfig, store: Store, clock: &Arc<dyn Clock>, shared: bool) -> Self {
        let size = |n: usize| NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN);
        Self {
            store,
            since: Mutex::new(LruCache::new(size(config.users_cached))),
            muted: Memory::new(size(config.groups_cached), Arc::clone(clock), shared),
            mutes: Memory::new(size(config.users_cached), Arc::clone(clock), shared),
            lamports: Mutex::new(LruCache::new(size(config.users_cached))),
        }
    }

    /// When the user was first seen, if ever.
    pub(crate) async fn since(&self, user: &UserId) -> Result<Option<Millis>, StoreError> {
        if let Some(at) = self.since.lock().get(user) {
            return Ok(Some(*at));
        }
        let since = self.store.directory.user_since(user).await?;
        if let Some(at) = since {
            self.since.lock().put(user.clone(), at);
        }
        Ok(since)
    }

    /// The user is here now; kept in the store, where the first time stays.
    pub(crate) async fn see(&self, user: &UserId, now: Millis) -> Result<Millis, StoreError> {
        if let Some(at) = self.since(user).await? {
            return Ok(at);
        }
        self.store.directory.see_user(user, now).await?;
        self.since.lock().put(user.clone(), now);
        Ok(now)
    }

    /// The clock of a message whose client gave none that counts: the gateway's, and above the sender's last, so that two sends of one
    /// millisecond keep their order.
    pub(crate) fn lamport(&self, sender: &UserId, given: Option<u64>, now: Millis) -> u64 {
        let mut lamports = self.lamports.lock();
        let last = lamports.get(sender).copied().unwrap_or(0);
        let lamport = given.unwrap_or_else(|| now.max(last + 1));
        lamports.put(sender.clone(), lamport.max(last));
        lamport
    }

    /// Has the user muted this conversation?
    pub(crate) async fn mutes(&self, user: &UserId, conversation: &Conversation) -> Result<bool, StoreError> {
        let read = async { Ok(self.store.directory.mutes(user).await?.into()) };
        Ok(self.mutes.get(user, read).await?.contains(conversation))
    }

    /// Who muted the group.
    pub(crate) async fn muted(&self, group: &GroupId) -> Result<Arc<HashSet<UserId>>, StoreError> {
        let read = async { Ok(Arc::new(self.store.directory.muted_members(group).await?.into_iter().collect())) };
        self.muted.get(group, read).await
    }
}

impl Delivery {
    /// Whom the user listed.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn contacts(&self, user: &UserId) -> Result<Vec<UserId>, StoreError> {
        Ok(self.shared.store.directory.contacts(user).await?.into_iter().map(|contact| contact.user).collect())
    }

    /// Lists or unlists somebody. Directed: `other` then sees more of `user`.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn set_contact(&self, user: &UserId, other: &UserId, listed: bool) -> Result<(), StoreError> {
        let now = self.shared.clock.now();
        self.shared.store.directory.set_contact(user, other, listed, now).await.map(drop)
    }

    /// Mutes or unmutes a conversation.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn set_mute(&self, user: &UserId, conversation: &Conversation, muted: bool) -> Result<(), StoreError> {
        self.shared.store.directory.set_mute(user, conversation, muted).await?;
        self.shared.people.mutes.forget(user);
        if let Conversation::Group(group) = conversation {
            self.shared.people.muted.forget(group);
        }
        Ok(())
    }
}

/// What presence asks of the store.
pub(crate) struct StoreRelations {
    store: Store,
    denials: Arc<Denials>,
}

impl StoreRelations {
    pub(crate) fn new(store: Store, denials: Arc<Denials>) -> Self {
        Self { store, denials }
    }
}

#[async_trait]
impl Relations for StoreRelations {
    async fn relations(&self, subject: &UserId, viewers: &[UserId]) -> Option<Vec<u8>> {
        let listed = self.store.directory.listed(subject, viewers).await.ok()?;
        let shared = self.store.groups.share_a_group(subject, viewers).await.ok()?;
        let pairs = self.denials.between(subject, viewers).await;
        let bits = listed.iter().zip(&shared).zip(pairs).map(|((listed, shared), pair)| {
            let bit = |is: bool, bit: u8| if is { bit } else { 0 };
            bit(*listed, relation::CONTACT)
                | bit(*shared, relation::SHARES_A_GROUP)
                | bit(pair.apart(), relation::BLOCKED)
        });
        Some(bits.collect())
    }

    async fn last_seen(&self, user: &UserId) -> Option<Millis> {
        self.store.devices.devices(user).await.ok()?.first().map(|device| device.seen_at)
    }
}

/// Sends presence updates to the nodes that hold the sockets.
pub(crate) struct NodeSink {
    bus: Arc<dyn Bus<NodeMessage>>,
    node: NodeId,
}

impl NodeSink {
    pub(crate) fn new(bus: Arc<dyn Bus<NodeMessage>>, node: NodeId) -> Self {
        Self { bus, node }
    }
}

impl PresenceSink for NodeSink {
    fn update(&self, update: Update) {
        let (bus, node) = (Arc::clone(&self.bus), self.node.clone());
        tokio::spawn(async move {
            let mut nodes: Vec<&NodeId> = update.to.iter().map(|socket| &socket.node).collect();
            nodes.sort();
            nodes.dedup();
            for at in nodes {
                let to = update.to.iter().filter(|s| s.node == *at).map(|s| s.connection).collect();
                let message = NodeMessage::Presence { seen: update.seen.clone(), to };
                if let Err(error) = bus.send(at, Arc::new(message)).await {
                    tracing::debug!(%node, %error, "presence update lost");
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use heddle_model::ManualClock;

    use super::*;

    async fn read(memory: &Memory<u8, u8>, store: Result<u8, StoreError>) -> Result<u8, StoreError> {
        memory.get(&1, async { store }).await
    }

    fn away() -> Result<u8, StoreError> {
        Err(StoreError::Unavailable { operation: "read", reason: "away".to_owned() })
    }

    #[tokio::test]
    async fn what_others_change_counts_for_a_while_and_longer_while_the_store_is_away() {
        let clock = Arc::new(ManualClock::at(1));
        let memory = Memory::new(NonZeroUsize::MIN, Arc::clone(&clock) as Arc<dyn Clock>, true);
        assert!(read(&memory, away()).await.is_err());
        assert_eq!(read(&memory, Ok(7)).await.unwrap(), 7);
        clock.advance(4_999);
        assert_eq!(read(&memory, Ok(8)).await.unwrap(), 7);
        clock.advance(1);
        assert_eq!(read(&memory, away()).await.unwrap(), 7);
        assert_eq!(read(&memory, Ok(8)).await.unwrap(), 8);
        memory.forget(&1);
        assert!(read(&memory, away()).await.is_err());
    }

    #[tokio::test]
    async fn what_only_this_node_changes_counts_until_it_does() {
        let clock = Arc::new(ManualClock::at(1));
        let memory = Memory::new(NonZeroUsize::MIN, Arc::clone(&clock) as Arc<dyn Clock>, false);
        assert_eq!(read(&memory, Ok(7)).await.unwrap(), 7);
        clock.advance(1 << 40);
        assert_eq!(read(&memory, Ok(8)).await.unwrap(), 7);
    }
}
