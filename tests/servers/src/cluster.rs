//! Redis Cluster: three servers that share the slots, with a replica each if one is wanted.

use tokio::time::{sleep, timeout};

use crate::process::{START_MAX, free_port};
use crate::redis::{LOOK, Redis};
use crate::resp::Reply;

/// How the slots are shared out.
const SHARES: [(u16, u16); 3] = [(0, 5_460), (5_461, 10_922), (10_923, 16_383)];

/// Three servers that share the slots.
#[derive(Debug)]
pub struct RedisCluster {
    /// Each has a third of the slots, in the beginning.
    pub servers: Vec<Redis>,
    /// One of each of those, in their order; or none.
    pub replicas: Vec<Redis>,
}

impl RedisCluster {
    /// Starts three and introduces them; none if the program is missing here.
    pub async fn start() -> Option<Self> {
        Self::of(false).await
    }

    /// The same, with three replicas.
    pub async fn with_replicas() -> Option<Self> {
        Self::of(true).await
    }

    async fn of(replicated: bool) -> Option<Self> {
        if crate::missing("redis-server", "redis-server") {
            return None;
        }
        let mut all = Vec::new();
        for _ in 0..if replicated { 6 } else { 3 } {
            let bus = free_port().to_string();
            let args = ["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-node-timeout", "1000"];
            let more = ["--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0"];
            let args: Vec<String> = args.into_iter().chain(more).map(str::to_owned).collect();
            all.push((Redis::with(&args).await, bus));
        }
        for ((server, _), (first, last)) in all.iter().zip(SHARES) {
            server.ask(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]).await;
        }
        let (first, bus) = (all[0].0.port().to_string(), all[0].1.clone());
        for (server, _) in &all[1..] {
            server.ask(&["CLUSTER", "MEET", "127.0.0.1", &first, &bus]).await;
        }
        let mut servers: Vec<Redis> = all.into_iter().map(|(server, _)| server).collect();
        let replicas = servers.split_off(SHARES.len());
        let cluster = Self { servers, replicas };
        timeout(START_MAX, cluster.becomes_whole()).await.expect("they become a cluster");
        Some(cluster)
    }

    async fn becomes_whole(&self) {
        let count = self.servers.len() + self.replicas.len();
        for server in self.servers.iter().chain(&self.replicas) {
            while server.ask(&["CLUSTER", "NODES"]).await.text().lines().count() < count {
                sleep(LOOK).await;
            }
        }
        for (replica, primary) in self.replicas.iter().zip(&self.servers) {
            let id = primary.ask(&["CLUSTER", "MYID"]).await;
            while matches!(replica.ask(&["CLUSTER", "REPLICATE", id.text()]).await, Reply::Error(_)) {
                sleep(LOOK).await;
            }
        }
        for server in self.servers.iter().chain(&self.replicas) {
            while !server.ask(&["CLUSTER", "INFO"]).await.text().contains("cluster_state:ok") {
                sleep(LOOK).await;
            }
        }
        for replica in &self.replicas {
            while !replica.ask(&["INFO", "replication"]).await.text().contains("master_link_status:up") {
                sleep(LOOK).await;
            }
        }
    }

    /// For a client: one seed is enough.
    #[must_use]
    pub fn url(&self) -> String {
        self.servers[0].url()
    }

    /// Which of the servers of the beginning has that key.
    ///
    /// # Panics
    /// None has.
    pub async fn owner(&self, key: &str) -> usize {
        let slot = self.slot(key).await;
        let shares = &mut SHARES.iter();
        shares.position(|(first, last)| (first..=last).contains(&&slot)).expect("each slot is somebody's")
    }

    async fn slot(&self, key: &str) -> u16 {
        let Reply::Number(slot) = self.servers[0].ask(&["CLUSTER", "KEYSLOT", key]).await else { panic!("a number") };
        u16::try_from(slot).expect("there are 16,384")
    }

    /// Begins to move the slot of a key, which no other key has, from one server to another, the key first. The move ends with
    /// [`moved`](Self::moved).
    ///
    /// # Panics
    /// A server refuses.
    pub async fn moving(&self, key: &str, from: usize, to: usize) {
        let slot = self.slot(key).await.to_string();
        let (from, to) = (&self.servers[from], &self.servers[to]);
        let (giver, taker) = (from.ask(&["CLUSTER", "MYID"]).await, to.ask(&["CLUSTER", "MYID"]).await);
        done(&to.ask(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", giver.text()]).await);
        done(&from.ask(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", taker.text()]).await);
        let port = to.port().to_string();
        // A channel has nothing to be moved.
        done(&from.ask(&["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]).await);
    }

    /// The slot of a key is at that server now, and all know.
    ///
    /// # Panics
    /// A server refuses.
    pub async fn moved(&self, key: &str, to: usize) {
        let slot = self.slot(key).await.to_string();
        let taker = self.servers[to].ask(&["CLUSTER", "MYID"]).await;
        // Who takes it first, or it would be nobody's for a moment.
        done(&self.servers[to].ask(&["CLUSTER", "SETSLOT", &slot, "NODE", taker.text()]).await);
        for server in &self.servers {
            done(&server.ask(&["CLUSTER", "SETSLOT", &slot, "NODE", taker.text()]).await);
        }
    }
}

fn done(reply: &Reply) {
    assert!(matches!(reply, Reply::Text(_)), "a server refuses: {reply:?}");
}
