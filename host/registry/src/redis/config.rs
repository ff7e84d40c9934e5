//! What an operator says of Redis, and what the client is told of it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use fred::types::config::{
    ClusterDiscoveryPolicy, Config, ConnectionConfig, PerformanceConfig, ReconnectPolicy, ServerConfig, TcpConfig,
    UnresponsiveConfig,
};
use fred::types::{Builder, RespVersion};
use heddle_model::{Millis, NodeId};

use super::RedisTls;
use super::current::Current;

/// Room that is left in the client's own queue for its housekeeping: if that finds no room, the client ends.
const HOUSEKEEPING: usize = 1_024;
/// Messages that a listener may be behind before the oldest are lost.
const LISTENER_MESSAGES_MAX: usize = 4_096;
/// Whom a server without passwords takes everybody for, whatever they say.
const OPEN_USER: &str = "default";
const OPEN_PASSWORD: &str = "none";

/// How Redis is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedisMode {
    /// One server.
    Standalone,
    /// Replicas watched by Sentinel.
    Sentinel,
    /// Redis Cluster.
    Cluster,
}

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {wrong}")]
pub struct RedisSettingError {
    pub(super) key: &'static str,
    pub(super) wrong: String,
}

/// What is needed to use Redis.
#[derive(Clone)]
pub struct RedisConfig {
    /// `redis://user:password@host:port/db`; `rediss://` for TLS. More seeds: `?node=host:port`; Sentinel: `?sentinelServiceName=NAME`.
    pub url: String,
    /// How Redis is believed, with `rediss://`.
    pub tls: RedisTls,
    /// What runs there.
    pub mode: RedisMode,
    /// This node.
    pub node: NodeId,
    /// What all keys and channels begin with.
    pub prefix: String,
    /// How long a call may take.
    pub deadline_ms: Millis,
    /// Calls that wait for an answer, and messages that wait to be sent, each; a call counts once for every 4 KiB of it.
    pub queue_max: usize,
    /// Bytes of messages that wait to be sent.
    pub queue_bytes_max: usize,
    /// A node that has not been heard of for so long is dead.
    pub lease_ms: Millis,
    /// What nobody renewed for so long is gone.
    pub routes_ms: Millis,
}

impl fmt::Debug for RedisConfig {
    /// Without the URL: it holds a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig")
            .field("mode", &self.mode)
            .field("node", &self.node)
            .field("prefix", &self.prefix)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

impl RedisConfig {
    /// The defaults.
    #[must_use]
    pub fn new(url: String, mode: RedisMode, node: NodeId) -> Self {
        Self {
            url,
            tls: RedisTls::default(),
            mode,
            node,
            prefix: "heddle".to_owned(),
            deadline_ms: 100,
            queue_max: 4_096,
            queue_bytes_max: 16 << 20,
            lease_ms: 10_000,
            routes_ms: 600_000,
        }
    }

