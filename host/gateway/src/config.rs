//! Limits and times of the gateway, and what it stands on.

use std::net::SocketAddr;
use std::sync::Arc;

use heddle_delivery::Delivery;
use heddle_model::{Clock, Millis, NodeId};
use heddle_policy::Policies;
use heddle_store::{NodeRow, StoreError};

use crate::auth::AuthConfig;
use crate::proxy::Network;
use crate::tls::Certificate;

/// Everything that an operator may set. Times in milliseconds.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// Where clients connect (`gateway.listen`); port 0 takes a free one. None: this node only works on the log.
    pub listen: Option<SocketAddr>,
    /// Where operators connect (`admin.listen`); port 0 takes a free one.
    pub admin_listen: SocketAddr,
    /// What clients get TLS with; without it they get none.
    pub tls: Option<Certificate>,
    /// What operators get TLS with.
    pub admin_tls: Option<Certificate>,
    /// TLS handshakes under way at once on each listener; others wait for their turn.
    pub handshakes_max: usize,
    /// Who is who.
    pub auth: AuthConfig,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Network>,
    /// Those proxies begin each connection of a client with a PROXY header.
    pub proxy_protocol: bool,
    /// Origins of pages that may call REST.
    pub allowed_origins: Vec<String>,
    /// Sockets open at once, before and after their upgrade; beyond it the accept loop waits.
    pub sockets_max: usize,
    /// Sockets open at once from one address that is no trusted proxy; one more is closed at once.
    pub sockets_per_ip_max: u32,
    /// WebSocket connections of one address; one more is refused with 429.
    pub connections_per_ip_max: u32,
    /// Devices of one user that are connected; one more is closed with 4403.
    pub connections_per_user_max: u32,
    /// Sockets without a token before the upgrade (`auth.first_frame`) that still owe their `hello`.
    pub anonymous_max: usize,
    /// Loopback addresses have no limit by address: for development only.
    pub loopback_exempt: bool,
    /// From a socket's acceptance to its `hello`.
    pub hello_ms: u64,
    /// Between two pings of the server.
    pub heartbeat_ms: u64,
    /// That one write may take before the client is slow.
    pub write_timeout_ms: u64,
    /// That a REST call may take, its body included.
    pub rest_timeout_ms: u64,
    /// That a call of an operator may take: what is deployed may have to be compiled.
    pub admin_timeout_ms: u64,
    /// Frames that a connection may send a second, on average; acknowledgements that move on are not counted.
    pub frames_per_second_max: u32,
    /// Frames that a connection may send at once.
    pub frames_burst_max: u32,
    /// Sends of one connection that are not durable yet; beyond it nothing is read from the socket.
    pub appending_max: usize,
    /// Conversations of one connection with a send whose outcome is unknown; one more closes it with 4003.
    pub unsettled_max: usize,
    /// Typing indicators that one connection has on; the oldest ends early.
    pub typing_max: usize,
    /// After which a typing indicator ends by itself.
    pub typing_ms: u64,
    /// Over which a drain spreads its closes.
    pub drain_pace_ms: u64,
    /// The longest delay before a reconnect that a drain asks for.
    pub drain_reconnect_ms: u64,
    /// That a drain waits for connections to end, pace included.
    pub drain_ms: u64,
    /// Set in development: the page `/try` gets tokens.
    pub dev: Option<DevConfig>,
}

/// What only `heddle dev` has.
#[derive(Debug, Clone)]
pub struct DevConfig {
    /// The published development secret, with which `/try/tokens` signs.
    pub secret: String,
    /// Users whose tokens `/try/tokens` gives when it is not asked for others.
    pub users: Vec<String>,
    /// How long those tokens live.
    pub token_life_ms: u64,
}

impl GatewayConfig {
    /// Defaults, for these addresses and keys.
    #[must_use]
    pub fn new(listen: SocketAddr, admin_listen: SocketAddr, auth: AuthConfig) -> Self {
        Self {
            listen: Some(listen),
            admin_listen,
            tls: None,
            admin_tls: None,
            handshakes_max: 1_024,
            auth,
            trusted_proxies: Vec::new(),
            proxy_protocol: false,
            allowed_origins: Vec::new(),
            sockets_max: 19_000,
            sockets_per_ip_max: 64,
            connections_per_ip_max: 10,
            connections_per_user_max: 5,
            anonymous_max: 256,
            loopback_exempt: false,
            hello_ms: heddle_protocol::limits::HELLO_DEADLINE_MS,
            heartbeat_ms: 30_000,
            write_timeout_ms: 10_000,
            rest_timeout_ms: 30_000,
            admin_timeout_ms: 330_000,
            frames_per_second_max: 1_000,
            frames_burst_max: 2_000,
            appending_max: 256,
            unsettled_max: 64,
            typing_max: 64,
            typing_ms: 5_000,
            drain_pace_ms: 5_000,
            drain_reconnect_ms: 5_000,
            drain_ms: 15_000,
            dev: None,
        }
    }

    /// The certificates in use, by the section of the configuration that names them.
    #[must_use]
    pub fn certificates(&self) -> Vec<(&'static str, &Certificate)> {
        let both = [("gateway", &self.tls), ("admin", &self.admin_tls)];
        both.into_iter().filter_map(|(section, tls)| Some((section, tls.as_ref()?))).collect()
    }

    /// What will not go well for long.
    #[must_use]
    pub fn warnings(&self, now: Millis) -> Vec<String> {
        let ends = |(section, certificate): (&str, &Certificate)| {
            Some(format!("{section}.tls_certificate: {}", certificate.ends_soon(now)?))
        };
        self.certificates().into_iter().filter_map(ends).collect()
    }
}

/// Text for `/metrics`, in Prometheus' format.
pub type RenderMetrics = Arc<dyn Fn() -> String + Send + Sync>;
/// Whether the node's backends serve; an error says which does not and why.
pub type Readiness = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;
/// The newest lines that plugins logged, for `/policies/log`.
pub type PluginLog = Arc<dyn Fn() -> serde_json::Value + Send + Sync>;

/// What reading the configuration again led to, a line a key.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Reloaded {
    /// Took effect.
    pub applied: Vec<String>,
    /// Needs a restart.
    pub waiting: Vec<String>,
    /// Serves, and will not for long.
    pub warnings: Vec<String>,
}

/// Who is there: this node as it is, the others as they said last.
pub type Roll =
    Arc<dyn Fn() -> std::pin::Pin<Box<dyn Future<Output = Result<Vec<NodeRow>, StoreError>> + Send>> + Send + Sync>;

/// Reads the configuration again: the gateway's, and what else differs. The error is for the operator.
pub type Reload = Arc<dyn Fn() -> Result<(GatewayConfig, Reloaded), String> + Send + Sync>;

/// What the gateway stands on.
#[derive(Clone)]
pub struct GatewayDeps {
    /// Streams, sends, groups.
    pub delivery: Delivery,
    /// Who decides.
    pub policies: Policies,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// This node, as presence and registry name it.
    pub node: NodeId,
    /// What `/metrics` answers. Install the recorder before [`Gateway::bind`](crate::Gateway::bind).
    pub metrics: RenderMetrics,
    /// What `/readyz` asks.
    pub readiness: Readiness,
    /// What `/policies/log` answers.
    pub plugin_log: PluginLog,
    /// What `/nodes` answers.
    pub nodes: Roll,
    /// What `/config/reload` does.
    pub reload: Reload,
    /// The build, for `/version`.
    pub version: String,
}
