//! What becomes of registry and bus when Redis is flushed, killed, frozen, loses messages, or when of a cluster one server is or does.

mod cluster;
mod lossy;
mod nodes;
mod proxy;
mod sentinel;
mod server;
mod stalled;
