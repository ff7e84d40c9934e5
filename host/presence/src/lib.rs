//! Who is there. (DELIVERY rule 21.)
//!
//! It takes leased reports from the gateway of its node and, where several nodes are one platform, [`Tidings`] of the others, asks a policy what
//! they mean, keeps timers and watchers, and hands updates to a sink. Every node knows all connections, asks the policy itself and tells the
//! connections that it holds. It deliberately knows no component, no socket, no bus and no store: policy, relations and sink are traits.
//! Nothing that a message depends on is here: presence may be empty, stale or down.
//!
//! Read first: [`Presence`] (the handle), [`PresencePolicy`] (who decides) and [`Tidings`] (what nodes tell each other).

mod config;
mod peers;
mod port;
mod presence;
mod tidings;
mod users;

pub use config::{PresenceConfig, PresenceError};
pub use port::{
    Event, Mark, Observation, PresencePolicy, PresenceSink, Relations, Report, ReportKind, Sighting, Socket, Status,
    Update, Visibility, Visible, relation,
};
pub use presence::{Presence, PresenceFigures};
pub use tidings::{Declared, Said, Tidings, Told, Word};
