//! Policies and delivery without gateway and sockets, in this process: what a message costs from the rate limit to the sessions of its recipients.
//!
//! One thread does all of it but the database's own, so that its processor time is the cost.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, bail, ensure};
use heddle_delivery::{
    Delivery, DeliveryConfig, Opening, Outgoing, Ports, SendOutcome, Session, Submission, Submitted,
};
use heddle_log::Log;
use heddle_model::{
    ClientId, Clock, ConnectionId, Conversation, DeviceId, Hook, NodeId, Position, SystemClock, UserId,
};
use heddle_policy::{Command, Policies, PolicyConfig, PolicyDeps, RateAsk};
use heddle_presence::{Mark, Report, ReportKind, Socket};
use heddle_registry::{EmbeddedBus, EmbeddedRegistry};
use heddle_store::{SqliteStore, StoreConfig};
use serde_json::json;

use crate::direct::TEXT;
use crate::machine::cpu_of_thread;
use crate::twin::{Calls, Loads, Make};

/// Members of its group, all of them there.
pub(crate) const MEMBERS: usize = 100;
/// Messages under way at once.
const AT_ONCE: usize = 32;

/// Everything below a gateway.
pub(crate) struct World {
    runtime: tokio::runtime::Runtime,
    inside: Inside,
}

struct Inside {
    delivery: Delivery,
    policies: Policies,
    clock: Arc<dyn Clock>,
    node: NodeId,
    users: Vec<UserId>,
    group: Conversation,
    sent: u64,
    received: Arc<AtomicU64>,
    calls: Arc<Calls>,
}

/// Where a message goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum To {
    /// One user.
    One,
    /// The group.
    Group,
}

/// What a round of messages took.
pub(crate) struct Cost {
    /// Seconds of this thread's processor time.
    pub(crate) cpu: f64,
    /// Seconds.
    pub(crate) span: f64,
    /// By the order of `FUNCTIONS`.
    pub(crate) calls: [u64; 6],
}

impl World {
    pub(crate) fn start(make: Make, log: Arc<dyn Log>, dir: &Path) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let inside = runtime.block_on(Inside::start(make, log, dir))?;
        Ok(Self { runtime, inside })
    }

    /// Sends so many, and waits until all sessions have them and the archive, too.
    pub(crate) fn round(&mut self, to: To, messages: usize) -> anyhow::Result<Cost> {
        let calls = self.inside.calls.read();
        let (cpu, began) = (cpu_of_thread(), self.inside.clock.monotonic());
        self.runtime.block_on(self.inside.round(to, messages))?;
        let (cpu, span) = (cpu_of_thread() - cpu, self.inside.clock.monotonic() - began);
        let after = self.inside.calls.read();
        let calls = std::array::from_fn(|at| after[at] - calls[at]);
        Ok(Cost { cpu, span: span.as_secs_f64(), calls })
    }
}

