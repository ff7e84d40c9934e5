//! Delivery: from an accepted message to every device that should have it, in order, whole.
//!
//! It decides, appends, derives, archives, pushes and resumes; the rules are numbered in its comments as `DELIVERY n`. It does not know sockets,
//! frames or JSON, nor that policies are components; it names no concrete backend. Read [`Delivery`] first (what a gateway calls), then
//! [`Session`] (one connection's view of its user's stream).

mod archiver;
mod begin;
mod config;
mod crowd;
mod delivery;
mod denials;
mod drain;
mod event;
mod expand;
mod explain;
mod groups;
mod history;
mod hub;
mod judge;
mod late;
mod membership;
mod neighbours;
mod numbering;
mod pace;
mod partition;
mod people;
mod push;
mod rebuild;
mod receipts;
mod repartition;
mod replay;
mod rows;
mod send;
mod session;
mod share;
mod stream;
mod submission;
mod tail;
mod wire;
mod worker;

pub use config::DeliveryConfig;
pub use delivery::{BusMaker, Delivery, DeliveryError, Owned, Ports};
pub use event::{Event, Flags, Variant};
pub use explain::Explained;
pub use groups::GroupView;
pub use history::{ConversationView, HistoryView, Status, ViewedMessage};
pub use hub::{Kick, NodeMessage};
pub use membership::GroupError;
pub use numbering::Numbering;
pub use rebuild::{Progress, RebuildDeps, RebuildError, Rebuilt, Tally, rebuild};
pub use receipts::ReadError;
pub use replay::{ReplayError, ReplayWish, Replayed};
pub use session::{AckError, Gap, OpenError, Opened, Opening, Outgoing, Session, SessionEnd};
pub use submission::{Accepted, RejectCode, Rejected, SendOutcome, Submission, Submitted};