    pub(super) fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline_ms.max(1))
    }

    /// How long a connection may be silent while an answer is due: longer than a deadline, short enough for people.
    pub(super) fn patience(&self) -> Duration {
        (self.deadline() * 5).max(Duration::from_secs(1))
    }

    /// What handshakes go by, where the URL asks for TLS.
    pub(super) fn current(&self) -> Result<Option<Arc<Current>>, RedisSettingError> {
        without_tls(&self.url).map(|_| Current::new(&self.tls)).transpose()
    }

    /// A client, not connected.
    pub(super) fn builder(&self, current: Option<&Arc<Current>>) -> Result<Builder, RedisSettingError> {
        // Of TLS the client would only know the system's authorities.
        let url = without_tls(&self.url).unwrap_or_else(|| self.url.clone());
        let tls = current.map(Current::config).transpose()?;
        let config = match self.mode {
            RedisMode::Standalone => Config::from_url_centralized(&url),
            RedisMode::Sentinel => Config::from_url_sentinel(&url),
            RedisMode::Cluster => Config::from_url_clustered(&url),
        };
        // The client's words may hold the password.
        let wrong = || match self.mode {
            RedisMode::Standalone => "redis://HOST:PORT",
            RedisMode::Sentinel => "redis://SENTINEL:26379?sentinelServiceName=NAME&node=SENTINEL2:26379",
            RedisMode::Cluster => "redis://HOST:PORT?node=HOST2:PORT",
        };
        let mut config = config.map_err(|_| RedisSettingError {
            key: "registry.url",
            wrong: format!("the address of Redis cannot be used: write {}", wrong()),
        })?;
        let torn = |text: &String| text.contains(|letter: char| letter.is_whitespace() || letter.is_control());
        if config.username.iter().chain(&config.password).any(torn) {
            // The client greets in one line of words.
            let wrong = "its user or password has a space, which the client cannot send: choose another".to_owned();
            return Err(RedisSettingError { key: "registry.url", wrong });
        }
        if let ServerConfig::Clustered { policy, .. } = &mut config.server {
            // Else it would ask nobody but those of the URL where the cluster is, though they be the ones that died.
            *policy = ClusterDiscoveryPolicy::UseCache;
        }
        if let ServerConfig::Sentinel { username, password, .. } = &mut config.server
            && password.is_none()
        {
            // Without a login the client says nothing to a Sentinel that took its connection, and for ever begins with the same one, though it
            // stand still. With one it asks, and goes to the next if no answer comes; where none is needed any is right.
            username.get_or_insert_with(|| OPEN_USER.to_owned());
            *password = Some(OPEN_PASSWORD.to_owned());
        }
        // It never waits for the first connection, and messages and answers come on one connection.
        config.fail_fast = false;
        config.version = RespVersion::RESP3;
        config.tls = tls;
        let patience = self.patience();
        let mut builder = Builder::from_config(config);
        builder.set_connection_config(ConnectionConfig {
            connection_timeout: patience,
            internal_command_timeout: patience,
            // What was written is not written again: nobody could tell whether it ran.
            max_command_attempts: 1,
            // Nor does it follow a key that moves within a cluster: on the way it takes an answer of somebody else for its own. It only looks
            // again where everything is, and a call is made again by us.
            max_redirections: 0,
            max_command_buffer_len: self.queue_max + HOUSEKEEPING,
            unresponsive: UnresponsiveConfig { max_timeout: Some(patience), interval: patience / 4 },
            reconnect_on_auth_error: true,
            tcp: TcpConfig { nodelay: Some(true), user_timeout: Some(patience), ..TcpConfig::default() },
            ..ConnectionConfig::default()
        });
        builder.set_performance_config(PerformanceConfig {
            broadcast_channel_capacity: LISTENER_MESSAGES_MAX,
            ..PerformanceConfig::default()
        });
        // Its growing policies cap delay and jitter together, so that at the cap all nodes would come at once; this one spreads them
        // over a second each time.
        let mut policy = ReconnectPolicy::new_constant(0, 100);
        policy.set_jitter(900);
        builder.set_policy(policy);
        Ok(builder)
    }
}

/// A URL that asks for TLS, as the same without.
fn without_tls(url: &str) -> Option<String> {
    let plain = |with: &str, without: &str| url.strip_prefix(with).map(|rest| format!("{without}{rest}"));
    plain("rediss", "redis").or_else(|| plain("valkeys", "valkey"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_that_cannot_be_sent_is_told_before_anything_is_tried_and_none_is_shown() {
        let node = NodeId::new("n1").expect("it is a name");
        let config = |url: &str| RedisConfig::new(url.to_owned(), RedisMode::Standalone, node.clone());
        assert!(config("redis://u:p%2Fw@redis:6379").builder(None).is_ok());
        let torn = config("redis://u:secret%20word@redis:6379");
        let Err(told) = torn.builder(None) else { panic!("it is refused") };
        let told = told.to_string();
        assert!(told.starts_with("registry.url: ") && told.contains("a space") && !told.contains("secret"), "{told}");
        assert!(!format!("{torn:?}").contains("secret"));
    }

    #[test]
    fn a_url_that_asks_for_tls_is_known_by_its_scheme() {
        for (url, wanted) in [
            ("rediss://a:1", Some("redis://a:1")),
            ("rediss-cluster://a:1", Some("redis-cluster://a:1")),
            ("valkeys://a:1", Some("valkey://a:1")),
            ("redis://rediss:1", None),
        ] {
            assert_eq!(without_tls(url).as_deref(), wanted, "{url}");
        }
    }
}
