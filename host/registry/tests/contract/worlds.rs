//! Where the rules are run: nodes over one implementation.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use heddle_model::{Clock, ConnectionId, DeviceId, ManualClock, NodeId, SystemClock, UserId};
use heddle_registry::{
    Bus, Codec, EmbeddedBus, EmbeddedRegistry, EmbeddedStates, KeyedStates, Redis, RedisConfig, RedisMode, Registry,
    Route,
};
use heddle_test_servers as servers;
use parking_lot::Mutex;

/// The longest that anything may take; what is late by this much does not come.
const LATE: Duration = Duration::from_secs(20);

/// How long a server may take to answer.
pub(crate) const DEADLINE_MS: u64 = 2_000;

/// One node: its ports, and what the bus brought it.
pub(crate) struct Node {
    pub(crate) name: NodeId,
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) bus: Arc<dyn Bus<String>>,
    pub(crate) states: Arc<dyn KeyedStates>,
    pub(crate) got: Arc<Mutex<Vec<String>>>,
}

impl Node {
    pub(crate) async fn connect(&self, name: &str, connection: u64, on: &str) {
        self.registry.register(&user(name), ConnectionId(connection), &device(on)).await.unwrap();
    }

    pub(crate) async fn routes(&self, name: &str) -> Vec<Route> {
        self.registry.routes(&[user(name)]).await.unwrap().remove(0)
    }

    pub(crate) fn route(&self, connection: u64, on: &str) -> Route {
        Route { node: self.name.clone(), connection: ConnectionId(connection), device: device(on) }
    }
}

/// What nodes stand on.
pub(crate) struct World {
    ground: Ground,
    servers: Servers,
}

enum Servers {
    None,
    One(servers::Redis),
    Cluster(servers::RedisCluster),
    Sentinel(Box<servers::RedisSentinel>),
}

/// How servers can be away.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Outage {
    /// Killed, and started again without what they held.
    Dead,
    /// They keep their connections, and say nothing.
    Frozen,
}

enum Ground {
    Embedded {
        registry: EmbeddedRegistry,
        bus: EmbeddedBus<String>,
        states: Arc<EmbeddedStates>,
        clock: Arc<ManualClock>,
    },
    Redis {
        url: String,
        mode: RedisMode,
    },
}

impl World {
    pub(crate) async fn node(&self, name: &str) -> Node {
        let (name, got) = (NodeId::new(name).unwrap(), Arc::new(Mutex::new(Vec::new())));
        let inbox = Arc::clone(&got);
        let inbox = Arc::new(move |message: &String| inbox.lock().push(message.clone()));
        let node = match &self.ground {
            Ground::Embedded { registry, bus, states, .. } => Node {
                registry: Arc::new(registry.beside(name.clone())),
                bus: Arc::new(bus.beside(name.clone(), inbox)),
                states: Arc::clone(states) as Arc<dyn KeyedStates>,
                name,
                got,
            },
            Ground::Redis { url, mode } => {
                let config = RedisConfig {
                    lease_ms: 1_500,
                    deadline_ms: DEADLINE_MS,
                    ..RedisConfig::new(url.clone(), *mode, name.clone())
                };
                let redis = Redis::connect(config, Arc::new(SystemClock::new())).unwrap();
                let bus = redis.bus(inbox, codec());
                Node {
                    registry: Arc::new(redis.registry()),
                    bus: Arc::new(bus),
                    states: Arc::new(redis.states()),
                    name,
                    got,
                }
            }
        };
        until("a node is there", async || {
            node.registry.nodes().await.is_ok_and(|nodes| nodes.contains(&node.name)) && node.bus.state().borrow().whole
        })
        .await;
        node
    }

    /// Ends a node without a word, as a crash does.
    pub(crate) async fn kill(&self, node: Node) {
        if let Ground::Embedded { .. } = &self.ground {
            // Where all is one process, nobody dies alone; this is what the others would see.
            node.registry.leave().await;
        }
        drop(node);
    }

    /// All that can be away is away.
    pub(crate) fn broken(&mut self, outage: Outage) {
        for server in self.servers.all() {
            match outage {
                Outage::Dead => server.kill(),
                Outage::Frozen => server.freeze(),
            }
        }
    }

    /// It is back.
    pub(crate) async fn mended(&mut self, outage: Outage) {
        for server in self.servers.all() {
            match outage {
                Outage::Dead => server.restart().await,
                Outage::Frozen => server.thaw(),
            }
        }
    }

    /// Lets time pass until something holds.
    pub(crate) async fn pass(&self, what: &str, step_ms: u64, holds: impl AsyncFn() -> bool) {
        if let Ground::Embedded { clock, .. } = &self.ground {
            clock.advance(step_ms);
        }
        until(what, holds).await;
    }
}

impl Servers {
    /// Those that hold something.
    fn all(&mut self) -> Vec<&mut servers::Redis> {
        match self {
            Self::None => Vec::new(),
            Self::One(server) => vec![server],
            Self::Cluster(cluster) => cluster.servers.iter_mut().collect(),
            Self::Sentinel(world) => vec![&mut world.primary, &mut world.replica],
        }
    }
}

pub(crate) async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(LATE, wait).await.is_ok(), "never: {what}");
}

pub(crate) fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

pub(crate) fn device(name: &str) -> DeviceId {
    DeviceId::new(name).unwrap()
}

fn codec() -> Codec<String> {
    Codec {
        encode: |text| Some([b"\x01", text.as_bytes()].concat()),
        decode: |bytes| String::from_utf8(bytes.strip_prefix(b"\x01")?.to_vec()).ok(),
    }
}

pub(crate) async fn embedded() -> Option<World> {
    let clock = Arc::new(ManualClock::at(1_000_000));
    let states = EmbeddedStates::new(Arc::clone(&clock) as Arc<dyn Clock>, NonZeroUsize::new(10_000).unwrap());
    let registry = EmbeddedRegistry::new(NodeId::new("first").unwrap());
    registry.leave().await;
    let bus = EmbeddedBus::new(NodeId::new("first").unwrap(), Arc::new(|_: &String| {}));
    let ground = Ground::Embedded { registry, bus, states: Arc::new(states), clock };
    Some(World { ground, servers: Servers::None })
}

pub(crate) async fn redis() -> Option<World> {
    let server = servers::Redis::start().await?;
    tell(&server.ask(&["INFO", "server"]).await);
    let ground = Ground::Redis { url: server.url(), mode: RedisMode::Standalone };
    Some(World { ground, servers: Servers::One(server) })
}

pub(crate) async fn redis_cluster() -> Option<World> {
    let cluster = servers::RedisCluster::start().await?;
    let ground = Ground::Redis { url: cluster.url(), mode: RedisMode::Cluster };
    Some(World { ground, servers: Servers::Cluster(cluster) })
}

pub(crate) async fn redis_sentinel() -> Option<World> {
    let sentinel = servers::RedisSentinel::start().await?;
    let ground = Ground::Redis { url: sentinel.url(), mode: RedisMode::Sentinel };
    Some(World { ground, servers: Servers::Sentinel(Box::new(sentinel)) })
}

/// The version as the server tells it.
#[allow(clippy::print_stdout, reason = "a run says what it ran on")]
fn tell(info: &servers::Reply) {
    let version = info.text().lines().find(|line| line.starts_with("redis_version:"));
    println!("server: {}", version.expect("a server tells its version"));
}
