//! A server: build its parts from the floor up, bind, serve, drain. The one place that names concrete backends.

mod control;
mod engine;
mod exchange;
mod log;
mod nodes;
pub mod repair;
mod repartition;
pub mod roll;
pub mod settings;
pub mod sound;
mod store;
mod telemetry;

use std::sync::Arc;
use std::time::Duration;

use heddle_delivery::{Delivery, Ports};
use heddle_gateway::{Drained, Gateway, GatewayDeps};
use heddle_log::Identity;
use heddle_model::{Clock, Hook, SystemClock, UserId};
use heddle_policy::{Cluster, Policies, PolicyDeps, PolicyInfo};
use heddle_registry::Registry;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::watch;

use crate::config::{Config, LogBackend, backend_warnings};
use crate::failure::Failure;
use crate::ready::program;
use crate::reload::Reloader;

use control::LogControl;
use engine::{PluginLogs, WasmLoader};
use exchange::Exchange;
use log::{OpenLog, make_data_dir};
use nodes::{Nodes, Way};
use roll::Roll;
use store::OpenStore;
pub use telemetry::install as install_telemetry;

/// What makes a second `heddle dev` beside the first one.
const FREE_PORTS: &str = "--listen 127.0.0.1:0 --admin 127.0.0.1:0";
/// How long the archive may take to catch up at the end. What it does not reach, the next start does.
const SETTLE: Duration = Duration::from_secs(5);
/// How long every node that lives may take to load a policy set that one of them proposes.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// The exporter folds what its histograms collected this often.
const METRICS_UPKEEP: Duration = Duration::from_secs(5);

/// Everything that runs.
pub struct Server {
    gateway: Gateway,
    delivery: Delivery,
    policies: Policies,
    log: OpenLog,
    store: OpenStore,
    registry: Arc<dyn Registry>,
    roll: Arc<Roll>,
    upkeep: tokio::task::JoinHandle<()>,
    carrying: tokio::task::JoinHandle<()>,
    cut: watch::Receiver<Option<u32>>,
}

/// What an operator of `dev` gets, and one of `serve` does not.
#[derive(Debug, Clone)]
pub struct Terms {
    /// Opens the admin listener.
    pub admin_token: String,
    /// The page /try hands out tokens.
    pub dev: bool,
}

impl Server {
    /// Opens what is on disk, loads the policies, starts delivery, takes the addresses. Nothing is accepted yet.
    ///
    /// # Errors
    /// The first thing that is wrong, with what mends it.
    pub async fn build(
        config: &Config,
        terms: &Terms,
        metrics: PrometheusHandle,
        reloader: Arc<Reloader>,
    ) -> Result<Self, Failure> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let node = settings::node(config)?;
        let builtins = builtins();
        // Read first: a wrong name in the configuration should not cost an opened log.
        let policy_config = settings::policies(config, &builtins)?;
        let gateway_config = settings::gateway(config, &terms.admin_token, terms.dev)?;
        backend_warnings(config, clock.now()).iter().for_each(|warning| tracing::warn!("{warning}"));

        make_data_dir(&config.node.data_dir, terms.dev)?;
        let several = config.log.backend == LogBackend::Kafka;
        let (log, store) = if several {
            // The store knows into how many partitions a shared log was cut.
            let store = OpenStore::open(config, &clock).await?;
            let known = store.ports().epochs.newest().await.map_err(|error| failed(&error))?;
            let known = known.map(|(identity, partitions)| (Identity(identity), partitions));
            (OpenLog::open(config, terms.dev, &clock, known).await?, store)
        } else {
            let log = OpenLog::open(config, terms.dev, &clock, None).await?;
            (log, OpenStore::open(config, &clock).await?)
        };
        store.fits(log.port().layout().partitions)?;
        let ports = store.ports();
        let plugin_logs = PluginLogs::new(config);
        let loader = Arc::new(WasmLoader::new(config, plugin_logs.clone())?);
        let roll = Roll::new(config, &node, Arc::clone(&ports.nodes), clock.now(), several);
        roll.enter().await.map_err(|error| failed(&error))?;
        let cluster = several.then(|| Cluster {
            node: node.clone(),
            control: Arc::new(LogControl::new(log.port(), Arc::clone(&ports.nodes))),
            partitions: log.port().layout().partitions,
            ready_within: READY_WITHIN,
        });
        let catalog = Arc::clone(&ports.catalog);
        let way = Way::open(config, &node, &clock)?;
        let shared = way.states();
        let exchange = Exchange { log: log.clone(), redis: way.redis(), node: node.clone() };
        let limited = Arc::clone(&loader);
        let deps = PolicyDeps { catalog, clock: Arc::clone(&clock), builtins, loader, cluster, shared };
        let policies = Policies::start(policy_config, deps).await.map_err(|error| failed(&error))?;

        repartition::check(&policies, log.port().layout().partitions)?;

