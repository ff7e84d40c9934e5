//! A server that is built anew within its process: its log failed, or was cut into another number of partitions.
//!
//! A log that failed is opened as at any start: its last frame is written again and synced before anything is read, for what the kernel shows after a
//! failed sync may not be on the medium, to this process as little as to the next.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use heddle_model::{Clock as _, SystemClock};
use metrics_exporter_prometheus::PrometheusHandle;

use crate::config::Config;
use crate::failure::Failure;
use crate::ready::Ready;
use crate::reload::Reloader;
use crate::serve::{End, Stop, Wish, announce, kept, tell, until_stopped};
use crate::server::Server;

/// The longest pause before a reopening.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// What the next server is built from.
pub(crate) struct Again<'a> {
    wish: &'a Wish,
    metrics: PrometheusHandle,
    reloader: Arc<Reloader>,
    client: Option<SocketAddr>,
    admin: SocketAddr,
    clock: SystemClock,
    reopenings: Reopenings,
}

impl<'a> Again<'a> {
    /// `ready`: the addresses that people know.
    pub(crate) fn new(wish: &'a Wish, ready: &Ready, metrics: PrometheusHandle, reloader: Arc<Reloader>) -> Self {
        let reopenings = Reopenings::new(&wish.config);
        let (client, admin) = (ready.client, ready.admin);
        Self { wish, metrics, reloader, client, admin, clock: SystemClock::new(), reopenings }
    }

    /// Serves, with one server after another, until told to stop.
    ///
    /// # Errors
    /// A server cannot be built anew.
    pub(crate) async fn run(mut self, mut server: Server, stop: &mut Stop) -> Result<(), Failure> {
        loop {
            let (built, what) = match until_stopped(self.wish, server, stop).await {
                End::Stopped => return Ok(()),
                End::Cut(partitions) => (self.build(stop).await?, format!("the log has {partitions} partitions now")),
                End::LogFailed(reason) => {
                    (self.reopen(reason, stop).await?, "the log was opened anew from disk".to_owned())
                }
            };
            let Some(next) = built else { return Ok(()) };
            server = next;
            server.serve();
            announce(self.wish, &server, self.clock.monotonic())?;
            tell(self.wish, &format!("serving again: {what}"));
        }
    }

    /// The next server, at the addresses that people know, whatever port the configuration leaves open. None: told to stop meanwhile.
    async fn build(&self, stop: &mut Stop) -> Result<Option<Server>, Failure> {
        let mut config = self.reloader.in_force();
        config.gateway.listen = self.client.unwrap_or(config.gateway.listen);
        config.admin.listen = self.admin;
        let reloader = Arc::clone(&self.reloader);
        tokio::select! {
            built = Server::build(&config, &self.wish.terms, self.metrics.clone(), reloader) => built.map(Some),
            () = stop.asked() => Ok(None),
        }
    }

    /// The next server on the same disk, after longer and longer pauses.
    async fn reopen(&mut self, mut reason: String, stop: &mut Stop) -> Result<Option<Server>, Failure> {
        loop {
            let Some(pause) = self.reopenings.next(self.clock.monotonic()) else {
                return Err(Failure::new(format!(
                    "the log is closed: {reason}. It was opened anew {} times within {} s. Everything acknowledged is {}; look after the disk, then start again",
                    self.reopenings.max,
                    self.reopenings.window.as_secs(),
                    kept(&self.wish.config),
                )));
            };
            tell(self.wish, &format!("{reason}: opening the log anew from disk in {} ms", pause.as_millis()));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.asked() => return Ok(None),
            }
            metrics::counter!("heddle_log_reopened_total").increment(1);
            match self.build(stop).await {
                Ok(server) => return Ok(server),
                Err(failure) => reason = failure.text,
            }
        }
    }
}

/// How often it was tried, and when.
struct Reopenings {
    max: usize,
    window: Duration,
    delay: Duration,
    at: Vec<Duration>,
}

impl Reopenings {
    fn new(config: &Config) -> Self {
        let section = &config.log;
        Self {
            max: usize::try_from(section.reopen_max).unwrap_or(usize::MAX),
            window: section.reopen_window.0,
            delay: section.reopen_delay.0,
            at: Vec::new(),
        }
    }

    /// The pause before the next; none: it was tried often enough.
    fn next(&mut self, now: Duration) -> Option<Duration> {
        self.at.retain(|at| now.saturating_sub(*at) < self.window);
        if self.at.len() >= self.max {
            return None;
        }
        let doubled = 1_u32.checked_shl(u32::try_from(self.at.len()).unwrap_or(u32::MAX)).unwrap_or(u32::MAX);
        self.at.push(now);
        Some(self.delay.saturating_mul(doubled).min(PAUSE_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn each_reopening_waits_longer_and_one_too_many_within_the_window_is_none() {
        let mut tries = Reopenings { max: 3, window: 60 * SECOND, delay: SECOND, at: Vec::new() };
        let pauses: Vec<_> = (0..4).map(|at| tries.next(at * SECOND)).collect();
        assert_eq!(pauses, [Some(SECOND), Some(2 * SECOND), Some(4 * SECOND), None]);
        // What held for the window counts no more.
        assert_eq!(tries.next(61 * SECOND), Some(2 * SECOND));
        assert_eq!(tries.next(61 * SECOND), Some(4 * SECOND));
        assert_eq!(tries.next(61 * SECOND), None);
    }

    #[test]
    fn none_at_all_is_none_at_once_and_no_pause_is_without_bound() {
        let mut never = Reopenings { max: 0, window: SECOND, delay: SECOND, at: Vec::new() };
        assert_eq!(never.next(SECOND), None);
        let mut often = Reopenings { max: 100, window: 60 * SECOND, delay: SECOND, at: Vec::new() };
        assert_eq!((0..70).filter_map(|_| often.next(SECOND)).max(), Some(PAUSE_MAX));
    }
}
