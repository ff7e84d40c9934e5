//! Keys that stand at a URL: fetched by one task, kept while the URL is away, asked for again when a token names one that is not there.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use heddle_client::{Address, Trust};
use heddle_model::Clock;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::keys::{Key, Set};

/// After a failure it is tried again so soon, then twice as late each time, up to the period.
const AGAIN_MS: u64 = 500;

/// Where keys are, and how they are fetched. Times in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwksConfig {
    /// `https://`, or `http://` on loopback.
    pub url: String,
    /// Authorities that its certificate must be of; none: those of the system.
    pub ca: Option<PathBuf>,
    /// How often they are fetched.
    pub refresh_ms: u64,
    /// For an unknown `kid` they are fetched at most once in so long.
    pub unknown_ms: u64,
    /// How long one fetch may take.
    pub deadline_ms: u64,
    /// The longest answer.
    pub bytes_max: usize,
}

/// Where a URL leads: to whom, and what is asked for.
#[derive(Debug)]
struct Place {
    address: Address,
    host: String,
    path: String,
}

impl JwksConfig {
    /// Is it a URL that keys may be fetched from?
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        self.place().map(drop)
    }

    fn place(&self) -> Result<Place, String> {
        let uri: Uri = self.url.parse().map_err(|error| format!("{:?} is not a URL: {error}", self.url))?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(format!("{:?} is not a URL with a host", self.url));
        };
        if authority.as_str().contains('@') {
            return Err("holds a user or a password, which is not sent".to_owned());
        }
        let host = authority.host();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let loopback = bare == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        let address = match scheme {
            "https" => {
                let trust = self.ca.clone().map_or(Trust::System, Trust::File);
                let port = authority.port_u16().unwrap_or(443);
                Address::tls(format!("{host}:{port}"), &trust).map_err(|error| error.to_string())?
            }
            "http" if loopback => Address::from(format!("{host}:{}", authority.port_u16().unwrap_or(80))),
            "http" => return Err(format!("{:?} is not https, and {host} is not loopback", self.url)),
            other => return Err(format!("{:?} is of the kind {other:?}, write https://", self.url)),
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Place { address, host: authority.to_string(), path })
    }
}

/// The keys of one URL. Its task ends with it.
pub(super) struct RemoteKeys {
    shared: Arc<Shared>,
    _ends: DropGuard,
}

struct Shared {
    config: JwksConfig,
    place: Place,
    clock: Arc<dyn Clock>,
    /// None: not there yet.
    keys: ArcSwapOption<Vec<Key>>,
    /// Fetches that came to an end.
    fetches: watch::Sender<u64>,
    wake: Notify,
    /// One is under way.
    fetching: AtomicBool,
    /// When an unknown `kid` made it fetch last, on the monotonic clock, and the fetch that answers it.
    asked: Mutex<Option<(Duration, u64)>>,
}

impl RemoteKeys {
    /// Begins to fetch.
    pub(super) fn start(config: &JwksConfig, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let ends = CancellationToken::new();
        let shared = Arc::new(Shared {
            place: config.place()?,
            config: config.clone(),
            clock,
            keys: ArcSwapOption::empty(),
            fetches: watch::Sender::new(0),
            wake: Notify::new(),
            fetching: AtomicBool::new(false),
            asked: Mutex::default(),
        });
        tokio::spawn(keep(Arc::clone(&shared), ends.clone()));
        Ok(Self { shared, _ends: ends.drop_guard() })
    }

    pub(super) fn config(&self) -> &JwksConfig {
        &self.shared.config
    }

    /// What there is now; none: the first set has not come yet.
    pub(super) fn keys(&self) -> Option<Arc<Vec<Key>>> {
        self.shared.keys.load_full()
    }

    /// A token names a key that is not there: waits for a fetch that begins now, or that another such token began; false if it is too soon for one.
    pub(super) async fn look_again(&self) -> bool {
        let shared = &self.shared;
        let mut fetches = shared.fetches.subscribe();
        let now = shared.clock.monotonic();
        let awaited = {
            let (mut asked, done) = (shared.asked.lock(), *fetches.borrow());
            let soon = Duration::from_millis(shared.config.unknown_ms);
            match *asked {
                Some((_, answer)) if done < answer => answer,
                Some((at, _)) if now.saturating_sub(at) < soon => return false,
                _ => {
                    // One that is under way may have been answered before the key was there.
                    let answer = done + 1 + u64::from(shared.fetching.load(Ordering::Acquire));
                    *asked = Some((now, answer));
                    shared.wake.notify_one();
                    answer
                }
            }
        };
        let patience = Duration::from_millis(shared.config.deadline_ms);
        let waited = tokio::time::timeout(patience, fetches.wait_for(|done| *done >= awaited)).await;
        waited.is_ok_and(|done| done.is_ok())
    }
}