        let nodes = Nodes::join(way, &node);
        let ports = Ports {
            log: log.port(),
            store: ports,
            registry: Arc::clone(&nodes.registry),
            bus: nodes.bus,
            policies: policies.clone(),
            clock: Arc::clone(&clock),
            node: node.clone(),
        };
        let delivery = Delivery::start(settings::delivery(config), ports).await.map_err(|error| failed(&error))?;
        let (anew, cut) = watch::channel(None);
        let carrying = tokio::spawn(repartition::carry(policies.clone(), delivery.clone(), anew));
        let upkeep = tokio::spawn(keep_metrics(metrics.clone()));
        let (log_failed, shown, deciding, watched, called) =
            (log.failed(), policies.clone(), policies.clone(), policies.clone(), Arc::downgrade(&roll));
        let deps = GatewayDeps {
            delivery: delivery.clone(),
            policies: policies.clone(),
            clock,
            node,
            metrics: Arc::new(move || metrics.render() + &shown.exposition()),
            readiness: Arc::new(move || match &*log_failed.borrow() {
                Some(reason) => Err(format!("the log is closed: {reason}")),
                None => deciding.knows(),
            }),
            nodes: Arc::new(move || {
                let roll = called.upgrade();
                Box::pin(async move {
                    match roll {
                        Some(roll) => roll.call().await,
                        None => Ok(Vec::new()),
                    }
                })
            }),
            plugin_log: Arc::new(move || plugin_logs.json()),
            reload: Arc::new(move || {
                let reloaded = reloader
                    .reload(|limits| watched.outgrown(limits), |config, sections| exchange.make(config, sections));
                let reloaded = reloaded.map_err(|failure| failure.to_string())?;
                let (watch, trust) = reloader.watched().map_err(|failure| failure.to_string())?;
                watched.configure(watch, trust);
                let config = reloader.in_force();
                watched.limit(settings::limits(&config), config.policies.plugin_files_max.0);
                limited.limit(&config);
                Ok(reloaded)
            }),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let gateway = Gateway::bind(gateway_config, deps).await.map_err(|error| taken(config, terms.dev, &error))?;
        roll.serves(delivery.clone(), policies.clone(), gateway.load());
        Ok(Self { gateway, delivery, policies, log, store, registry: nodes.registry, roll, upkeep, carrying, cut })
    }

    /// Makes these users each other's contacts, so that each sees when another is there.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn introduce(&self, users: &[&str]) -> Result<(), Failure> {
        let users = users.iter().map(|user| UserId::new(user)).collect::<Result<Vec<_>, _>>();
        let users = users.map_err(|error| failed(&error))?;
        for user in &users {
            for other in users.iter().filter(|other| *other != user) {
                self.delivery.set_contact(user, other, true).await.map_err(|error| failed(&error))?;
            }
        }
        Ok(())
    }

    /// Begins to accept.
    pub fn serve(&mut self) {
        self.gateway.serve();
    }

    /// Where it listens.
    #[must_use]
    pub fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// The policy set in force.
    #[must_use]
    pub fn generation(&self) -> (u64, Vec<PolicyInfo>) {
        let current = self.policies.current();
        (current.number(), current.describe())
    }

    /// Says why, once the log has failed: this server can accept nothing more.
    #[must_use]
    pub fn log_failed(&self) -> watch::Receiver<Option<String>> {
        self.log.failed()
    }

    /// Waits until the log is cut into another number of partitions than this server works with: it must be built anew.
    pub async fn cut_anew(&self) -> u32 {
        let mut cut = self.cut.clone();
        let met = cut.wait_for(Option::is_some).await.ok().and_then(|partitions| *partitions);
        match met {
            Some(partitions) => partitions,
            // The server drains.
            None => std::future::pending().await,
        }
    }

    /// Sends clients away at a pace, lets the archive catch up, closes everything.
    pub async fn drain(self) -> Drained {
        let drained = self.gateway.drain().await;
        self.registry.leave().await;
        self.roll.leave().await;
        // What a log that failed holds up comes with the next one.
        let settle = if self.log.failed().borrow().is_some() { Duration::ZERO } else { SETTLE };
        self.delivery.stop(settle).await;
        self.gateway.stop();
        self.upkeep.abort();
        self.carrying.abort();
        let log = self.log.clone();
        // It joins a thread.
        let closed = tokio::task::spawn_blocking(move || log.close()).await;
        if let Err(error) = closed {
            tracing::error!(%error, "the log did not close as it should; the next start recovers it");
        }
        self.store.close().await;
        drained
    }
}

/// The first-party components, as plugin files.
pub(crate) fn builtins() -> Vec<(Hook, &'static [u8])> {
    let named = heddle_builtin::plugins();
    named.into_iter().filter_map(|(name, plugin)| Some((Hook::named(name)?, plugin.bytes))).collect()
}

fn failed(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(error.to_string())
}

/// Both addresses, if both are taken, and the command that chooses another.
fn taken(config: &Config, dev: bool, error: &heddle_gateway::GatewayError) -> Failure {
    let heddle_gateway::GatewayError::Listen { key, address, .. } = error else {
        return Failure::usage(error.to_string());
    };
    let too = (*key == "gateway.listen").then(|| sound::taken("admin.listen", config.admin.listen)).flatten();
    let too = too.map(|problem| format!("\n{problem}")).unwrap_or_default();
    let free = match *key {
        "gateway.listen" if !too.is_empty() => FREE_PORTS,
        "gateway.listen" => "--listen 127.0.0.1:0",
        _ => "--admin 127.0.0.1:0",
    };
    let (program, data) = (program(), config.node.data_dir.display());
    let another = match dev {
        true => format!("{program} dev --data {data} {free}"),
        false => format!("{program} serve --config FILE --set {key}={}:0", address.ip()),
    };
    let port = address.port();
    Failure::new(format!("{error}{too}\n  who has it:       ss -ltnp 'sport = :{port}'\n  another address:  {another}"))
}

async fn keep_metrics(metrics: PrometheusHandle) {
    let mut ticks = tokio::time::interval(METRICS_UPKEEP);
    loop {
        ticks.tick().await;
        metrics.run_upkeep();
    }
}
