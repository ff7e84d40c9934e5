//! Routes in Redis: a hash per user, a field per connection; each counts while its node's life holds a lease.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use fred::clients::{Client, Pipeline};
use fred::error::Error;
use fred::interfaces::{HashesInterface as _, KeysInterface as _};
use heddle_model::{Clock, ConnectionId, DeviceId, NodeId, UserId};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::keys::{Keys, field, parse_field};
use super::lease::{Leases, Renewal};
use super::link::Link;
use super::own::Own;
use super::{Life, RedisConfig};
use crate::{Registry, RegistryError, Route};

/// Users whose routes are written in one pipeline.
const PAGE: usize = 256;
/// About what a route weighs on its way.
const ROUTE_BYTES: usize = 160;

/// Who is connected where, in Redis.
pub struct RedisRegistry {
    inner: Arc<Inner>,
    _keeper: AbortOnDropHandle<()>,
}

struct Inner {
    link: Arc<Link>,
    keys: Arc<Keys>,
    own: Own,
    leases: Leases,
    routes_ms: i64,
    /// Redis may not know all that this node holds.
    stale: AtomicBool,
    left: AtomicBool,
    found_again: watch::Sender<u64>,
}

impl RedisRegistry {
    pub(super) fn start(
        link: Arc<Link>,
        keys: Arc<Keys>,
        config: &RedisConfig,
        life: Life,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let inner = Arc::new(Inner {
            own: Own::new(config.node.clone(), life),
            leases: Leases::new(Arc::clone(&link), Arc::clone(&keys), config, life),
            routes_ms: i64::try_from(config.routes_ms.max(10)).unwrap_or(i64::MAX),
            link,
            keys,
            stale: AtomicBool::new(false),
            left: AtomicBool::new(false),
            found_again: watch::Sender::new(0),
        });
        let keeper = AbortOnDropHandle::new(tokio::spawn(keep(Arc::clone(&inner), clock)));
        Self { inner, _keeper: keeper }
    }
}

#[async_trait]
impl Registry for RedisRegistry {
    async fn register(&self, user: &UserId, connection: ConnectionId, device: &DeviceId) -> Result<(), RegistryError> {
        self.inner.own.add(user, connection, device);
        let written = self.inner.write(std::slice::from_ref(user)).await;
        if written.is_err() {
            self.inner.stale.store(true, Ordering::Release);
        }
        written.map(drop)
    }

    async fn unregister(&self, user: &UserId, connection: ConnectionId) -> Result<(), RegistryError> {
        self.inner.own.remove(user, connection);
        let removed = self.inner.remove(vec![(user.clone(), connection)]).await;
        if removed.is_err() {
            self.inner.own.forget_later(user, connection);
            self.inner.stale.store(true, Ordering::Release);
        }
        removed
    }

    async fn routes(&self, users: &[UserId]) -> Result<Vec<Vec<Route>>, RegistryError> {
        let keys: Vec<String> = users.iter().map(|user| self.inner.keys.user(user)).collect();
        let read = async move |client: Client| {
            let pipeline = client.pipeline();
            for key in keys {
                pipeline.hgetall::<(), _>(key).await?;
            }
            all::<HashMap<String, String>>(pipeline).await
        };
        let found = self.inner.link.call(users.len() * ROUTE_BYTES, read).await?;
        let parse = |hash: HashMap<String, String>| -> Vec<(NodeId, Life, Route)> {
            let route = |(text, device): (String, String)| {
                let (node, life, connection) = parse_field(&text)?;
                let device = DeviceId::new(&device).ok()?;
                Some((node.clone(), life, Route { node, connection, device }))
            };
            hash.into_iter().filter_map(route).collect()
        };
        let found: Vec<_> = found.into_iter().map(parse).collect();
        let lives =
            self.inner.leases.known(found.iter().flatten().map(|(node, life, _)| (node.clone(), *life))).await?;
        let mut dead = Vec::new();
        let mut routes: Vec<Vec<Route>> = Vec::with_capacity(found.len());
        for (user, found) in users.iter().zip(found) {
            // Of itself a node knows better than Redis, which may have forgotten, or not have heard yet.
            let mut live = self.inner.own.here(user);
            for (node, life, route) in found {
                let own = life == self.inner.own.life && node == self.inner.own.node;
                if own && live.contains(&route) {
                    continue;
                }
                if !own && lives.get(&(node, life)).copied().unwrap_or(false) {
                    live.push(route);
                } else {
                    dead.push((user, life, route));
                }
            }
            live.sort_by(|a, b| (&a.node, a.connection).cmp(&(&b.node, b.connection)));
            routes.push(live);
        }
        self.inner.sweep(dead);
        Ok(routes)
    }

