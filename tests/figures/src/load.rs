//! How many durable 1:1 messages the server moves, in a second and in a second of its processor's time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::Context as _;

use crate::direct::{ROUNDS, TEXT};
use crate::machine::{Machine, Side, cpu_of_process};
use crate::row;
use crate::server::Server;
use crate::socket::Socket;
use crate::table::{median, print, spread};

/// Senders for each node, each with a recipient of its own.
const PAIRS: usize = 16;
/// Messages that a pair sends before it reads those of the batch before.
const BATCH: usize = 32;
const WARM_UP: f64 = 2.0;
const SECONDS: f64 = 4.0;

pub(crate) fn measure(machine: &Machine) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let server = Server::start(machine, dir.path(), Some(Side::Server))?;
    let mut load = Load::new(&server)?;
    load.run(machine, WARM_UP, u64::MAX)?;
    let (mut rate, mut per_cpu, mut server_busy, mut own_busy, mut per_sync) = (vec![], vec![], vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        let (cpu, own, syncs, began) = (server.cpu()?, cpu_of_process(), server.metric(SYNCS)?, machine.now());
        let sent = load.run(machine, SECONDS, u64::MAX)? as f64;
        let (cpu, own, span) = (server.cpu()? - cpu, cpu_of_process() - own, machine.now() - began);
        rate.push(sent / span);
        per_cpu.push(sent / cpu);
        server_busy.push(cpu / span * 100.0);
        own_busy.push(own / span * 100.0);
        per_sync.push(sent / (server.metric(SYNCS)? - syncs));
    }
    print(
        "1:1, durable, under load",
        &["", "messages"],
        &[
            row!["per second of the server's processor time", spread(&per_cpu, 0)],
            row!["per second", spread(&rate, 0)],
            row!["per sync of the log", spread(&per_sync, 1)],
        ],
        &format!(
            "{PAIRS} pairs, each with at most {} messages in flight (closed loop), received and acknowledged, receipts sent and the archive written \
             meanwhile; {ROUNDS} rounds of {SECONDS} s. The server had one core and used {:.0} % of it, the generator {:.0} % of the other.",
            2 * BATCH,
            median(&server_busy),
            median(&own_busy),
        ),
    );
    Ok(())
}

/// Counts the group commits of the log, each of which syncs once.
const SYNCS: &str = "heddle_log_commits_total";

/// Pairs that send as fast as their messages arrive.
pub(crate) struct Load {
    pairs: Vec<Pair>,
}

struct Pair {
    sender: Socket,
    receiver: Socket,
    target: String,
    sent: usize,
}

impl Load {
    pub(crate) fn new(server: &Server) -> anyhow::Result<Self> {
        Self::over(std::slice::from_ref(server))
    }

    /// As many pairs at each of these, which know nothing of each other.
    pub(crate) fn of_each(servers: &[Server]) -> anyhow::Result<Self> {
        let mut pairs = Vec::new();
        for server in servers {
            pairs.append(&mut Self::new(server)?.pairs);
        }
        Ok(Self { pairs })
    }

    /// Spread over nodes; the two of a pair are at different ones.
    pub(crate) fn over(nodes: &[Server]) -> anyhow::Result<Self> {
        let pair = |at: usize| {
            let (from, to) = (format!("from{at}"), format!("to{at}"));
            let (here, there) = (&nodes[at % nodes.len()], &nodes[(at + 1) % nodes.len()]);
            let (sender, receiver) = (here.open(&from, "d")?, there.open(&to, "d")?);
            Ok(Pair { sender, receiver, target: format!(r#""to":"{to}""#), sent: 0 })
        };
        Ok(Self { pairs: (0..PAIRS * nodes.len()).map(pair).collect::<anyhow::Result<_>>()? })
    }

    /// Sends for so long, or until so many were sent; answers how many arrived.
    pub(crate) fn run(&mut self, machine: &Machine, seconds: f64, upto: u64) -> anyhow::Result<u64> {
        let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
        let end = machine.now() + seconds;
        machine.pin(Side::Generator);
        let done = std::thread::scope(|scope| {
            let threads: Vec<_> =
                self.pairs.iter_mut().map(|pair| scope.spawn(|| pair.run(machine, end, upto, &sent, &stop))).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().ok().context("a sender panicked")?)
                .collect::<anyhow::Result<Vec<()>>>()
        });
        machine.unpin();
        done?;
        Ok(sent.into_inner())
    }
}

impl Pair {
    fn run(
        &mut self,
        machine: &Machine,
        end: f64,
        upto: u64,
        sent: &AtomicU64,
        stop: &AtomicBool,
    ) -> anyhow::Result<()> {
        self.batch()?;
        while machine.now() < end && !stop.load(Ordering::Relaxed) {
            self.batch()?;
            self.receive(self.sent - BATCH)?;
            if sent.fetch_add(BATCH as u64, Ordering::Relaxed) >= upto {
                stop.store(true, Ordering::Relaxed);
            }
        }
        self.receive(self.sent)?;
        sent.fetch_add(BATCH as u64, Ordering::Relaxed);
        Ok(())
    }

    fn batch(&mut self) -> anyhow::Result<()> {
        for _ in 0..BATCH {
            self.sent += 1;
            self.sender.chat(&self.target, &format!("m{}", self.sent), &text(self.sent))?;
        }
        Ok(())
    }

    /// Reads up to that message; what the sender was told meanwhile, too.
    fn receive(&mut self, upto: usize) -> anyhow::Result<()> {
        self.receiver.message(&text(upto))?;
        self.sender.drain()
    }
}

fn text(number: usize) -> String {
    format!("{number}: {TEXT}")
}
