//! Real components in the host's chains, a catalog in SQLite.

mod at_once;
mod changes;
mod cluster;
mod components;
mod disk;
mod kept;
mod nodes;
mod trials;
mod wild;
mod world;