    fn here(&self, user: &UserId) -> Vec<Route> {
        self.inner.own.here(user)
    }

    async fn online(&self, users: &[UserId]) -> Result<Vec<bool>, RegistryError> {
        let keys: Vec<String> = users.iter().map(|user| self.inner.keys.user(user)).collect();
        let read = async move |client: Client| {
            let pipeline = client.pipeline();
            for key in keys {
                pipeline.hkeys::<(), _>(key).await?;
            }
            all::<Vec<String>>(pipeline).await
        };
        let found = self.inner.link.call(users.len() * ROUTE_BYTES, read).await?;
        // What it holds itself a node knows without Redis.
        let parse = |text: &String| {
            let (node, life, _) = parse_field(text)?;
            (life != self.inner.own.life || node != self.inner.own.node).then_some((node, life))
        };
        let lives = self.inner.leases.known(found.iter().flatten().filter_map(parse)).await?;
        let lives = |text: &String| parse(text).is_some_and(|pair| lives.get(&pair).copied().unwrap_or(false));
        let found = found.iter().map(|fields| fields.iter().any(lives));
        Ok(users.iter().zip(found).map(|(user, there)| there || !self.inner.own.here(user).is_empty()).collect())
    }

    async fn nodes(&self) -> Result<Vec<NodeId>, RegistryError> {
        let mut nodes: Vec<NodeId> = self.inner.leases.ask().await?.into_keys().collect();
        nodes.sort();
        Ok(nodes)
    }

    fn found_again(&self) -> watch::Receiver<u64> {
        self.inner.found_again.subscribe()
    }

    async fn leave(&self) {
        self.inner.left.store(true, Ordering::Release);
        self.inner.own.clear();
        self.inner.leases.release().await;
    }
}

impl Inner {
    /// Writes what this node holds of these users. Says whether Redis lacked any of it.
    async fn write(&self, users: &[UserId]) -> Result<bool, RegistryError> {
        let life = self.own.life;
        let mut entries: Vec<(String, Vec<(String, String)>)> = Vec::with_capacity(users.len());
        let mut held = Vec::with_capacity(users.len());
        for user in users {
            let routes = self.own.here(user);
            let name = |route: &Route| (field(&route.node, life, route.connection), route.device.as_str().to_owned());
            if !routes.is_empty() {
                entries.push((self.keys.user(user), routes.iter().map(name).collect()));
                held.extend(routes.into_iter().map(|route| (user.clone(), route.connection)));
            }
        }
        if entries.is_empty() {
            return Ok(false);
        }
        let expire = self.routes_ms;
        let write = async move |client: Client| {
            let pipeline = client.pipeline();
            for (key, fields) in entries {
                pipeline.hset::<(), _, _>(&key, fields).await?;
                pipeline.pexpire::<(), _>(&key, expire, None).await?;
            }
            // Of each user: how many fields are new, and that it was there.
            Ok(all::<i64>(pipeline).await?.into_iter().step_by(2).any(|new| new > 0))
        };
        let lacked = self.link.call(users.len() * ROUTE_BYTES, write).await?;
        // One that ended meanwhile may have been taken out before it was written.
        held.retain(|(user, connection)| !self.own.has(user, *connection));
        if !held.is_empty() {
            self.remove(held).await?;
        }
        Ok(lacked)
    }

    async fn remove(&self, gone: Vec<(UserId, ConnectionId)>) -> Result<(), RegistryError> {
        let fields: Vec<(String, String)> = gone
            .iter()
            .map(|(user, connection)| (self.keys.user(user), field(&self.own.node, self.own.life, *connection)))
            .collect();
        self.delete(fields).await
    }

    async fn delete(&self, fields: Vec<(String, String)>) -> Result<(), RegistryError> {
        let bytes = fields.len() * ROUTE_BYTES;
        let delete = async move |client: Client| {
            let pipeline = client.pipeline();
            for (key, field) in fields {
                pipeline.hdel::<(), _, _>(key, field).await?;
            }
            all::<i64>(pipeline).await.map(drop)
        };
        self.link.call(bytes, delete).await
    }

