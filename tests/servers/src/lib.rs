//! Real servers for tests: each starts on a free loopback port in a temporary directory, and ends with the value that stands for it.
//!
//! For tests only; nothing that ships depends on it. Read [`missing`] for what happens where a server is not installed, then [`Redis`].

mod process;
mod redis;
mod resp;

pub use process::missing;
pub use redis::{Redis, RedisCluster, RedisSentinel};
pub use resp::Reply;
