//! Calls to Redis: each has a deadline, all together have a bound, and a server that does not answer is not asked again until it does.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use fred::clients::Client;
use fred::error::{Error, ErrorKind};
use fred::interfaces::{ClientLike as _, ClusterInterface as _, EventInterface as _, LuaInterface as _};
use fred::types::config::Server;
use fred::types::scripts::Script;
use fred::types::{FromValue, InfoKind};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::task::AbortOnDropHandle;

use super::current::Current;
use super::tls::{Proof, Reason};
use super::{RedisConfig, RedisMode, RedisSettingError, RedisTls, chance};
use crate::RegistryError;

/// So many deadlines missed in a row, and Redis counts as away.
const STRIKES: u32 = 3;
/// Bytes of a call that count as one call.
const CALL_BYTES: usize = 4_096;
/// The longest that the client is waited for with a call that nobody waits for any more.
const ABANDONED: Duration = Duration::from_secs(30);

type Call<R> = Pin<Box<dyn Future<Output = Result<R, Error>> + Send>>;

pub(super) struct Link {
    client: Client,
    permits: Arc<Semaphore>,
    permits_max: usize,
    deadline: Duration,
    health: Arc<Health>,
    /// None: it is no TLS.
    current: Option<Arc<Current>>,
    _tasks: [AbortOnDropHandle<()>; 3],
}

struct Health {
    strikes: AtomicU32,
    away: AtomicBool,
    struck: Notify,
    /// There are several servers: one may stand still while the others answer.
    several: bool,
    /// Counts the times that Redis came (back).
    came: watch::Sender<u64>,
}

impl Health {
    fn answered(&self) {
        self.strikes.store(0, Ordering::Relaxed);
    }

    fn strike(&self) {
        metrics::counter!("heddle_redis_deadlines_missed_total").increment(1);
        let enough = self.strikes.fetch_add(1, Ordering::Relaxed) + 1 >= STRIKES;
        if enough {
            self.leave();
        }
        if enough || self.several {
            self.struck.notify_one();
        }
    }

    /// Nobody asks any more.
    fn leave(&self) {
        if !self.away.swap(true, Ordering::AcqRel) {
            tracing::warn!("Redis does not answer; this node goes on alone");
        }
    }

    fn back(&self) {
        self.strikes.store(0, Ordering::Relaxed);
        self.away.store(false, Ordering::Release);
        self.came.send_modify(|times| *times += 1);
        tracing::info!("Redis answers");
    }
}

impl Link {
    /// Begins to connect.
    pub(super) fn open(config: &RedisConfig) -> Result<Arc<Self>, RedisSettingError> {
        let current = config.current()?;
        let client = config
            .builder(current.as_ref())?
            .build()
            .map_err(|error| RedisSettingError { key: "registry.url", wrong: error.to_string() })?;
        let health = Arc::new(Health {
            strikes: AtomicU32::new(0),
            away: AtomicBool::new(false),
            struck: Notify::new(),
            several: config.mode == RedisMode::Cluster,
            came: watch::Sender::new(0),
        });
        let watched = watch_health(client.clone(), Arc::clone(&health), config.deadline());
        let watched = AbortOnDropHandle::new(tokio::spawn(watched));
        let said = say(client.error_rx(), health.came.subscribe(), current.clone());
        let said = AbortOnDropHandle::new(tokio::spawn(said));
        let dialed = AbortOnDropHandle::new(tokio::spawn(dial(client.clone())));
        let permits_max = config.queue_max.clamp(1, Semaphore::MAX_PERMITS);
        Ok(Arc::new(Self {
            client,
            permits: Arc::new(Semaphore::new(permits_max)),
            permits_max,
            deadline: config.deadline(),
            health,
            current,
            _tasks: [watched, said, dialed],
        }))
    }

    /// A client with a connection of its own, not connected.
    pub(super) fn another(&self) -> Client {
        self.client.clone_new()
    }

    /// What handshakes go by; none without TLS.
    pub(super) fn current(&self) -> Option<&Arc<Current>> {
        self.current.as_ref()
    }

    /// Changes each time that Redis came (back).
    pub(super) fn came(&self) -> watch::Receiver<u64> {
        self.health.came.subscribe()
    }