    /// Takes away what dead lives left, in the background: nobody waits for it, and whoever sees it next tries again.
    fn sweep(self: &Arc<Self>, dead: Vec<(&UserId, Life, Route)>) {
        if dead.is_empty() {
            return;
        }
        let name = |(user, life, route): (&UserId, Life, Route)| {
            (self.keys.user(user), field(&route.node, life, route.connection))
        };
        let fields = dead.into_iter().take(PAGE).map(name).collect();
        let inner = Arc::clone(self);
        tokio::spawn(async move { drop(inner.delete(fields).await) });
    }

    /// Makes Redis know what this node holds.
    async fn write_all(&self) -> Result<(), RegistryError> {
        self.stale.store(false, Ordering::Release);
        let mut gone = self.own.take_gone();
        let mut written = Ok(());
        while !gone.is_empty() && written.is_ok() {
            let page = gone.split_off(gone.len().saturating_sub(PAGE));
            written = self.remove(page.clone()).await;
            if written.is_err() {
                gone.extend(page);
            }
        }
        for (user, connection) in gone {
            self.own.forget_later(&user, connection);
        }
        let users = self.own.users();
        for page in users.chunks(PAGE) {
            if written.is_err() {
                break;
            }
            written = self.write(page).await.map(drop);
        }
        if written.is_err() {
            self.stale.store(true, Ordering::Release);
        }
        written
    }

    /// Renews the routes whose turn it is; all, where Redis may have lost some.
    async fn renew_routes(&self, round: &mut Round) {
        for page in round.turn(&self.own).chunks(PAGE) {
            if self.stale.load(Ordering::Acquire) {
                break;
            }
            // Of a cluster one server may have lost what it held, though our lease, at another, stands.
            let whole = matches!(self.write(page).await, Ok(false));
            self.stale.fetch_or(!whole, Ordering::AcqRel);
        }
        if !self.stale.load(Ordering::Acquire) {
            return;
        }
        match self.write_all().await {
            Ok(()) => self.found_again.send_modify(|times| *times += 1),
            Err(error) => tracing::debug!(%error, "routes are written later"),
        }
    }
}

/// Turns in which all routes are renewed, a few each time.
struct Round {
    turns: usize,
    each: usize,
    due: Vec<UserId>,
}

impl Round {
    /// Three rounds within the time that routes are kept.
    fn new(routes_ms: i64, interval: Duration) -> Self {
        let round_ms = usize::try_from(routes_ms / 3).unwrap_or(0);
        let turn_ms = usize::try_from(interval.as_millis()).unwrap_or(usize::MAX).max(1);
        Self { turns: (round_ms / turn_ms).max(1), each: 0, due: Vec::new() }
    }

    /// Whose turn it is.
    fn turn(&mut self, own: &Own) -> Vec<UserId> {
        if self.due.is_empty() {
            self.due = own.users();
            self.each = self.due.len().div_ceil(self.turns);
        }
        self.due.split_off(self.due.len().saturating_sub(self.each))
    }
}

/// All answers of a pipeline, each converted.
async fn all<R: fred::types::FromValue>(pipeline: Pipeline<Client>) -> Result<Vec<R>, Error> {
    pipeline.try_all::<R>().await.into_iter().collect()
}

/// Renews the lease and, in time, the keys of the routes.
async fn keep(inner: Arc<Inner>, clock: Arc<dyn Clock>) {
    let mut came = inner.link.came();
    let mut round = Round::new(inner.routes_ms, inner.leases.interval());
    let mut taken = false;
    loop {
        tokio::select! {
            () = tokio::time::sleep(inner.leases.interval()) => {}
            changed = came.changed() => {
                if changed.is_err() {
                    return;
                }
                // Who answers now may be another server, which knows our lease and not all else.
                inner.stale.store(true, Ordering::Release);
            }
        }
        if inner.left.load(Ordering::Acquire) {
            return;
        }
        let renewal =
            if taken { inner.leases.renew().await } else { inner.leases.take().await.map(|()| Renewal::Anew) };
        match renewal {
            Ok(Renewal::Lost) => {
                tracing::error!(node = %inner.own.node, "another process has this node.id: give each its own; this one's routes do not count");
                continue;
            }
            Ok(renewal) => {
                taken = true;
                inner.stale.fetch_or(renewal == Renewal::Anew, Ordering::AcqRel);
                inner.renew_routes(&mut round).await;
            }
            Err(error) => {
                tracing::debug!(%error, "lease is renewed later");
                // It may have been renewed, anew even, and only the answer have been lost.
                inner.stale.store(true, Ordering::Release);
                continue;
            }
        }
        if let Err(error) = inner.leases.refresh(clock.now()).await {
            tracing::debug!(%error, "nodes are listed later");
        }
    }
}
