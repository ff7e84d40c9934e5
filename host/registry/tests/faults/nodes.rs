//! Nodes over one Redis, for the tests of this directory.

use std::sync::Arc;
use std::time::Duration;

use heddle_model::{ConnectionId, DeviceId, NodeId, SystemClock, UserId};
use heddle_registry::{Bus as _, Codec, Redis, RedisBus, RedisConfig, RedisMode, RedisRegistry, Registry as _, Route};
use parking_lot::Mutex;

/// The longest that anything may take.
const LATE: Duration = Duration::from_secs(30);

pub(crate) struct Node {
    pub(crate) redis: Redis,
    pub(crate) registry: RedisRegistry,
    pub(crate) bus: RedisBus<String>,
    pub(crate) got: Arc<Mutex<Vec<String>>>,
}

pub(crate) fn config(url: &str, name: &str) -> RedisConfig {
    RedisConfig {
        lease_ms: 2_000,
        ..RedisConfig::new(url.to_owned(), RedisMode::Standalone, NodeId::new(name).unwrap())
    }
}

impl Node {
    /// A node; not yet connected.
    pub(crate) fn begin(config: RedisConfig) -> Self {
        let got = Arc::new(Mutex::new(Vec::new()));
        let inbox = Arc::clone(&got);
        let redis = Redis::connect(config, Arc::new(SystemClock::new())).unwrap();
        let codec = Codec {
            encode: |text: &String| Some([b"\x01", text.as_bytes()].concat()),
            decode: |bytes| String::from_utf8(bytes.strip_prefix(b"\x01")?.to_vec()).ok(),
        };
        let bus = redis.bus(Arc::new(move |text: &String| inbox.lock().push(text.clone())), codec);
        Self { registry: redis.registry(), bus, redis, got }
    }

    pub(crate) async fn start(config: RedisConfig) -> Self {
        let name = config.node.clone();
        let node = Self::begin(config);
        until("the node is there", async || {
            node.whole() && node.registry.nodes().await.is_ok_and(|nodes| nodes.contains(&name))
        })
        .await;
        node
    }

    pub(crate) fn whole(&self) -> bool {
        self.bus.state().borrow().whole
    }

    pub(crate) async fn connect(&self, name: &str, connection: u64) -> bool {
        self.registry.register(&user(name), ConnectionId(connection), &DeviceId::new("phone").unwrap()).await.is_ok()
    }

    pub(crate) async fn close(&self, name: &str, connection: u64) -> bool {
        self.registry.unregister(&user(name), ConnectionId(connection)).await.is_ok()
    }

    /// Connections of a user as this node sees them; none if Redis is away.
    pub(crate) async fn seen(&self, name: &str) -> Option<Vec<u64>> {
        let routes: Vec<Route> = self.registry.routes(&[user(name)]).await.ok()?.remove(0);
        Some(routes.into_iter().map(|route| route.connection.0).collect())
    }

    pub(crate) async fn send(&self, to: &str, text: &str) -> bool {
        self.bus.send(&NodeId::new(to).unwrap(), Arc::new(text.to_owned())).await.is_ok()
    }
}

pub(crate) fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

pub(crate) async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(LATE, wait).await.is_ok(), "never: {what}");
}
