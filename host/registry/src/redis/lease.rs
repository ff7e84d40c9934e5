//! Leases: which nodes live. A route counts only if the life that wrote it holds its node's lease.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use fred::clients::Client;
use fred::interfaces::{KeysInterface as _, SortedSetsInterface as _};
use fred::types::Value;
use fred::types::scripts::Script;
use heddle_model::{Millis, NodeId};
use parking_lot::RwLock;

use super::keys::{Keys, parse_life};
use super::link::Link;
use super::{Life, RedisConfig};
use crate::RegistryError;

/// Nodes that a listing reads at most.
const NODES_MAX: i64 = 4_096;
/// A node that is gone for so many leases leaves the listing.
const FORGOTTEN_AFTER: u64 = 100;

/// KEYS: the lease. ARGV: life, milliseconds. Says whether it was ours, was nobody's, or is another life's.
static RENEW: LazyLock<Script> = LazyLock::new(|| {
    Script::from_lua(
        "local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then return 2 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if held then return 0 end
return 1",
    )
});

/// KEYS: the lease. ARGV: life. Takes it away if it is ours.
static RELEASE: LazyLock<Script> = LazyLock::new(|| {
    Script::from_lua("if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0")
});

/// What became of a renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Renewal {
    /// It was held all the time.
    Held,
    /// It had ended, or Redis has forgotten everything: this node's routes must be written anew.
    Anew,
    /// A younger process has this node's name.
    Lost,
}

pub(super) struct Leases {
    link: Arc<Link>,
    keys: Arc<Keys>,
    node: NodeId,
    life: Life,
    lease_ms: Millis,
    /// Who lived when it was last asked.
    alive: RwLock<HashMap<NodeId, Life>>,
}

impl Leases {
    pub(super) fn new(link: Arc<Link>, keys: Arc<Keys>, config: &RedisConfig, life: Life) -> Self {
        let node = config.node.clone();
        let alive = RwLock::new(HashMap::from([(node.clone(), life)]));
        Self { link, keys, node, life, lease_ms: config.lease_ms.max(10), alive }
    }

    /// How often to renew.
    pub(super) fn interval(&self) -> Duration {
        Duration::from_millis((self.lease_ms / 5).clamp(10, 1_000))
    }

    /// The first time: whoever had the name is dead, or should be.
    pub(super) async fn take(&self) -> Result<(), RegistryError> {
        let (key, life) = (self.keys.node(&self.node), self.life.to_string());
        let expire = fred::types::Expiration::PX(i64::try_from(self.lease_ms).unwrap_or(i64::MAX));
        let set = async move |client: Client| client.set::<(), _, _>(key, life, Some(expire), None, false).await;
        self.link.call(0, set).await
    }

    pub(super) async fn renew(&self) -> Result<Renewal, RegistryError> {
        let args = vec![Value::from(self.life.to_string()), Value::from(self.lease_ms.to_string())];
        let said: i64 = self.link.script(&RENEW, self.keys.node(&self.node), args).await?;
        Ok(match said {
            0 => Renewal::Held,
            1 => Renewal::Anew,
            _ => Renewal::Lost,
        })
    }

    pub(super) async fn release(&self) {
        let args = vec![Value::from(self.life.to_string())];
        let gone: Result<i64, _> = self.link.script(&RELEASE, self.keys.node(&self.node), args).await;
        let (key, node) = (self.keys.nodes(), self.node.as_str().to_owned());
        let listed = self.link.call(0, async move |client: Client| client.zrem::<i64, _, _>(key, node).await).await;
        if let Err(error) = gone.and(listed) {
            tracing::debug!(%error, "lease was not released, it ends by itself");
        }
    }

    /// Says that this node is here, and who else is.
    pub(super) async fn refresh(&self, now: Millis) -> Result<(), RegistryError> {
        let (key, node) = (self.keys.nodes(), self.node.as_str().to_owned());
        let old = now.saturating_sub(self.lease_ms.saturating_mul(FORGOTTEN_AFTER)) as f64;
        let said = self.link.call(0, async move |client: Client| {
            let pipeline = client.pipeline();
            pipeline.zadd::<(), _, _>(&key, None, None, false, false, (now as f64, node)).await?;
            pipeline.zremrangebyscore::<(), _, _, _>(&key, 0.0, old).await?;
            pipeline.all::<Vec<Value>>().await
        });
        said.await?;
        let alive = self.ask().await?;
        *self.alive.write() = alive;
        Ok(())
    }

    /// Who lives, asked now.
    pub(super) async fn ask(&self) -> Result<HashMap<NodeId, Life>, RegistryError> {
        let key = self.keys.nodes();
        let names = async move |client: Client| {
            client.zrange::<Vec<String>, _, _, _>(key, 0, NODES_MAX - 1, None, false, None, false).await
        };
        let mut nodes: Vec<NodeId> =
            self.link.call(0, names).await?.iter().filter_map(|name| NodeId::new(name).ok()).collect();
        if !nodes.contains(&self.node) {
            nodes.push(self.node.clone());
        }
        self.lives(nodes).await
    }

    /// Which of these live.
    async fn lives(&self, nodes: Vec<NodeId>) -> Result<HashMap<NodeId, Life>, RegistryError> {
        let keys: Vec<String> = nodes.iter().map(|node| self.keys.node(node)).collect();
        let get = async move |client: Client| {
            let pipeline = client.pipeline();
            for key in keys {
                pipeline.get::<(), _>(key).await?;
            }
            pipeline.all::<Vec<Option<String>>>().await
        };
        let held = self.link.call(nodes.len() * 64, get).await?;
        let lives = nodes.into_iter().zip(held);
        Ok(lives.filter_map(|(node, held)| Some((node, parse_life(&held?)?))).collect())
    }

    /// Whether each of these lives; asks about nodes that this one has not met in this life.
    pub(super) async fn known(
        &self,
        pairs: impl Iterator<Item = (NodeId, Life)>,
    ) -> Result<HashMap<(NodeId, Life), bool>, RegistryError> {
        let mut known: HashMap<(NodeId, Life), bool> = HashMap::new();
        {
            let alive = self.alive.read();
            for (node, life) in pairs {
                let lives = (node == self.node && life == self.life) || alive.get(&node) == Some(&life);
                known.insert((node, life), lives);
            }
        }
        let unknown: Vec<NodeId> =
            known.iter().filter(|(_, lives)| !**lives).map(|((node, _), _)| node.clone()).collect();
        if !unknown.is_empty() {
            let lives = self.lives(unknown).await?;
            for ((node, life), alive) in known.iter_mut().filter(|(_, alive)| !**alive) {
                *alive = lives.get(node) == Some(life);
            }
            self.alive.write().extend(lives);
        }
        Ok(known)
    }
}
