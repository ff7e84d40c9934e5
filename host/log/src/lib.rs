//! The log: the truth of the platform, and its embedded implementation.
//!
//! It knows partitions, offsets and bytes, message ids as keys, and two cursors. It does not know what a record says, who reads it or what a
//! position is: epochs are the business of whoever joins a log with a store. Read [`Log`] first, then [`EmbeddedLog`].

mod cache;
mod commit;
mod config;
mod directory;
mod disk;
mod embedded;
mod error;
mod frame;
mod ids;
mod kafka;
mod keeper;
mod memory;
mod port;
mod read;
mod reader;
mod recent;
mod recover;
mod scan;
mod segment;
mod sidecar;
mod slots;
mod spare;
mod state;

pub use config::LogConfig;
pub use disk::{Disk, SystemDisk};
pub use embedded::EmbeddedLog;
pub use error::OpenError;
pub use kafka::{KafkaConfig, KafkaFileError, KafkaLog, KafkaLogin, KafkaOpenError, KafkaReader, KafkaSasl, KafkaTls};
pub use memory::MemoryLog;
pub use port::{
    AppendError, Appended, Batch, Derived, Identity, Layout, Log, LookupError, Place, ReadError, Repeat, Stored,
};
pub use reader::{LogEntries, LogEntry, LogReader};
