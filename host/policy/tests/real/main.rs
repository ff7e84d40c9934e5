//! Real components in the host's chains, a catalog in SQLite.

mod changes;
mod cluster;
mod components;
mod disk;
mod kept;
mod trials;
mod wild;
mod world;
