//! Terminates clients: WebSocket, REST and the admin listener; tokens, limits, close codes, drain.
//!
//! It turns frames and requests into calls of `heddle-delivery`, and what delivery says into frames. It deliberately keeps no message, no
//! position and no membership: what a connection has here dies with it. It names no backend and decides nothing that a policy decides.
//!
//! Read first: [`Gateway`] (bind, serve, drain) and [`GatewayConfig`] (every limit, by name).

mod admin;
mod auth;
mod config;
mod connection;
mod core;
mod drain;
mod encode;
mod error;
mod figures;
mod gateway;
mod limits;
mod listener;
mod load;
mod proxy;
mod proxy_protocol;
mod rest;
mod role;
mod stream;
mod tls;
mod upgrade;

pub use auth::{AuthConfig, AuthKey, JwksConfig, mint};
pub use config::{DevConfig, GatewayConfig, GatewayDeps, PluginLog, Readiness, Reload, Reloaded, RenderMetrics, Roll};
pub use error::GatewayError;
pub use gateway::{Drained, Gateway};
pub use load::Load;
pub use proxy::Network;
pub use role::Role;
pub use tls::{Certificate, CertificateError, authorities_until};
