//! The registry (who is connected where) and the bus (node to node): hints only, never the truth.
//!
//! Both may be empty, stale or down: messages then come later, never wrong. This crate knows neither sockets nor records; what travels over
//! the bus is opaque to it. Read [`Registry`] first, then [`Bus`].

mod embedded;
mod port;

pub use embedded::{EmbeddedBus, EmbeddedRegistry, Inbox};
pub use port::{Bus, BusError, Registry, RegistryError, Route};
