//! Three nodes against one, on a real Kafka, PostgreSQL and Redis: what a message costs all nodes together, and what a connection does.
//!
//! All of it shares the cores of one machine, where three nodes can never do more than one. So what is counted is the nodes' own time and
//! memory: how many times as much three machines carry follows from that, as long as brokers and databases keep up. The one node is there three
//! times, each a platform of its own, which three machines would carry three times as much as one: so in both as many processes share a core and its
//! caches, each with as many clients and as full batches, and what differs is that the nodes are one platform. What nodes need when nothing happens,
//! each on a machine of its own, is told apart, and is not taken for the cost of a message.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use heddle_test_servers::{Kafka, Postgres, Redis};

use crate::load::Load;
use crate::machine::{Machine, Side};
use crate::row;
use crate::server::Server;
use crate::socket::Socket;
use crate::table::{median, print, ratios, spread, verdict};

const NODES: usize = 3;
const ROUNDS: usize = 5;
const WARM_UP: f64 = 3.0;
const SECONDS: f64 = 5.0;
/// Enough for three nodes on the cores of one machine, and few to open.
const PARTITIONS: u32 = 12;
/// The slope of memory is taken between these numbers of connections, over all nodes.
const FEW: usize = 1_000;
const MANY: usize = 9_000;
const GOAL: f64 = 2.5;
/// Of a node's time, between two looks, when nothing is left to do.
const IDLE_SECONDS: f64 = 0.06;
/// How long it is looked what nodes need when nothing happens.
const IDLE: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_secs(1);
const LOOKS_MAX: usize = 60;

/// What nodes stand on; it ends with the value.
struct Ground {
    kafka: Kafka,
    postgres: Postgres,
    redis: Redis,
}

/// Three nodes: of one platform, or each a platform of its own, with a log and a database of its own.
struct Nodes {
    nodes: Vec<Server>,
    together: bool,
    _dir: tempfile::TempDir,
}

impl Nodes {
    fn start(machine: &Machine, ground: &Ground, together: bool) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let shared = ground.postgres.database();
        let node = |at: usize| {
            let (name, url) = match together {
                true => ("together".to_owned(), shared.clone()),
                false => (format!("apart{at}"), ground.postgres.database()),
            };
            let more = format!(
                "[log]\nbackend = \"kafka\"\n\
                 [kafka]\nbrokers = \"{}\"\nprefix = \"{name}\"\npartitions = {PARTITIONS}\nreplication = 1\nmin_in_sync = 1\nlenient = true\n\
                 [store]\nbackend = \"postgres\"\nurl = \"{url}\"\n\
                 [registry]\nbackend = \"redis\"\nurl = \"{}\"\nprefix = \"{name}\"\n",
                ground.kafka.brokers(),
                ground.redis.url(),
            );
            Server::start_node(
                machine,
                &dir.path().join(format!("n{at}")),
                Some(Side::Server),
                &format!("n{at}"),
                &more,
            )
        };
        let nodes = (1..=NODES).map(node).collect::<anyhow::Result<_>>()?;
        Ok(Self { nodes, together, _dir: dir })
    }

    /// As many clients of each node; whoever can has the other of a pair at another node.
    fn load(&self) -> anyhow::Result<Load> {
        if self.together { Load::over(&self.nodes) } else { Load::of_each(&self.nodes) }
    }

    /// Seconds of processor time of all nodes.
    fn cpu(&self) -> anyhow::Result<f64> {
        self.nodes.iter().map(Server::cpu).sum()
    }

    fn resident(&self) -> anyhow::Result<u64> {
        self.nodes.iter().map(Server::resident).sum()
    }

    /// Waits until the archive has all, and nobody is at work any more.
    fn quiet(&self, machine: &Machine) -> anyhow::Result<()> {
        let mut before = self.cpu()?;
        for _ in 0..LOOKS_MAX {
            machine.pause(LOOK);
            let now = self.cpu()?;
            if now - before < IDLE_SECONDS * self.nodes.len() as f64 {
                return Ok(());
            }
            before = now;
        }
        anyhow::bail!("the nodes are still busy after {LOOKS_MAX} s");
    }

    /// What all nodes need while nothing happens, as a share of a core.
    fn idle(&self, machine: &Machine) -> anyhow::Result<f64> {
        self.quiet(machine)?;
        let (cpu, began) = (self.cpu()?, machine.now());
        machine.pause(IDLE);
        Ok((self.cpu()? - cpu) / (machine.now() - began))
    }

    /// Seconds of all nodes' time for a message of this load, archive and receipts included, beyond what they need while nothing happens.
    fn cost(&self, machine: &Machine, load: &mut Load, idle: f64) -> anyhow::Result<f64> {
        let (cpu, began) = (self.cpu()?, machine.now());
        let sent = load.run(machine, SECONDS, u64::MAX)? as f64;
        self.quiet(machine)?;
        Ok((self.cpu()? - cpu - idle * (machine.now() - began)) / sent)
    }

    /// Bytes of all nodes' memory for a connection that waits.
    fn memory(&self, machine: &Machine) -> anyhow::Result<f64> {
        let mut sockets: Vec<Socket> = Vec::with_capacity(MANY);
        let mut upto = |count: usize| -> anyhow::Result<u64> {
            machine.pin(Side::Generator);
            for at in sockets.len()..count {
                sockets.push(self.nodes[at % self.nodes.len()].open(&format!("u{at}"), "d")?);
            }
            machine.unpin();
            self.quiet(machine)?;
            self.resident()
        };
        let few = upto(FEW)?;
        let many = upto(MANY)?;
        ensure!(many > few, "{MANY} connections take no more memory than {FEW}");
        Ok((many - few) as f64 / (MANY - FEW) as f64)
    }
}