impl Inside {
    async fn start(make: Make, log: Arc<dyn Log>, dir: &Path) -> anyhow::Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let node = NodeId::new("node-1")?;
        let store = SqliteStore::open(StoreConfig::at(dir.join("store.sqlite")), Arc::clone(&clock)).await?.store();
        let calls = Arc::new(Calls::default());
        let builtins = heddle_builtin::plugins();
        let builtins =
            builtins.into_iter().filter_map(|(name, plugin)| Some((Hook::named(name)?, plugin.bytes))).collect();
        let deps = PolicyDeps {
            catalog: Arc::clone(&store.catalog),
            clock: Arc::clone(&clock),
            builtins,
            loader: Arc::new(Loads { make, calls: Arc::clone(&calls) }),
            cluster: None,
            shared: None,
        };
        // Above what is sent here: a refusal would be quicker than a message.
        let plenty = json!({ "burst": 1_000_000, "per_second": 1_000_000.0 }).as_object().cloned().unwrap_or_default();
        let config = PolicyConfig {
            chains: Vec::new(),
            builtin_config: vec![(Hook::RateLimit, plenty)],
            ..PolicyConfig::default()
        };
        let policies = Policies::start(config, deps).await?;
        let ports = Ports {
            log,
            store,
            registry: Arc::new(EmbeddedRegistry::new(node.clone())),
            bus: {
                let node = node.clone();
                Box::new(move |inbox| Arc::new(EmbeddedBus::new(node, inbox)))
            },
            policies: policies.clone(),
            clock: Arc::clone(&clock),
            node: node.clone(),
        };
        let delivery = Delivery::start(DeliveryConfig::default(), ports).await?;
        let users = (0..MEMBERS).map(|at| UserId::new(&format!("u{at}"))).collect::<Result<Vec<_>, _>>()?;
        let group = delivery.create_group(&users[0], &ClientId::new("group")?, "figures", &users).await?;
        let received = Arc::new(AtomicU64::new(0));
        for (at, user) in users.iter().enumerate() {
            let connection = ConnectionId(at as u64);
            let opening = Opening {
                user: user.clone(),
                device: DeviceId::new("d")?,
                issued: 0,
                connection,
                resume: None,
                mark: Mark::default(),
            };
            let (session, _) = delivery.open(opening).await?;
            tokio::spawn(receive(session, Arc::clone(&received)));
        }
        let group = Conversation::Group(group);
        Ok(Self { delivery, policies, clock, node, users, group, sent: 0, received, calls })
    }

    async fn round(&mut self, to: To, messages: usize) -> anyhow::Result<()> {
        let copies = if to == To::One { 2 } else { MEMBERS as u64 };
        let start = self.received.load(Ordering::Relaxed);
        let mut under_way = Vec::with_capacity(AT_ONCE);
        for number in 0..messages {
            under_way.push(self.send(to).await?);
            if under_way.len() == AT_ONCE || number + 1 == messages {
                for outcome in under_way.drain(..) {
                    if let SendOutcome::Rejected(rejected) = outcome.await {
                        bail!("a message was rejected: {rejected:?}");
                    }
                }
                let expected = start + copies * (number as u64 + 1);
                while self.received.load(Ordering::Relaxed) < expected {
                    tokio::task::yield_now().await;
                }
            }
        }
        while self.delivery.archive_lag() > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        let received = self.received.load(Ordering::Relaxed) - start;
        ensure!(received == copies * messages as u64, "{received} copies of {messages} messages were received");
        Ok(())
    }

    /// As a gateway sends: activity, rate limit, then delivery.
    async fn send(&mut self, to: To) -> anyhow::Result<std::pin::Pin<Box<dyn Future<Output = SendOutcome> + Send>>> {
        let sender = &self.users[0];
        self.sent += 1;
        let socket = Socket { node: self.node.clone(), connection: ConnectionId(0) };
        self.delivery.presence().report(sender, &Report { socket, mark: Mark::default(), kind: ReportKind::Active });
        let to = match to {
            To::One => Conversation::Direct(self.users[1].clone()),
            To::Group => self.group.clone(),
        };
        let recipients = self.delivery.recipients(sender, &to).await;
        let generation = self.policies.current();
        let answer = generation.rate_limit(&RateAsk {
            now: self.clock.now(),
            user: sender,
            ip: [127, 0, 0, 1].into(),
            connection: Some(ConnectionId(0)),
            conversation: Some(&to),
            command: Command::ChatMessage,
            size: 150,
            connections_user: 1,
            connections_ip: 1,
            recipients,
        });
        ensure!(answer.denied.is_none(), "the rate limit said {:?}", answer.denied);
        let submission = Submission {
            sender: sender.clone(),
            client_id: ClientId::new(&format!("m{}", self.sent))?,
            to,
            text: Some(TEXT.into()),
            data: None,
            tags: Vec::new(),
            mentions: Vec::new(),
            lamport: None,
            resend: false,
            generation,
            decisions: answer.decisions,
        };
        match self.delivery.submit(submission).await {
            Submitted::Settled(outcome) => Ok(Box::pin(std::future::ready(outcome))),
            Submitted::Appending(outcome) => Ok(outcome),
        }
    }
}

/// One device: counts messages, acknowledges everything at once.
async fn receive(mut session: Session, received: Arc<AtomicU64>) -> anyhow::Result<()> {
    loop {
        let Ok(outgoing) = session.next().await else { return Ok(()) };
        let mut newest = Position::START;
        for item in outgoing {
            if let Outgoing::Event { event, .. } = item {
                newest = event.position;
                received.fetch_add(u64::from(event.record.message().is_some()), Ordering::Relaxed);
            }
        }
        if newest > Position::START {
            session.ack(newest).context("acknowledging what was just received")?;
        }
    }
}
