//! What a store promises: small traits, one per subject, all on one backend. One contract suite runs on every implementation.

use std::sync::Arc;

mod archive;
mod catalog;
mod denials;
mod devices;
mod directory;
mod epochs;
mod error;
mod groups;
mod nodes;
mod rebuild;
mod rows;

pub use archive::{
    Archive, ConversationRow, HistoryAnchor, HistoryPage, HistoryQuery, HistoryRow, ReceiptState, StreamPage,
    StreamPoint, StreamRowRead, StreamSince, UNREAD_MAX,
};
pub use catalog::{AuditEntry, Catalog, CatalogBounds, CatalogGeneration, CatalogPlugin, CatalogRemoved};
pub use denials::{DENIAL_FORGOTTEN_MS, Denial, DenialRows, Denials, Noted, Revocation};
pub use devices::{DeviceRow, Devices};
pub use directory::{Contact, Directory};
pub use epochs::{Epochs, Hole};
pub use error::StoreError;
pub use groups::{GroupMember, GroupRow, Groups};
pub use nodes::{NODE_FORGOTTEN_MS, NodeReport, NodeRow, Nodes};
pub use rebuild::{Rebuild, ReceiptCut, ReceiptKept, Stretch, StretchRows};
pub use rows::{
    ArchiveBatch, ArchivedRecord, Cursor, DeadLetter, DeadLetterRow, GroupDelta, GroupLogRow, MemberDelta, ReceiptRow,
    StreamRow,
};

/// All of a store.
#[derive(Clone)]
pub struct Store {
    /// Streams and history.
    pub archive: Arc<dyn Archive>,
    /// Devices and reads.
    pub devices: Arc<dyn Devices>,
    /// Users, contacts, mutes.
    pub directory: Arc<dyn Directory>,
    /// Groups.
    pub groups: Arc<dyn Groups>,
    /// Blocks and revocations.
    pub denials: Arc<dyn DenialRows>,
    /// Plugins and generations.
    pub catalog: Arc<dyn Catalog>,
    /// Lives of the log.
    pub epochs: Arc<dyn Epochs>,
    /// The nodes that share it.
    pub nodes: Arc<dyn Nodes>,
    /// Repairs of the archive.
    pub rebuild: Arc<dyn Rebuild>,
}
