//! Stores on something that breaks and is mended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use heddle_model::SystemClock;
use heddle_store::{PostgresConfig, PostgresShards, PostgresStore, SqliteStore, Store, StoreConfig, StoreError};
use heddle_test_servers::{Postgres, or_skip};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{Connection as _, Executor as _};
use tokio::sync::{Barrier, MutexGuard};

use crate::fixture::home;

/// Rules that share an outage.
const RULES: usize = 3;
/// What takes longer hangs: far above every deadline.
const LATE: Duration = Duration::from_secs(30);
/// Between two looks at a condition.
pub(super) const LOOK: Duration = Duration::from_millis(10);

/// The one server that outages break; one at a time has it.
static SERVER: tokio::sync::Mutex<Option<Postgres>> = tokio::sync::Mutex::const_new(None);

/// A store, and a way to break what it stands on.
pub(super) struct Stage {
    pub(super) store: Store,
    ground: tokio::sync::Mutex<Ground>,
    met: Barrier,
    away: AtomicBool,
    /// All of it is away: nothing can be read.
    pub(super) all: bool,
}

enum Ground {
    /// Somebody else writes, and does not come to an end.
    Locked {
        other: SqliteConnection,
        _directory: tempfile::TempDir,
    },
    Stopped(MutexGuard<'static, Option<Postgres>>),
    Frozen(MutexGuard<'static, Option<Postgres>>),
}

/// With little patience, for every call waits that long for a server that stands still.
fn config(url: String) -> PostgresConfig {
    PostgresConfig { connections_max: 4, deadline: Duration::from_millis(1_000), ..PostgresConfig::at(url) }
}

/// The server that will break, running.
async fn server() -> Option<MutexGuard<'static, Option<Postgres>>> {
    let mut held = SERVER.lock().await;
    match &mut *held {
        // An outage that failed may have left it as it was.
        Some(server) => tokio::task::block_in_place(|| {
            server.resume();
            server.stop();
            server.launch();
        }),
        none => *none = Some(or_skip(tokio::task::block_in_place(Postgres::start))?),
    }
    Some(held)
}

impl Stage {
    pub(super) async fn while_its_file_is_locked_by_somebody() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.db");
        let store = SqliteStore::open(StoreConfig::at(&path), Arc::new(SystemClock::new())).await.unwrap().store();
        let options = SqliteConnectOptions::new().filename(&path).busy_timeout(LATE);
        let other = SqliteConnection::connect_with(&options).await.unwrap();
        Some(Self::on(store, Ground::Locked { other, _directory: directory }, false))
    }

    pub(super) async fn while_its_server_is_stopped() -> Option<Self> {
        Self::on_postgres(Ground::Stopped).await
    }

    pub(super) async fn while_its_server_stands_still() -> Option<Self> {
        Self::on_postgres(Ground::Frozen).await
    }

    async fn on_postgres(ground: fn(MutexGuard<'static, Option<Postgres>>) -> Ground) -> Option<Self> {
        let server = server().await?;
        let config = config(server.as_ref()?.database());
        let store = PostgresStore::open(config, Arc::new(SystemClock::new())).await.unwrap().store();
        Some(Self::on(store, ground(server), true))
    }

    pub(super) async fn while_one_of_them_is_stopped() -> Option<Self> {
        let (here, server) = (or_skip(Postgres::shared())?, server().await?);
        let shards = [here.database(), server.as_ref()?.database()];
        Self::on_shards(here.database(), shards, server).await
    }

    pub(super) async fn while_the_main_one_is_stopped() -> Option<Self> {
        let (here, server) = (or_skip(Postgres::shared())?, server().await?);
        let main = server.as_ref()?.database();
        Self::on_shards(main, [here.database(), here.database()], server).await
    }

    async fn on_shards(
        main: String,
        shards: [String; 2],
        server: MutexGuard<'static, Option<Postgres>>,
    ) -> Option<Self> {
        let shards = shards.into_iter().map(config).collect();
        let opened = PostgresShards::open(config(main), shards, Arc::new(SystemClock::new())).await.unwrap();
        Some(Self::on(opened.store(), Ground::Stopped(server), false))
    }

    fn on(store: Store, ground: Ground, all: bool) -> Self {
        let ground = tokio::sync::Mutex::new(ground);
        Self { store, ground, met: Barrier::new(RULES), away: AtomicBool::new(false), all }
    }

    /// Somebody for a rule, at home in a partition of their own; where there are two shards, of the second.
    pub(super) fn user(&self, rule: u32) -> String {
        (0..).map(|n| format!("u{n}")).find(|name| home(name).partition == 2 * rule + 1).unwrap()
    }

    /// Waits for all rules, and breaks what the store stands on.
    pub(super) async fn broken(&self) {
        if self.met.wait().await.is_leader() {
            match &mut *self.ground.lock().await {
                Ground::Locked { other, .. } => drop(other.execute("BEGIN IMMEDIATE").await.unwrap()),
                Ground::Stopped(server) => tokio::task::block_in_place(|| server.as_mut().unwrap().stop()),
                Ground::Frozen(server) => server.as_ref().unwrap().pause(),
            }
            self.away.store(true, Ordering::SeqCst);
        }
        self.met.wait().await;
    }

    /// Waits for all rules, and mends it.
    pub(super) async fn mended(&self) {
        if self.met.wait().await.is_leader() {
            match &mut *self.ground.lock().await {
                Ground::Locked { other, .. } => drop(other.execute("ROLLBACK").await.unwrap()),
                Ground::Stopped(server) => tokio::task::block_in_place(|| server.as_mut().unwrap().launch()),
                Ground::Frozen(server) => server.as_ref().unwrap().resume(),
            }
            self.away.store(false, Ordering::SeqCst);
        }
        self.met.wait().await;
    }

    /// What comes in time.
    pub(super) async fn timed<T>(&self, what: &str, future: impl Future<Output = T>) -> T {
        let Ok(answer) = tokio::time::timeout(LATE, future).await else { panic!("it hangs: {what}") };
        answer
    }

    /// A call that may be refused, in time, only because the store is away.
    pub(super) async fn tried<T>(&self, what: &str, call: impl Future<Output = Result<T, StoreError>>) -> Option<T> {
        match self.timed(what, call).await {
            Ok(answer) => Some(answer),
            Err(StoreError::Unavailable { .. }) => None,
            Err(error) => panic!("{what}: {error}"),
        }
    }

    /// As whoever must get it done: again and again.
    pub(super) async fn stubbornly<T>(&self, what: &str, call: impl AsyncFn() -> Result<T, StoreError>) -> T {
        let again = async {
            loop {
                if let Some(done) = self.tried(what, call()).await {
                    return done;
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        self.timed(what, again).await
    }

    /// Waits until something holds.
    pub(super) async fn until(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let holds = async {
            while !holds().await {
                tokio::time::sleep(LOOK).await;
            }
        };
        self.timed(what, holds).await;
    }
}