    pub(super) fn answers(&self) -> bool {
        !self.health.away.load(Ordering::Acquire) && self.client.is_connected()
    }

    /// Asks. `bytes` is about what the call weighs.
    pub(super) async fn call<R, F, C>(&self, bytes: usize, call: C) -> Result<R, RegistryError>
    where
        R: Send + 'static,
        F: Future<Output = Result<R, Error>> + Send + 'static,
        C: FnOnce(Client) -> F + Clone,
    {
        // On a cluster what is asked where a key was has not run, and has made the client look where everything is.
        let again = self.health.several.then(|| call.clone());
        let answer = match (self.call_once(bytes, call).await, again) {
            (Err(Failed::Moved), Some(call)) => self.call_once(bytes, call).await,
            (answer, _) => answer,
        };
        answer.map_err(RegistryError::from)
    }

    async fn call_once<R, F, C>(&self, bytes: usize, call: C) -> Result<R, Failed>
    where
        R: Send + 'static,
        F: Future<Output = Result<R, Error>> + Send + 'static,
        C: FnOnce(Client) -> F,
    {
        if self.health.away.load(Ordering::Acquire) {
            return Err(unavailable("missed its last deadlines"));
        }
        // Else the client would keep it until there is a connection.
        if !self.client.is_connected() {
            return Err(unavailable("no connection"));
        }
        let weight = (1 + bytes / CALL_BYTES).min(self.permits_max);
        let permit = Arc::clone(&self.permits).try_acquire_many_owned(u32::try_from(weight).unwrap_or(u32::MAX));
        let Ok(permit) = permit else {
            metrics::counter!("heddle_redis_queue_full_total").increment(1);
            return Err(unavailable("registry.queue_max calls wait already"));
        };
        let mut pending = Pending { call: Some(Box::pin(call(self.client.clone()))), permit: Some(permit) };
        match tokio::time::timeout(self.deadline, pending.answer()).await {
            Ok(Ok(answer)) => {
                self.health.answered();
                Ok(answer)
            }
            Ok(Err(error)) if is_moved(&error) => Err(Failed::Moved),
            Ok(Err(error)) => Err(Failed::Otherwise(error.to_string())),
            Err(_) => {
                self.health.strike();
                Err(unavailable("no answer within registry.deadline"))
            }
        }
    }

    /// Runs a script; the server is sent its text only if it does not know it.
    pub(super) async fn script<R: FromValue + Send + 'static>(
        &self,
        script: &Script,
        key: String,
        args: Vec<fred::types::Value>,
    ) -> Result<R, RegistryError> {
        let script = script.clone();
        let bytes = args.iter().map(|arg| arg.as_bytes().map_or(8, <[u8]>::len)).sum();
        self.call(bytes, async move |client: Client| {
            match client.evalsha(script.sha1().clone(), key.clone(), args.clone()).await {
                Err(error) if error.details().starts_with("NOSCRIPT") => {
                    client.eval(script.lua().cloned().unwrap_or_default(), key, args).await
                }
                answer => answer,
            }
        })
        .await
    }

    pub(super) async fn version(&self) -> Option<String> {
        let info = self.call(0, async |client: Client| client.info::<String>(Some(InfoKind::Server)).await);
        let info = info.await.ok()?;
        let told = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        match told("valkey_version:") {
            Some(version) => Some(format!("valkey {version}")),
            None => told("redis_version:").map(|version| format!("redis {version}")),
        }
    }
}

fn unavailable(why: &str) -> Failed {
    Failed::Otherwise(why.to_owned())
}

/// Why a call got no answer.
enum Failed {
    /// Its key is at another server of the cluster, or on the way there.
    Moved,
    Otherwise(String),
}

impl From<Failed> for RegistryError {
    fn from(failed: Failed) -> Self {
        Self::Unavailable(match failed {
            Failed::Moved => "its key moves to another server".to_owned(),
            Failed::Otherwise(why) => why,
        })
    }
}

/// Not run: the key is elsewhere in the cluster, and the client, which follows nobody, has looked where everything is.
pub(super) fn is_moved(error: &Error) -> bool {
    *error.kind() == ErrorKind::Routing
}

