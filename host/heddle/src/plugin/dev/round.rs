//! One save: build, cases, deploy.

use std::path::{Path, PathBuf};

use heddle_model::{Clock as _, SystemClock};
use heddle_pack::Packed;
use heddle_wasm::Engine;
use hyper::Method;
use hyper::body::Bytes;

use super::shown::Event;
use crate::admin::quoted;
use crate::failure::Failure;
use crate::plugin::args::AskArgs;
use crate::plugin::cases::{self, Tried};
use crate::plugin::change::answer;
use crate::plugin::sign::{self, Key};
use crate::plugin::source::Source;

/// What is known between saves.
pub struct Round<'a> {
    dir: PathBuf,
    ask: &'a AskArgs,
    /// Signs each file.
    key: Option<Key>,
    engine: Engine,
    clock: SystemClock,
    /// The generation that decided before the first save.
    first: u64,
    /// The one that decides as far as is known, and the digest that was deployed last.
    serving: (u64, Option<String>),
}

impl<'a> Round<'a> {
    /// Nothing is deployed yet.
    ///
    /// # Errors
    /// There can be no engine here.
    pub fn new(dir: &Path, ask: &'a AskArgs, key: Option<Key>, first: u64) -> Result<Self, Failure> {
        let clock = SystemClock::new();
        Ok(Self { dir: dir.to_owned(), ask, key, engine: cases::engine()?, clock, first, serving: (first, None) })
    }

    /// From a save to what decides then. `saved_at`: milliseconds since 1970.
    pub async fn run(&mut self, saved_at: u64) -> Event {
        match self.attempt(saved_at).await {
            Ok(event) | Err(event) => event,
        }
    }

    async fn attempt(&mut self, saved_at: u64) -> Result<Event, Event> {
        let start = self.clock.monotonic();
        let since = |clock: &SystemClock| (clock.monotonic() - start).as_secs_f64();
        let packed = self.build().await.map_err(|text| self.stays(text))?;
        let built = since(&self.clock);
        if self.serving.1.as_ref() == Some(&packed.digest) && self.serves(&packed.digest).await {
            return Ok(Event::Same { generation: self.serving.0, digest: packed.digest });
        }
        let tried = self.try_cases(packed.clone()).await.map_err(|text| self.stays(text))?;
        let failed: Vec<String> = tried.iter().filter(|case| !case.passed()).map(Tried::line).collect();
        if !failed.is_empty() {
            return Err(self.stays(format!("{} of {} case(s) fail\n{}", failed.len(), tried.len(), failed.join("\n"))));
        }
        let proved = since(&self.clock);
        let (generation, before) = self.deploy(&packed, saved_at).await.map_err(|failure| self.stays(failure.text))?;
        self.serving = (generation, Some(packed.digest.clone()));
        let seconds = self.clock.now().saturating_sub(saved_at) as f64 / 1e3;
        Ok(Event::Serving {
            generation,
            before,
            digest: packed.digest,
            cases: tried.len(),
            seconds,
            build: built,
            prove: proved - built,
            swap: since(&self.clock) - proved,
        })
    }

    fn stays(&self, text: String) -> Event {
        Event::Stays { generation: self.serving.0, text }
    }

    async fn build(&self) -> Result<Packed, String> {
        let dir = self.dir.clone();
        let built = tokio::task::spawn_blocking(move || {
            let source = Source::build(&dir, None).map_err(|failure| failure.text)?;
            heddle_pack::unpack(source.bytes).map_err(|error| error.to_string())
        });
        built.await.map_err(|error| error.to_string())?
    }

    async fn try_cases(&self, packed: Packed) -> Result<Vec<Tried>, String> {
        let engine = self.engine.clone();
        let tried = tokio::task::spawn_blocking(move || cases::try_all(&engine, &packed));
        tried.await.map_err(|error| error.to_string())?
    }

    /// Does the server still decide with it? Somebody may have gone back.
    async fn serves(&self, digest: &str) -> bool {
        let answered = answer(self.ask, Method::GET, "/policies", Bytes::new()).await;
        answered.is_ok_and(|found| found["policies"].as_array().into_iter().flatten().any(|it| it["digest"] == digest))
    }

    /// The generation that decides then, and the one before.
    async fn deploy(&self, packed: &Packed, saved_at: u64) -> Result<(u64, u64), Failure> {
        let saved = std::time::UNIX_EPOCH + std::time::Duration::from_millis(saved_at);
        // `heddle chat` reads the moment out of it, and says how long it took.
        let why = format!("{} {}", crate::chat::SAVED_AT, humantime::format_rfc3339_millis(saved));
        let file = format!("{}.wasm", packed.manifest.name);
        let mut path = format!("/policies/plugins?file={}&why={}", quoted(&file), quoted(&why));
        if let Some(key) = &self.key {
            path.push_str("&signature=");
            path.push_str(&quoted(&sign::signature(packed, key)?));
        }
        let bytes = Bytes::copy_from_slice(&packed.bytes);
        let changed = answer(self.ask, Method::POST, &path, bytes).await?;
        let number = |key: &str| changed[key].as_u64().unwrap_or_default();
        Ok((number("generation"), number("before")))
    }

    /// At the end: what stays, or goes back.
    ///
    /// # Errors
    /// The server does not go back.
    pub async fn end(&self, restore: bool) -> Result<Event, Failure> {
        let (generation, first) = (self.serving.0, self.first);
        if !restore || self.serving.1.is_none() {
            return Ok(Event::Ended { generation, first, restored: None });
        }
        let path = format!("/policies/rollback?to={first}&why={}", quoted("plugin dev has ended"));
        let changed = answer(self.ask, Method::POST, &path, Bytes::new()).await?;
        Ok(Event::Ended { generation, first, restored: changed["generation"].as_u64() })
    }
}
