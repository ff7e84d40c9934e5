//! Which policies decide: chains, generations, failure modes, the state of rate limits.
//!
//! It knows hooks, plugins and their answers; it deliberately knows no socket, no log and no membership (the caller says what a sender
//! may do), and no engine but through `heddle-wasm`. There is no native policy here: what decides in the end is a component, or the closed
//! answer of its hook.
//!
//! Read first: [`Policies`] (the handle) and [`Generation`] (one immutable policy set, with a function per hook).

mod ask;
mod change;
mod component;
mod config;
mod content;
mod engine;
mod error;
mod fanout;
mod generation;
mod load;
mod measure;
mod member;
mod policies;
mod rate;
mod routing;
mod seal;
mod sight;
mod state;

pub use ask::{
    Accepted, Command, MessageView, Outcome, PlanAsk, RateAnswer, RateAsk, Refusal, RefusalCode, RouteAsk, Routed,
    RoutingRights, SortAsk, SortRetry, Sorted,
};
pub use change::{Change, Changed, Request};
pub use component::{Component, Fault, Loader};
pub use config::{PluginRef, PolicyConfig, PolicyDeps, PolicyLimits};
pub use engine::Loaded;
pub use error::{ChangeError, PolicyError, StartError};
pub use generation::{Generation, PolicyInfo};
pub use heddle_store::AuditEntry as AuditRow;
pub use policies::{Policies, PolicyFigures};
pub use seal::Seal;

/// Bits of a byte of [`SortAsk::facts`].
pub mod fact {
    /// Connected, perhaps out of date.
    pub const ONLINE: u8 = 1;
    /// Has muted the conversation.
    pub const MUTED: u8 = 2;
    /// Is mentioned in the message.
    pub const MENTIONED: u8 = 4;
    /// Administers the group.
    pub const ADMIN: u8 = 8;
}
