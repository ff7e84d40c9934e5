//! Which policies decide: chains, generations, failure modes, the state of rate limits.
//!
//! It knows hooks, plugins and their answers; it deliberately knows no socket, no log and no membership (the caller says what a sender
//! may do), and no engine but through `heddle-wasm`. There is no native policy here: what decides in the end is a component, or the closed
//! answer of its hook.
//!
//! Read first: [`Policies`] (the handle) and [`Generation`] (one immutable policy set, with a function per hook).

mod arm;
mod ask;
mod audit;
mod behind;
mod bounds;
mod call;
mod change;
mod cluster;
mod component;
mod config;
mod content;
mod edit;
mod engine;
mod error;
mod failures;
mod fanout;
mod files;
mod floor;
mod generation;
mod guard;
mod health;
mod load;
mod measure;
mod member;
mod meter;
mod older;
mod policies;
mod rate;
mod record;
mod redact;
mod replay;
mod reuse;
mod routing;
mod seal;
mod shadow;
mod shared;
mod sight;
mod state;
mod tap;
mod together;
mod watch;

pub use arm::ArmTally;
pub use ask::{
    Accepted, Command, MessageView, Outcome, PlanAsk, RateAnswer, RateAsk, Refusal, RefusalCode, RouteAsk, Routed,
    RoutingRights, SortAsk, SortRetry, Sorted,
};
pub use call::{Answer, Call, SeenMessage};
pub use change::{Change, Changed, Request};
pub use cluster::{Cluster, Control, Cut};
pub use component::{Component, Fault, Loader};
pub use config::{PluginRef, PolicyConfig, PolicyDeps, PolicyLimits, TrialRef, WatchConfig};
pub use content::TrialMode;
pub use engine::Loaded;
pub use error::{ChangeError, PolicyError, StartError};
pub use files::Mirror;
pub use generation::{Generation, PolicyInfo, Standing, TrialReport};
pub use health::Tally;
pub use heddle_store::AuditEntry as AuditRow;
pub use older::OlderNumbers;
pub use policies::{Policies, PolicyFigures};
pub use record::{RecordConfig, Recorded};
pub use redact::Redaction;
pub use replay::{Otherwise, Replayed, Succession, replay};
pub use seal::Seal;
pub use shadow::{Difference, ShadowReport};

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
