//! Redis: one server, a pair under Sentinel.

use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use crate::process::{Process, START_MAX, free_port};
use crate::resp::{Reply, ask};

/// How often a condition is looked at.
pub(crate) const LOOK: Duration = Duration::from_millis(20);
/// Ports are taken by others now and then.
const TRIES: usize = 5;

/// One server. Nothing of it is kept: it starts empty each time.
#[derive(Debug)]
pub struct Redis {
    process: Option<Process>,
    dir: TempDir,
    port: u16,
    args: Vec<String>,
}

impl Redis {
    /// Starts one; none if the program is missing here. (See [`crate::missing`].)
    pub async fn start() -> Option<Self> {
        if crate::missing("redis-server", "redis-server") {
            return None;
        }
        Some(Self::with(&[]).await)
    }

    pub(crate) async fn with(args: &[String]) -> Self {
        for _ in 0..TRIES {
            let dir = TempDir::with_prefix("heddle-redis-").expect("there is a temporary directory");
            let mut server = Self { process: None, dir, port: free_port(), args: args.to_vec() };
            if server.launch().await {
                return server;
            }
        }
        panic!("redis-server does not start");
    }

    async fn launch(&mut self) -> bool {
        let port = self.port.to_string();
        let fixed =
            ["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--protected-mode", "no"];
        let mut args: Vec<String> = fixed.iter().map(|arg| (*arg).to_owned()).collect();
        args.extend(["--dir".to_owned(), self.dir.path().display().to_string()]);
        args.extend(self.args.iter().cloned());
        let mut process = Process::start("redis-server", &args, self.dir.path());
        let ready = async {
            while !process.ended() {
                if matches!(ask(self.port, &["PING"]).await, Ok(Reply::Text(pong)) if pong == "PONG") {
                    return true;
                }
                sleep(LOOK).await;
            }
            false
        };
        let ready = timeout(START_MAX, ready).await.unwrap_or(false);
        self.process = ready.then_some(process);
        ready
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// For a client.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Sends a command.
    ///
    /// # Panics
    /// The server does not answer.
    pub async fn ask(&self, words: &[&str]) -> Reply {
        ask(self.port, words).await.expect("the server answers")
    }

    /// Kills it, as a crash would.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts it again, empty, on the same port.
    ///
    /// # Panics
    /// It does not start.
    pub async fn restart(&mut self) {
        self.kill();
        assert!(self.launch().await, "redis-server starts again on port {}", self.port);
    }

    /// Stops its time: connections stay, nothing answers.
    ///
    /// # Panics
    /// It does not run.
    pub fn freeze(&self) {
        self.process.as_ref().expect("the server runs").signal(Signal::STOP);
    }

    /// Lets its time go on.
    ///
    /// # Panics
    /// It does not run.
    pub fn thaw(&self) {
        self.process.as_ref().expect("the server runs").signal(Signal::CONT);
    }
}

/// A primary, its replica, and Sentinels that watch them.
#[derive(Debug)]
pub struct RedisSentinel {
    /// The primary of the beginning.
    pub primary: Redis,
    /// Its replica.
    pub replica: Redis,
    /// In the order in which [`url`](Self::url) names them.
    pub sentinels: Vec<Redis>,
}

impl RedisSentinel {
    /// Starts them with one Sentinel; none if the program is missing here.
    pub async fn start() -> Option<Self> {
        Self::with_sentinels(1).await
    }

    /// Starts all; none if the program is missing here.
    ///
    /// # Panics
    /// They do not find each other.
    pub async fn with_sentinels(count: usize) -> Option<Self> {
        if crate::missing("redis-server", "redis-server") {
            return None;
        }
        let primary = Redis::with(&["--repl-diskless-sync-delay".to_owned(), "0".to_owned()]).await;
        let of = primary.port.to_string();
        let replica = Redis::with(&["--replicaof".to_owned(), "127.0.0.1".to_owned(), of.clone()]).await;
        let mut sentinels = Vec::new();
        for _ in 0..count {
            sentinels.push(Self::watch(&of, count / 2 + 1).await);
        }
        let found = async {
            for sentinel in &sentinels {
                for (what, wanted) in [("REPLICAS", 1), ("SENTINELS", count - 1)] {
                    let known = || async { sentinel.ask(&["SENTINEL", what, "heddle"]).await };
                    while matches!(known().await, Reply::Many(found) if found.len() < wanted) {
                        sleep(LOOK).await;
                    }
                }
            }
            while !replica.ask(&["INFO", "replication"]).await.text().contains("master_link_status:up") {
                sleep(LOOK).await;
            }
        };
        timeout(START_MAX, found).await.expect("Sentinels find the replica and each other");
        Some(Self { primary, replica, sentinels })
    }

    /// Sentinel takes its settings from a file that it writes to.
    async fn watch(port: &str, quorum: usize) -> Redis {
        for _ in 0..TRIES {
            let dir = TempDir::with_prefix("heddle-sentinel-").expect("there is a temporary directory");
            let own = free_port();
            let settings = format!(
                "port {own}\nbind 127.0.0.1\nprotected-mode no\nsentinel monitor heddle 127.0.0.1 {port} {quorum}\n\
                 sentinel down-after-milliseconds heddle 500\nsentinel failover-timeout heddle 3000\n"
            );
            let file = dir.path().join("sentinel.conf");
            std::fs::write(&file, settings).expect("the temporary directory can be written");
            let args = [file.display().to_string(), "--sentinel".to_owned()];
            let mut process = Process::start("redis-server", &args, dir.path());
            let ready = async {
                while !process.ended() && ask(own, &["PING"]).await.is_err() {
                    sleep(LOOK).await;
                }
            };
            if timeout(START_MAX, ready).await.is_ok() && !process.ended() {
                return Redis { process: Some(process), dir, port: own, args: args.to_vec() };
            }
        }
        panic!("Sentinel does not start");
    }

    /// For a client.
    #[must_use]
    pub fn url(&self) -> String {
        let ports: Vec<String> = self.sentinels.iter().map(|sentinel| sentinel.port.to_string()).collect();
        let more: String = ports[1..].iter().map(|port| format!("&node=127.0.0.1:{port}")).collect();
        format!("redis://127.0.0.1:{}?sentinelServiceName=heddle{more}", ports[0])
    }
}
