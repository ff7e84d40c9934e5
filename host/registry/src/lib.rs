//! The registry (who is connected where) and the bus (node to node): hints only, never the truth.
//!
//! Both may be empty, stale or down: messages then come later, never wrong. This crate knows neither sockets nor records; what travels over
//! the bus is opaque to it. Read [`Registry`] first, then [`Bus`]; the implementation for many nodes begins at [`Redis`].

mod embedded;
mod port;
mod redis;
mod states;

pub use embedded::{EmbeddedBus, EmbeddedRegistry};
pub use port::{Bus, BusError, BusState, Inbox, Registry, RegistryError, Route};
pub use redis::{
    Codec, Redis, RedisBus, RedisConfig, RedisMode, RedisRegistry, RedisSettingError, RedisStates, RedisTls,
};
pub use states::{EmbeddedStates, KeyedStates, Swap, Versioned};
