//! Real components in the host's chains, a catalog in SQLite.

mod changes;
mod components;
mod trials;
mod world;
