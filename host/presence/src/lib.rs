//! Who is there: the owner's side of presence. (DELIVERY rule 21.)
//!
//! It runs on the node that owns a user's home partition: takes leased reports from gateways, asks a policy what they mean, keeps timers
//! and watchers, and hands updates to a sink. It deliberately knows no component, no socket and no store: policy, relations and sink are traits.
//! Nothing that a message depends on is here: presence may be empty, stale or down.
//!
//! Read first: [`Presence`] (the handle) and [`PresencePolicy`] (who decides).

mod config;
mod port;
mod presence;
mod users;

pub use config::{PresenceConfig, PresenceError};
pub use port::{
    Event, Observation, PresencePolicy, PresenceSink, Relations, Report, ReportKind, Sighting, Socket, Status, Update,
    Visibility, Visible, relation,
};
pub use presence::{Presence, PresenceFigures};
