//! What becomes of registry and bus when Redis is flushed, killed, frozen, or loses messages.

mod lossy;
mod nodes;
mod proxy;
mod server;
mod stalled;
