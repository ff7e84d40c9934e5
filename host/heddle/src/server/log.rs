//! The log that the configuration names.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use heddle_client::{Address, Sight, Trust};
use heddle_log::{EmbeddedLog, Identity, KafkaConfig, KafkaLog, KafkaOpenError, Log, OpenError};
use heddle_model::Clock;
use tokio::sync::watch;

use super::{FREE_PORTS, settings};
use crate::config::{Config, KafkaLogin, LogBackend};
use crate::failure::Failure;
use crate::ready::program;

/// The longest look at a broker's certificate.
const LOOK: Duration = Duration::from_secs(3);

/// An open log, whichever it is.
#[derive(Clone)]
pub(super) enum OpenLog {
    Embedded(Arc<EmbeddedLog>),
    Kafka { log: Arc<KafkaLog>, failed: watch::Sender<Option<String>> },
}

impl OpenLog {
    /// Opens it. Reading the disk, recovery perhaps a lot of it, or asking the brokers takes its time.
    /// `known`: the log that the store knows, and the partitions that it has. `dev`: which command is named to whoever must choose.
    pub(super) async fn open(
        config: &Config,
        dev: bool,
        clock: &Arc<dyn Clock>,
        known: Option<(Identity, u32)>,
    ) -> Result<Self, Failure> {
        let clock = Arc::clone(clock);
        match config.log.backend {
            LogBackend::Embedded => {
                let settings = settings::log(config);
                tokio::task::spawn_blocking(move || EmbeddedLog::open(settings, clock))
                    .await
                    .map_err(|error| Failure::new(format!("opening the log failed: {error}")))?
                    .map(Self::Embedded)
                    .map_err(|error| closed(config, dev, &error))
            }
            LogBackend::Kafka => {
                let opened = KafkaLog::open(settings::kafka(config, known)?, clock).await;
                let log = match opened {
                    Ok(log) => log,
                    Err(error) => return Err(unopened(config, error).await),
                };
                Ok(Self::Kafka { log, failed: watch::Sender::new(None) })
            }
        }
    }

    /// Its clients believe and prove themselves as this configuration says, if it has any. Blocks.
    pub(super) fn exchange(&self, config: &Config) -> Result<(), Failure> {
        let Self::Kafka { log, .. } = self else { return Ok(()) };
        let KafkaConfig { tls, login, .. } = settings::kafka(config, None)?;
        let exchanged = log.exchange(tls, login);
        exchanged.map_err(|error| tokio::runtime::Handle::current().block_on(unopened(config, error)))
    }

    pub(super) fn port(&self) -> Arc<dyn Log> {
        match self {
            Self::Embedded(log) => Arc::clone(log) as Arc<dyn Log>,
            Self::Kafka { log, .. } => Arc::clone(log) as Arc<dyn Log>,
        }
    }

    /// Says why, once the log has failed for good. Brokers never do: they are waited for.
    pub(super) fn failed(&self) -> watch::Receiver<Option<String>> {
        match self {
            Self::Embedded(log) => log.failed(),
            Self::Kafka { failed, .. } => failed.subscribe(),
        }
    }

    /// Blocks for a few commits, or until the brokers have what is under way.
    pub(super) fn close(&self) {
        match self {
            Self::Embedded(log) => log.close(),
            Self::Kafka { log, .. } => log.close(),
        }
    }
}

/// Why brokers do not let us in, with the key that most likely is wrong.
pub(super) async fn unopened(config: &Config, error: KafkaOpenError) -> Failure {
    let key = match &error {
        KafkaOpenError::Topic { .. } => return Failure::usage(error.to_string()),
        KafkaOpenError::Refused { certificate: true, .. } => {
            return Failure::new(format!("{error}{}", doubts(config).await));
        }
        // Who is silent, or late with a later question, has not refused us.
        KafkaOpenError::Ended { .. } => misunderstood(config).await,
        _ => None,
    };
    Failure::new(key.unwrap_or_else(|| error.to_string()))
}

/// Why a broker's certificate is not believed: librdkafka does not tell.
async fn doubts(config: &Config) -> String {
    let kafka = &config.kafka;
    let trust = if kafka.tls_ca.as_os_str().is_empty() { Trust::System } else { Trust::File(kafka.tls_ca.clone()) };
    for broker in brokers(config) {
        if let Sight::Distrusted(why) = look(broker, &trust).await {
            return format!(" ({broker}: {why})");
        }
    }
    String::new()
}

/// A broker that takes connections, and ends them for what it hears. librdkafka only says that there is none.
async fn misunderstood(config: &Config) -> Option<String> {
    let kafka = &config.kafka;
    let asks = "takes connections and ends them: it may ask who we are. Set it, kafka.user and kafka.password";
    for broker in brokers(config) {
        let (key, wrong) = match (look(broker, &Trust::Certificates(Vec::new())).await, kafka.tls) {
            (Sight::Distrusted(_) | Sight::Trusted, false) => {
                ("kafka.tls", format!("is false, and {broker} speaks TLS: set it to true"))
            }
            (Sight::Plain, false) | (Sight::Distrusted(_) | Sight::Trusted, true) if kafka.sasl == KafkaLogin::None => {
                ("kafka.sasl", format!("is \"none\", and {broker} {asks}"))
            }
            _ => continue,
        };
        return Some(format!("{key}: no broker of {:?} lets us in: {wrong}", kafka.brokers));
    }
    None
}

fn brokers(config: &Config) -> impl Iterator<Item = &str> {
    config.kafka.brokers.split(',').map(str::trim)
}

async fn look(broker: &str, trust: &Trust) -> Sight {
    let Ok(address) = Address::tls(broker, trust) else { return Sight::Nobody };
    tokio::time::timeout(LOOK, address.look()).await.unwrap_or(Sight::Nobody)
}

/// What the log says, and the command that mends it where one does.
fn closed(config: &Config, dev: bool, error: &OpenError) -> Failure {
    let (dir, program) = (&config.node.data_dir, program());
    let mend = match error {
        OpenError::InUse { pid, .. } => {
            let beside = dir.display();
            format!(
                "\n  stop it:            kill {pid}\n  beside it:          {program} dev --data {beside}-2 {FREE_PORTS}"
            )
        }
        OpenError::Full { .. } => full(dir, dev),
        OpenError::ReadOnly { .. } => {
            format!("\n  make it yours:      sudo chown -R $(id -u) {}{}", dir.display(), elsewhere("/another", dev))
        }
        _ => String::new(),
    };
    Failure::new(format!("{error}{mend}"))
}

fn full(dir: &Path, dev: bool) -> String {
    let there = dir.ancestors().find(|dir| dir.exists()).unwrap_or(dir);
    format!("\n  see what is full:   df -h {}{}", there.display(), elsewhere("/a/larger/disk", dev))
}

fn elsewhere(parent: &str, dev: bool) -> String {
    let start = if dev { "dev --data " } else { "serve --config FILE --set node.data_dir=" };
    format!("\n  another directory:  {} {start}{parent}/heddle-data", program())
}

/// The native code of components lies there too.
pub(super) fn make_data_dir(dir: &Path, dev: bool) -> Result<(), Failure> {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|error| {
        let mend = match error.kind() {
            StorageFull | QuotaExceeded => full(dir, dev),
            _ => elsewhere("/another", dev),
        };
        Failure::new(format!("data directory {} cannot be made: {error}{mend}", dir.display()))
    })
}
