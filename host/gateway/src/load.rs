//! How busy the gateway is, for whoever reports it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::core::Core;

/// What others may see of a gateway. It keeps the gateway's parts alive.
#[derive(Clone)]
pub struct Load {
    pub(crate) core: Arc<Core>,
    pub(crate) clients: Option<SocketAddr>,
    pub(crate) admin: SocketAddr,
}

impl Load {
    /// Open connections.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.core.open.load(Ordering::Relaxed)
    }

    /// It takes nothing new any more.
    #[must_use]
    pub fn draining(&self) -> bool {
        self.core.draining.is_cancelled()
    }

    /// What `/readyz` says of the parts below.
    ///
    /// # Errors
    /// Why it is not ready.
    pub fn ready(&self) -> Result<(), String> {
        (self.core.deps.readiness)()
    }

    /// Where clients connect, if they do.
    #[must_use]
    pub fn client_address(&self) -> Option<SocketAddr> {
        self.clients
    }

    /// Where operators do.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }
}
