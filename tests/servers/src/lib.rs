//! Real servers for tests: each starts on a free loopback port in a temporary directory, and ends with the value that stands for it.
//!
//! It starts what the machine has and installs nothing (`deploy/setup.sh test` does). For tests only; nothing that ships depends on it. Read
//! [`or_skip`] and [`missing`] for what happens where a server is not installed, then [`Postgres`] and [`Redis`].

mod cluster;
mod forgetful;
mod guard;
mod kafka;
mod postgres;
mod process;
mod redis;
mod resp;

use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};

pub use cluster::RedisCluster;
pub use forgetful::Forgetful;
pub use kafka::Kafka;
pub use postgres::Postgres;
pub use process::missing;
pub use redis::{Redis, RedisSentinel};
pub use resp::Reply;

/// A server that is not there, or does not start: why, and what mends it.
#[derive(Debug, Clone)]
pub struct Missing(String);

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Missing {}

/// What was started. Without it the test is skipped, which is printed and counted; under `CI=true` it fails.
///
/// # Panics
/// If the server is missing under `CI=true`.
#[must_use]
pub fn or_skip<T>(started: Result<T, Missing>) -> Option<T> {
    static SKIPPED: AtomicUsize = AtomicUsize::new(0);
    let missing = match started {
        Ok(started) => return Some(started),
        Err(missing) => missing,
    };
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{missing}");
    let count = SKIPPED.fetch_add(1, Ordering::SeqCst) + 1;
    say(&format!("skipped, {count} so far: {missing}"));
    None
}

/// Prints a line that a test's captured output does not hide.
pub fn say(line: &str) {
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    // Nobody is told if even that fails.
    let _ = writeln!(std::io::stderr(), "{name}: {line}");
}
