//! The gateway from outside: bind, serve, drain.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::auth::Auth;
use crate::config::{GatewayConfig, GatewayDeps, Reloaded};
use crate::core::{Core, refuses};
use crate::error::GatewayError;
use crate::listener::{Door, accept};
use crate::load::Load;
use crate::{admin, rest};

/// Two bound listeners and what stands behind them.
pub struct Gateway {
    core: Arc<Core>,
    clients: Option<TcpListener>,
    operators: Option<TcpListener>,
    client_address: Option<SocketAddr>,
    admin_address: SocketAddr,
    stop_admin: CancellationToken,
}

/// How a drain went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Connections when it began.
    pub connections: u64,
    /// Those that were still open when its time was over.
    pub left: u64,
}

impl Gateway {
    /// Takes both addresses. Nothing is accepted before [`serve`](Self::serve).
    ///
    /// # Errors
    /// An address is taken, or a key verifies nothing.
    pub async fn bind(config: GatewayConfig, deps: GatewayDeps) -> Result<Self, GatewayError> {
        let auth = Auth::new(config.auth.clone(), Arc::clone(&deps.clock), refuses(&deps), None)?;
        let clients = match config.listen {
            Some(address) => Some(listen("gateway.listen", address).await?),
            None => None,
        };
        let (clients, client_address) = clients.unzip();
        let (operators, admin_address) = listen("admin.listen", config.admin_listen).await?;
        config.warnings(deps.clock.now()).iter().for_each(|warning| tracing::warn!("{warning}"));
        let core = Arc::new(Core::new(config, deps, auth));
        let stop_admin = CancellationToken::new();
        Ok(Self { core, clients, operators: Some(operators), client_address, admin_address, stop_admin })
    }

    /// Where clients connect, if they do.
    #[must_use]
    pub fn client_address(&self) -> Option<SocketAddr> {
        self.client_address
    }

    /// Where operators connect.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// What the listeners serve with, by their section of the configuration: the server's own certificate, in DER.
    #[must_use]
    pub fn certificates(&self) -> Vec<(&'static str, Vec<u8>)> {
        let config = self.core.config();
        config.certificates().into_iter().map(|(section, it)| (section, it.leaf().to_vec())).collect()
    }

    /// How busy it is, now and later.
    #[must_use]
    pub fn load(&self) -> Load {
        Load { core: Arc::clone(&self.core), clients: self.client_address, admin: self.admin_address }
    }

    /// Starts both accept loops and returns. A second call does nothing.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn serve(&mut self) {
        if let Some(clients) = self.clients.take() {
            let core = Arc::clone(&self.core);
            let (router, stop) = (rest::router(Arc::clone(&core)), core.draining.clone());
            tokio::spawn(accept(core, clients, router, Door::Clients, stop));
        }
        if let Some(operators) = self.operators.take() {
            let core = Arc::clone(&self.core);
            let router = admin::router(Arc::clone(&core), self.client_address);
            tokio::spawn(accept(core, operators, router, Door::Admin, self.stop_admin.clone()));
        }
    }

    /// Reads the configuration again, as `POST /config/reload` does. `who`: for the audit.
    ///
    /// # Errors
    /// In words for the operator; nothing has changed.
    pub async fn reload(&self, who: &str) -> Result<Reloaded, String> {
        self.core.reload(who).await
    }

    /// Takes nothing new, says so in `/readyz`, closes connections one after another with 4001, and waits for them, at most `drain_ms`.
    /// The admin listener goes on until [`stop`](Self::stop).
    pub async fn drain(&self) -> Drained {
        crate::drain::drain(&self.core).await
    }

    /// Closes the admin listener too.
    pub fn stop(&self) {
        self.stop_admin.cancel();
    }
}

async fn listen(key: &'static str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), GatewayError> {
    let failed = |source| GatewayError::Listen { key, address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}
