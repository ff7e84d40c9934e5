//! What delivery remembers of users, and what presence asks of the rest.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::Arc;

use async_trait::async_trait;
use heddle_model::{Conversation, GroupId, Millis, NodeId, UserId};
use heddle_presence::{PresenceSink, Relations, Update, relation};
use heddle_registry::Bus;
use heddle_store::{Store, StoreError};
use lru::LruCache;
use parking_lot::Mutex;

use crate::config::DeliveryConfig;
use crate::delivery::Delivery;
use crate::hub::NodeMessage;

/// Bounded memories of rows that rarely change.
pub(crate) struct People {
    store: Store,
    since: Mutex<LruCache<UserId, Millis>>,
    muted: Mutex<LruCache<GroupId, Arc<HashSet<UserId>>>>,
    mutes: Mutex<LruCache<UserId, Arc<[Conversation]>>>,
    lamports: Mutex<LruCache<UserId, u64>>,
}

impl People {
    pub(crate) fn new(config: &DeliveryConfig, store: Store) -> Self {
        let size = |n: usize| NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN);
        Self {
            store,
            since: Mutex::new(LruCache::new(size(config.users_cached))),
            muted: Mutex::new(LruCache::new(size(config.groups_cached))),
            mutes: Mutex::new(LruCache::new(size(config.users_cached))),
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
        if let Some(mutes) = self.mutes.lock().get(user) {
            return Ok(mutes.contains(conversation));
        }
        let mutes: Arc<[Conversation]> = self.store.directory.mutes(user).await?.into();
        let muted = mutes.contains(conversation);
        self.mutes.lock().put(user.clone(), mutes);
        Ok(muted)
    }

    /// Who muted the group.
    pub(crate) async fn muted(&self, group: &GroupId) -> Result<Arc<HashSet<UserId>>, StoreError> {
        if let Some(muted) = self.muted.lock().get(group) {
            return Ok(Arc::clone(muted));
        }
        let muted: Arc<HashSet<_>> = Arc::new(self.store.directory.muted_members(group).await?.into_iter().collect());
        self.muted.lock().put(group.clone(), Arc::clone(&muted));
        Ok(muted)
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
        self.shared.people.mutes.lock().pop(user);
        if let Conversation::Group(group) = conversation {
            self.shared.people.muted.lock().pop(group);
        }
        Ok(())
    }
}

/// What presence asks of the store.
pub(crate) struct StoreRelations {
    store: Store,
}

impl StoreRelations {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }
}

#[async_trait]
impl Relations for StoreRelations {
    async fn relations(&self, subject: &UserId, viewers: &[UserId]) -> Option<Vec<u8>> {
        let listed = self.store.directory.listed(subject, viewers).await.ok()?;
        let shared = self.store.groups.share_a_group(subject, viewers).await.ok()?;
        let bits = listed.iter().zip(&shared).map(|(listed, shared)| {
            (if *listed { relation::CONTACT } else { 0 }) | (if *shared { relation::SHARES_A_GROUP } else { 0 })
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