async fn keep(shared: Arc<Shared>, ends: CancellationToken) {
    let mut failures = 0u32;
    loop {
        let deadline = Duration::from_millis(shared.config.deadline_ms);
        shared.fetching.store(true, Ordering::Release);
        let fetched = tokio::select! {
            () = ends.cancelled() => return,
            fetched = tokio::time::timeout(deadline, shared.fetch()) => fetched,
        };
        let fetched = fetched.unwrap_or_else(|_| Err(format!("no answer within {} ms", deadline.as_millis())));
        let pause_ms = match fetched {
            Ok(set) => {
                metrics::counter!("heddle_jwks_fetches_total", "outcome" => "ok").increment(1);
                metrics::gauge!("heddle_jwks_keys").set(set.keys.len() as f64);
                metrics::gauge!("heddle_jwks_fetched_timestamp_seconds").set(shared.clock.now() as f64 / 1_000.0);
                for why in &set.broken {
                    tracing::warn!(url = shared.config.url, why, "a key is left out");
                }
                if failures > 0 {
                    tracing::info!(url = shared.config.url, "keys are fetched again");
                }
                failures = 0;
                shared.keys.store(Some(Arc::new(set.keys)));
                shared.config.refresh_ms
            }
            Err(reason) => {
                metrics::counter!("heddle_jwks_fetches_total", "outcome" => "failed").increment(1);
                if failures == 0 {
                    let kept = shared.keys.load().as_ref().map_or(0, |keys| keys.len());
                    tracing::warn!(
                        url = shared.config.url,
                        reason,
                        kept,
                        "keys cannot be fetched: those of before count"
                    );
                }
                failures = failures.saturating_add(1);
                (AGAIN_MS << failures.min(16)).min(shared.config.refresh_ms)
            }
        };
        shared.fetching.store(false, Ordering::Release);
        shared.fetches.send_modify(|fetches| *fetches += 1);
        tokio::select! {
            () = ends.cancelled() => return,
            () = shared.wake.notified() => {}
            () = tokio::time::sleep(Duration::from_millis(pause_ms)) => {}
        }
    }
}

impl Shared {
    /// One request, without redirects: keys are believed for the name that was configured.
    async fn fetch(&self) -> Result<Set, String> {
        let Place { address, host, path } = &self.place;
        // What is said there is for the command line.
        let away = |error: std::io::Error| error.to_string().replace("--ca FILE", "auth.jwks_ca");
        let stream = address.connect().await.map_err(away)?;
        let failed = |error: hyper::Error| error.to_string();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
        let request = Request::get(path.as_str())
            .header("host", host)
            .header("accept", "application/jwk-set+json, application/json")
            .header("user-agent", concat!("heddle/", env!("CARGO_PKG_VERSION")))
            .body(Empty::<Bytes>::new())
            .map_err(|error| error.to_string())?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(failed)?;
            if response.status() != StatusCode::OK {
                return Err(format!("the answer is {}", response.status()));
            }
            let body = Limited::new(response.into_body(), self.config.bytes_max).collect().await;
            let body = body.map_err(|error| format!("the answer cannot be read to its end: {error}"))?.to_bytes();
            let text = std::str::from_utf8(&body).map_err(|_| "the answer is not UTF-8".to_owned())?;
            Set::public(text)
        };
        // Both on this task: nothing of it is left behind if it is given up.
        tokio::pin!(connection);
        tokio::pin!(exchange);
        tokio::select! {
            done = &mut exchange => done,
            ended = &mut connection => match ended {
                Ok(()) => exchange.as_mut().await,
                Err(error) => Err(error.to_string()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(url: &str) -> Result<Place, String> {
        let url = url.to_owned();
        let config = JwksConfig { url, ca: None, refresh_ms: 1, unknown_ms: 1, deadline_ms: 1, bytes_max: 1 };
        config.place()
    }

    #[test]
    fn keys_come_by_https_or_from_loopback_only() {
        for good in ["http://127.0.0.1:8080/jwks.json?a=b", "http://localhost/keys", "http://[::1]:9/"] {
            assert!(at(good).is_ok(), "{good}");
        }
        assert_eq!(at("http://127.0.0.1:8080/jwks.json?a=b").unwrap().path, "/jwks.json?a=b");
        for bad in ["http://id.example/keys", "ftp://id.example/", "id.example", "/keys", "http://a:b@127.0.0.1/", "ä"]
        {
            assert!(at(bad).is_err(), "{bad}");
        }
    }
}