/// A call and its place in the queue. The place is given back when the client has let go of the call, which may be long after everybody
/// else has: a stalled server cannot make it collect more than the queue holds.
struct Pending<R: Send + 'static> {
    call: Option<Call<R>>,
    permit: Option<OwnedSemaphorePermit>,
}

impl<R: Send + 'static> Pending<R> {
    async fn answer(&mut self) -> Result<R, Error> {
        let Some(call) = self.call.as_mut() else { return Err(Error::new_canceled()) };
        let answer = call.await;
        self.call = None;
        answer
    }
}

impl<R: Send + 'static> Drop for Pending<R> {
    fn drop(&mut self) {
        let (Some(call), Some(permit)) = (self.call.take(), self.permit.take()) else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                drop(tokio::time::timeout(ABANDONED, call).await);
                drop(permit);
            });
        }
    }
}

/// Between 100 and 300 ms.
pub(super) async fn pause() {
    tokio::time::sleep(Duration::from_millis(100 + chance() % 200)).await;
}

/// Keeps the client's task alive: it reconnects by itself, but ends when it thinks that it never can.
pub(super) async fn dial(client: Client) {
    loop {
        let task = AbortOnDropHandle::new(client.connect());
        match task.await {
            Ok(Err(error)) => tracing::warn!(%error, "connection to Redis ended, dialing again"),
            Ok(Ok(())) => tracing::debug!("connection to Redis was closed"),
            Err(error) => tracing::error!(%error, "the Redis client failed, dialing again"),
        }
        pause().await;
    }
}

/// Says why there is no connection, each kind of reason once until there is one again, or other certificates.
async fn say(
    mut errors: broadcast::Receiver<(Error, Option<Server>)>,
    mut came: watch::Receiver<u64>,
    current: Option<Arc<Current>>,
) {
    let proof = || current.as_ref().map(|current| current.proof());
    let same = |a: &Option<Arc<Proof>>, b: &Option<Arc<Proof>>| {
        a.as_ref().zip(b.as_ref()).is_none_or(|(a, b)| Arc::ptr_eq(a, b))
    };
    let (mut said, mut known) = (Vec::new(), proof());
    loop {
        match errors.recv().await {
            Ok((error, _)) => {
                let now = proof();
                if came.has_changed().unwrap_or(false) || !same(&known, &now) {
                    came.mark_unchanged();
                    said.clear();
                }
                known = now;
                let tls = known.as_ref().map_or_else(RedisTls::default, |proof| proof.tls.clone());
                let Some(Reason { kind, line }) = tls.explained(&error) else { continue };
                if !said.contains(&kind) {
                    said.push(kind);
                    tracing::warn!("{line}");
                }
            }
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

/// Says when Redis went and came: whoever connected, or missed a deadline, makes every server be asked.
async fn watch_health(client: Client, health: Arc<Health>, deadline: Duration) {
    let mut connected = client.reconnect_rx();
    loop {
        let anew = tokio::select! {
            event = connected.recv() => match event {
                Ok(_) | Err(RecvError::Lagged(_)) => true,
                Err(RecvError::Closed) => return,
            },
            () = health.struck.notified() => false,
        };
        let answer = tokio::time::timeout(deadline * STRIKES, ask(&client)).await;
        if matches!(answer, Ok(Ok(()))) && !health.away.load(Ordering::Acquire) {
            if anew {
                health.back();
            }
            continue;
        }
        health.leave();
        // One question at a time: each write would make the client believe that it has not waited long.
        while health.away.load(Ordering::Acquire) {
            match tokio::time::timeout(ABANDONED, ask(&client)).await {
                Ok(Ok(())) => health.back(),
                Ok(Err(error)) => {
                    tracing::debug!(%error, "Redis is still away");
                    pause().await;
                }
                Err(_) => drop(tokio::time::timeout(ABANDONED, client.force_reconnection()).await),
            }
        }
    }
}

/// Whether all servers answer that have something to say: one, or each primary of a cluster.
async fn ask(client: &Client) -> Result<(), Error> {
    let primaries = client.cached_cluster_state().map(|cluster| cluster.unique_primary_nodes()).unwrap_or_default();
    if primaries.is_empty() {
        return client.ping::<String>(None).await.map(drop);
    }
    for server in primaries {
        client.with_cluster_node(server).ping::<String>(None).await?;
    }
    Ok(())
}