/// What each needs while nothing happens, and for a message in each round. They take turns: what the machine does otherwise meets both.
fn in_turn(machine: &Machine, all: [&Nodes; 2]) -> anyhow::Result<[(f64, Vec<f64>); 2]> {
    let mut loads = [all[0].load()?, all[1].load()?];
    for load in &mut loads {
        load.run(machine, WARM_UP, u64::MAX)?;
    }
    let mut needed = [(all[0].idle(machine)?, Vec::new()), (all[1].idle(machine)?, Vec::new())];
    for _ in 0..ROUNDS {
        for ((nodes, load), (idle, cost)) in all.iter().zip(&mut loads).zip(&mut needed) {
            cost.push(nodes.cost(machine, load, *idle)?);
        }
    }
    Ok(needed)
}

pub(crate) fn measure(machine: &Machine) -> anyhow::Result<()> {
    let needed = MANY as u64 * 2;
    ensure!(
        machine.files_max >= needed,
        "{MANY} connections need {needed} open files, {} are allowed",
        machine.files_max
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let redis =
        runtime.block_on(Redis::start()).context("redis-server is not installed: deploy/setup.sh test installs it")?;
    let ground = Ground { kafka: Kafka::start()?, postgres: Postgres::start_durable()?, redis };
    // Memory first: what a load leaves free would be given to the connections.
    let begin = |together: bool| -> anyhow::Result<(Nodes, f64)> {
        let nodes = Nodes::start(machine, &ground, together)?;
        let memory = nodes.memory(machine)?;
        Ok((nodes, memory))
    };
    let (apart, memory_apart) = begin(false)?;
    let (together, memory_together) = begin(true)?;
    let [(idle_apart, cost_apart), (idle_together, cost_together)] = in_turn(machine, [&apart, &together])?;
    let carried: Vec<f64> = ratios(&cost_apart, &cost_together).iter().map(|ratio| NODES as f64 * ratio).collect();
    let messages = median(&carried);
    let connections = NODES as f64 * memory_apart / memory_together;
    let more = (median(&cost_together) - median(&cost_apart)) / (NODES - 1) as f64;
    let micros = |seconds: &[f64]| spread(&seconds.iter().map(|seconds| seconds * 1e6).collect::<Vec<_>>(), 1);
    let goal = format!("at least {GOAL}");
    print(
        "Three nodes against one",
        &["", "each alone", "together", "three carry, times one", "goal", ""],
        &[
            row![
                "processor time of all nodes for a 1:1 message, µs",
                micros(&cost_apart),
                micros(&cost_together),
                spread(&carried, 2),
                goal,
                verdict(messages >= GOAL)
            ],
            row![
                "memory of all nodes for an idle connection, KiB",
                format!("{:.1}", memory_apart / 1024.0),
                format!("{:.1}", memory_together / 1024.0),
                format!("{connections:.2}"),
                goal,
                verdict(connections >= GOAL)
            ],
            row![
                "processor time of all nodes while nothing happens, % of a core",
                format!("{:.1}", idle_apart * 100.0),
                format!("{:.1}", idle_together * 100.0),
                "",
                "",
                ""
            ],
        ],
        &format!(
            "Kafka {}, PostgreSQL and Redis on the same machine, not counted. In both three nodes share one core, each with as many clients: once each is a \
             platform of its own, once they are one. What three machines carry is reckoned: 3 x (what a node that is alone needs for a message) / (what the \
             nodes of one platform need together), beyond what they need while nothing happens. Archive and receipts included; {ROUNDS} rounds of \
             {SECONDS} s, in turn; together, sender and recipient are at different nodes. That they are one platform costs a message {:.1} µs for each other \
             node. Connections: slope from {FEW} to {MANY}.",
            ground.kafka.version(),
            more * 1e6,
        ),
    );
    Ok(())
}
