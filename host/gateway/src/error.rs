//! Why the gateway did not start. All are for the operator.

use std::net::SocketAddr;

/// Why the gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The address is taken, or not ours.
    #[error("cannot listen on {address} ({key}): {source}; stop what listens there or choose another address")]
    Listen {
        /// The key's path in the configuration.
        key: &'static str,
        /// The address as configured.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not an address, nor a block of them.
    #[error("gateway.trusted_proxies has {value:?}, give addresses or blocks, as 10.0.0.0/8")]
    Network {
        /// As configured.
        value: String,
    },
    /// A key that verifies nothing.
    #[error("auth key {name} cannot be used: {reason}")]
    Key {
        /// Which key.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nobody could connect.
    #[error("auth has no key, set auth.secret, auth.keys or auth.jwks_url")]
    NoKeys,
}
