//! How brokers are believed, how we prove ourselves to them, and what it means when that fails.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::{ClientConfig, ClientContext};

use super::config::KafkaConfig;
use super::pem::{KafkaTls, Pem};
use super::topics::KafkaOpenError;

/// The longest that one question for the brokers' list takes, and how many are asked at start before nobody answers.
pub(crate) const ASK: Duration = Duration::from_millis(500);
pub(crate) const ASKS: usize = 20;
/// How long, and how often, what was said meanwhile is collected.
const EVENTS: Duration = Duration::from_millis(50);
const EVENTS_MAX: usize = 20;
/// So many times in a row, and whoever refuses us means it.
const REFUSALS: usize = 4;

/// How a password is proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KafkaSasl {
    /// By telling it.
    Plain,
    /// Without telling it. (RFC 7677)
    ScramSha256,
    /// As before, with a longer digest.
    ScramSha512,
}

impl KafkaSasl {
    fn mechanism(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// Who we are to brokers that ask.
#[derive(Clone, PartialEq, Eq)]
pub struct KafkaLogin {
    /// How it is proved.
    pub sasl: KafkaSasl,
    /// The user.
    pub user: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for KafkaLogin {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaLogin").field("sasl", &self.sasl).field("user", &self.user).finish_non_exhaustive()
    }
}

/// What librdkafka is told of it.
pub(crate) fn secure(settings: &mut ClientConfig, tls: Option<&KafkaTls>, login: Option<&KafkaLogin>) {
    let protocol = match (tls, login) {
        (None, None) => "plaintext",
        (Some(_), None) => "ssl",
        (None, Some(_)) => "sasl_plaintext",
        (Some(_), Some(_)) => "sasl_ssl",
    };
    settings.set("security.protocol", protocol);
    if let Some(tls) = tls {
        settings
            .set("enable.ssl.certificate.verification", "true")
            .set("ssl.endpoint.identification.algorithm", "https");
        // What was read, not where it stands: a client that is made later has the same.
        match &tls.ca {
            Some(ca) => settings.set("ssl.ca.pem", ca.text()),
            // OpenSSL is linked in, and does not know where this system keeps its authorities.
            None => settings.set("ssl.ca.location", "probe"),
        };
        if let Some((certificate, key)) = &tls.identity {
            settings.set("ssl.certificate.pem", certificate.text()).set("ssl.key.pem", key.text());
        }
    }
    if let Some(login) = login {
        settings
            .set("sasl.mechanisms", login.sasl.mechanism())
            .set("sasl.username", &login.user)
            .set("sasl.password", &login.password);
    }
}

/// Is it of those that no waiting mends?
pub(crate) fn is_refusal(error: &KafkaError) -> bool {
    matches!(error.rdkafka_error_code(), Some(Code::SSL | Code::Authentication))
}

/// Keeps the last thing that went wrong between a broker and us.
#[derive(Default)]
struct Ear {
    last: Mutex<Option<String>>,
    /// A broker took a connection, and ended it.
    ended: AtomicBool,
}

impl ClientContext for Ear {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(facility, message, "librdkafka");
        // That is no error to librdkafka, and comes in its log alone.
        if message.contains("Disconnected") {
            self.ended.store(true, Ordering::Relaxed);
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "librdkafka");
        if error.rdkafka_error_code() != Some(Code::AllBrokersDown) {
            *self.last.lock() = Some(reason.to_owned());
        }
    }
}

impl ConsumerContext for Ear {}

/// Waits until a broker lets us in; if none does after so many questions, says why. Blocks.
pub(crate) fn arrive(config: &KafkaConfig, asks: usize) -> Result<(), KafkaOpenError> {
    let mut settings = config.reader();
    settings.set_log_level(RDKafkaLogLevel::Info).set("log.connection.close", "true");
    let consumer: BaseConsumer<Ear> =
        settings.create_with_context(Ear::default()).map_err(|error| unusable(config, error))?;
    let mut refused = 0;
    let mut last = KafkaError::Canceled;
    for _ in 0..asks {
        match consumer.fetch_metadata(None, ASK) {
            Ok(_) => return Ok(()),
            Err(error) => last = error,
        }
        // What went wrong comes as events.
        for _ in 0..EVENTS_MAX {
            if consumer.poll(EVENTS).is_none() {
                break;
            }
        }
        let reason = consumer.context().last.lock().clone();
        refused =
            if reason.as_deref().is_some_and(|reason| remedy(config, reason).is_some()) { refused + 1 } else { 0 };
        if refused == REFUSALS {
            break;
        }
    }
    let brokers = config.brokers.clone();
    let reason = consumer.context().last.lock().take();
    Err(match reason.map(|reason| (remedy(config, &reason), reason)) {
        Some((Some(Remedy { key, remedy, certificate }), reason)) => {
            KafkaOpenError::Refused { brokers, key, reason: plainly(&reason), remedy, certificate }
        }
        _ if consumer.context().ended.load(Ordering::Relaxed) => KafkaOpenError::Ended { brokers, source: last },
        _ => KafkaOpenError::Unreachable { brokers, source: last },
    })
}

/// Files and settings that librdkafka does not take.
fn unusable(config: &KafkaConfig, error: KafkaError) -> KafkaOpenError {
    match (&config.tls, &error) {
        (Some(_), KafkaError::ClientCreation(reason)) if reason.contains("ssl.") => KafkaOpenError::Refused {
            brokers: config.brokers.clone(),
            key: if reason.contains("ssl.ca.") { "kafka.tls_ca" } else { "kafka.tls_certificate" },
            reason: reason.clone(),
            remedy: "name files in PEM form".to_owned(),
            certificate: false,
        },
        _ => KafkaOpenError::Setting(error),
    }
}

/// What mends a refusal.
struct Remedy {
    key: &'static str,
    remedy: String,
    /// It is the broker's certificate that was not believed.
    certificate: bool,
}

/// By the words of librdkafka, which has no codes for these.
fn remedy(config: &KafkaConfig, reason: &str) -> Option<Remedy> {
    let has = |words: &str| reason.contains(words);
    let mend = |key, remedy: String| Some(Remedy { key, remedy, certificate: false });
    let mine = config.tls.as_ref().and_then(|tls| tls.identity.as_ref());
    if has("certificate could not be verified") || has("certificate verify failed") {
        let ca = config.tls.as_ref().and_then(|tls| tls.ca.as_ref()).map(Pem::path);
        let believed = ca.map_or("the system's authorities".to_owned(), |path| format!("the authorities in {path:?}"));
        let remedy = format!(
            "it must be of {believed}, of today, and for the host that kafka.brokers or the broker itself names"
        );
        return Some(Remedy { key: "kafka.tls_ca", remedy, certificate: true });
    }
    // Which of them comes depends on whether the end of the connection is read or polled for first.
    if has("PLAINTEXT broker listener") || (has("Disconnected: ") && has("in state SSL_HANDSHAKE")) {
        return mend(
            "kafka.tls",
            "is true, and this port does not speak TLS: name the port that does in kafka.brokers".to_owned(),
        );
    }
    if has("client SSL authentication might be required") || has("certificate required") || has("alert number") {
        return mend(
            "kafka.tls_certificate",
            match mine {
                Some((certificate, _)) => format!(
                    "the broker does not take {:?}: name a certificate of an authority that it believes",
                    certificate.path()
                ),
                None => "is empty, and the broker wants to see a certificate: name one that it believes, and its key"
                    .to_owned(),
            },
        );
    }
    // A broker that is late, or goes, is one to wait for: it has refused nobody.
    if has("mechanism handshake failed: Local: ") || has("SaslAuthenticateRequest failed: Local: ") {
        return None;
    }
    if has("Unsupported SASL mechanism") || has("mechanism handshake failed") {
        return mend("kafka.sasl", "name a mechanism that this listener of the broker has".to_owned());
    }
    if has("uthentication fail") || has("SASL authentication error") {
        let user = config.login.as_ref().map_or("", |login| login.user.as_str());
        return mend("kafka.password", format!("correct it or kafka.user {user:?}, or make this user at the brokers"));
    }
    None
}

/// Without what is of librdkafka's settings, which nobody here can write.
fn plainly(reason: &str) -> String {
    let end = [
        ": broker certificate could not",
        ": connecting to a PLAINTEXT",
        ": client SSL auth",
        ": requesting ApiVersion",
        ": verify that",
        " (after ",
    ];
    let end = end.iter().filter_map(|words| reason.find(words)).min().unwrap_or(reason.len());
    reason[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secured(tls: Option<KafkaTls>, login: Option<KafkaLogin>) -> KafkaConfig {
        KafkaConfig { tls, login, ..KafkaConfig::new("kafka:9093", "n1") }
    }

    fn login(sasl: KafkaSasl) -> KafkaLogin {
        KafkaLogin { sasl, user: "heddle".to_owned(), password: "tell nobody".to_owned() }
    }

    #[test]
    fn each_client_is_told_the_same_and_checks_certificates_and_names() {
        let dir = tempfile::tempdir().unwrap();
        let [ca, certificate, key] = ["ca", "certificate", "key"].map(|name| {
            std::fs::write(dir.path().join(name), format!("the {name}")).unwrap();
            dir.path().join(name)
        });
        let tls = KafkaTls::read(Some(ca.clone()), Some((certificate, key))).unwrap();
        // What becomes of a file later is nothing to them.
        std::fs::write(ca, "another").unwrap();
        let config = secured(Some(tls), Some(login(KafkaSasl::ScramSha512)));
        for settings in [config.admin(), config.sender(), config.deriver(), config.reader(), config.member()] {
            for (name, wanted) in [
                ("security.protocol", "sasl_ssl"),
                ("enable.ssl.certificate.verification", "true"),
                ("ssl.endpoint.identification.algorithm", "https"),
                ("ssl.ca.pem", "the ca"),
                ("ssl.certificate.pem", "the certificate"),
                ("ssl.key.pem", "the key"),
                ("sasl.mechanisms", "SCRAM-SHA-512"),
                ("sasl.username", "heddle"),
                ("sasl.password", "tell nobody"),
            ] {
                assert_eq!(settings.get(name), Some(wanted), "{name}");
            }
        }
    }

    #[test]
    fn without_a_file_the_authorities_of_the_system_are_looked_for() {
        let settings = secured(Some(KafkaTls::default()), None).reader();
        assert_eq!(settings.get("security.protocol"), Some("ssl"));
        assert_eq!(settings.get("ssl.ca.location"), Some("probe"));
        assert_eq!(secured(None, None).reader().get("security.protocol"), Some("plaintext"));
        let settings = secured(None, Some(login(KafkaSasl::ScramSha256))).reader();
        assert_eq!(settings.get("security.protocol"), Some("sasl_plaintext"));
    }

    #[test]
    fn the_password_is_not_shown() {
        let shown = format!("{:?}", secured(None, Some(login(KafkaSasl::Plain))));
        assert!(shown.contains("heddle") && !shown.contains("tell nobody"), "{shown}");
    }

    #[test]
    fn what_is_not_a_refusal_is_waited_for() {
        let config = secured(None, None);
        for reason in [
            "Connect to ipv4#127.0.0.1:1 failed: Connection refused",
            "Failed to resolve 'kafka:9093'",
            "SASL SCRAM-SHA-256 mechanism handshake failed: Local: Timed out: broker's supported mechanisms: ",
            "SASL PLAIN mechanism handshake failed: Local: Broker transport failure: broker's supported mechanisms: ",
            "SASL authentication error: SaslAuthenticateRequest failed: Local: Timed out (after 500ms in state AUTH_REQ)",
        ] {
            assert!(remedy(&config, reason).is_none(), "{reason}");
        }
    }

    #[test]
    fn a_port_that_ends_each_handshake_does_not_speak_tls() {
        let config = secured(Some(KafkaTls::default()), None);
        for reason in [
            "ssl://127.0.0.1:1/bootstrap: SSL handshake failed: Disconnected: connection reset by peer: connecting to a PLAINTEXT broker listener?",
            "ssl://127.0.0.1:1/bootstrap: Disconnected: SSL connection closed by peer (after 1ms in state SSL_HANDSHAKE)",
            "ssl://127.0.0.1:1/bootstrap: Disconnected: during SSL connection handshake (after 2ms in state SSL_HANDSHAKE)",
        ] {
            let remedy = remedy(&config, reason).unwrap();
            assert_eq!(remedy.key, "kafka.tls", "{reason}");
            assert!(remedy.remedy.contains("does not speak TLS"), "{}", remedy.remedy);
        }
        let late = "ssl://127.0.0.1:1/bootstrap: Connection setup timed out in state SSL_HANDSHAKE";
        assert!(super::remedy(&config, late).is_none(), "a port that says nothing may be one of a broker that is late");
    }

    #[test]
    fn what_a_broker_says_of_a_login_is_a_refusal() {
        let config = secured(None, Some(login(KafkaSasl::ScramSha256)));
        let key = |reason| remedy(&config, reason).map(|remedy| remedy.key);
        let unknown = "SASL SCRAM-SHA-256 mechanism handshake failed: Broker: Unsupported SASL mechanism: broker's supported mechanisms: PLAIN";
        assert_eq!(key(unknown), Some("kafka.sasl"));
        let wrong = "SASL authentication error: Authentication failed during authentication due to invalid credentials";
        assert_eq!(key(wrong), Some("kafka.password"));
    }
}
