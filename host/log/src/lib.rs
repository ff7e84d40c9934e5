//! The log: the truth of the platform, and its embedded implementation.
//!
//! It knows partitions, offsets and bytes, message ids as keys, and two cursors. It does not know what a record says, who reads it or what a
//! position is: epochs are the business of whoever joins a log with a store. Read [`Log`] first, then [`EmbeddedLog`].

mod port;

pub use port::{
    AppendError, Appended, Batch, Derived, Identity, Layout, Log, LookupError, Place, ReadError, Stored,
};
