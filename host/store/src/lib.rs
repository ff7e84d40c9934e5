//! The store: archive of every stream, users, contacts, groups, devices, mutes, cursors, catalog, audit; and its implementations on SQLite and Postgres.
//!
//! It keeps what the log tells it and answers questions; it decides nothing, parses no body and knows no socket. The archive of the retained
//! log can be rebuilt from it; everything else lives here only. Read [`Archive`] first, then [`Directory`].

mod cell;
mod excess;
mod fault;
mod kept;
mod layout;
mod port;
mod postgres;
mod row;
mod sqlite;

pub use port::{
    Archive, ArchiveBatch, ArchivedRecord, AuditEntry, Catalog, CatalogBounds, CatalogGeneration, CatalogPlugin,
    CatalogRemoved, Contact, ConversationRow, Cursor, DENIAL_FORGOTTEN_MS, DeadLetter, DeadLetterRow, Denial,
    DenialRows, Denials, DeviceRow, Devices, Directory, Epochs, GroupDelta, GroupLogRow, GroupMember, GroupRow, Groups,
    HistoryAnchor, HistoryPage, HistoryQuery, HistoryRow, Hole, MemberDelta, NODE_FORGOTTEN_MS, NodeReport, NodeRow,
    Nodes, Noted, Rebuild, ReceiptCut, ReceiptKept, ReceiptRow, ReceiptState, Revocation, Store, StoreError,
    StreamPage, StreamPoint, StreamRow, StreamRowRead, StreamSince, Stretch, StretchRows, UNREAD_MAX,
};
pub use postgres::{PostgresConfig, PostgresError, PostgresShards, PostgresStore, PostgresTls};
pub use sqlite::{OpenError, SqliteStore, StoreConfig};
