//! Presence by a clock that stands still until it is moved.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use heddle_model::{Clock, ConnectionId, ManualClock, Millis, NodeId, SystemClock, UserId};
use heddle_presence::{
    Event, Mark, Observation, Presence, PresenceConfig, PresenceError, PresencePolicy, PresenceSink, Relations, Report,
    ReportKind, Sighting, Socket, Status, Update, Visibility, Visible, relation,
};
use parking_lot::Mutex;

const START: Millis = 1_700_000_000_000;

/// The rules of the first-party policy, in short: idle 5 minutes: away; nobody connected for 10 seconds: offline.
#[derive(Default)]
struct Rules {
    asked: Mutex<Vec<(String, Event, u32)>>,
}

impl PresencePolicy for Rules {
    fn observe(&self, asked: &Observation<'_>) -> Sighting {
        self.asked.lock().push((asked.user.to_string(), asked.event, asked.connections));
        let (status, recheck_ms) = match asked {
            _ if asked.connections == 0 && asked.event == Event::Disconnected => (asked.previous, 10_000),
            _ if asked.connections == 0 => (Status::Offline, 0),
            _ if asked.declared.is_some() => (asked.declared.unwrap_or(Status::Online), 0),
            _ if asked.idle_ms >= 300_000 => (Status::Away, 0),
            _ => (Status::Online, 300_000 - asked.idle_ms),
        };
        Sighting { status, announce: status != asked.previous, recheck_ms }
    }

    fn reveal(&self, _now: Millis, _subject: &UserId, relations: &[u8]) -> Vec<Visibility> {
        let one = |bits: &u8| match bits {
            // A careless one: it does not ask who blocks whom.
            bits if bits & relation::CONTACT != 0 => Visibility::StatusAndLastSeen,
            bits if bits & relation::SHARES_A_GROUP != 0 => Visibility::StatusOnly,
            _ => Visibility::Nothing,
        };
        relations.iter().map(one).collect()
    }
}

/// A viewer's name says what it is to everybody.
struct ByName {
    away: bool,
    /// Everybody blocks everybody.
    apart: AtomicBool,
    asked: AtomicUsize,
}

#[async_trait]
impl Relations for ByName {
    async fn relations(&self, _subject: &UserId, viewers: &[UserId]) -> Option<Vec<u8>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let bits = |viewer: &UserId| match viewer.as_str().split('-').next() {
            Some("friend") => relation::CONTACT,
            Some("peer") => relation::SHARES_A_GROUP,
            Some("blocked") => relation::BLOCKED | relation::CONTACT,
            _ => 0,
        };
        let apart = if self.apart.load(Ordering::SeqCst) { relation::BLOCKED } else { 0 };
        (!self.away).then(|| viewers.iter().map(|viewer| bits(viewer) | apart).collect())
    }

    async fn last_seen(&self, user: &UserId) -> Option<Millis> {
        (user.as_str() == "archived").then_some(START - 5_000)
    }
}

#[derive(Default)]
struct Updates(Mutex<Vec<Update>>);

impl PresenceSink for Updates {
    fn update(&self, update: Update) {
        self.0.lock().push(update);
    }
}

struct World {
    presence: Presence,
    clock: Arc<ManualClock>,
    rules: Arc<Rules>,
    relations: Arc<ByName>,
    updates: Arc<Updates>,
}

impl World {
    fn with(config: PresenceConfig, away: bool) -> Self {
        let clock = Arc::new(ManualClock::at(START));
        let rules = Arc::new(Rules::default());
        let relations = Arc::new(ByName { away, apart: AtomicBool::new(false), asked: AtomicUsize::new(0) });
        let updates = Arc::new(Updates::default());
        let presence = Presence::still(config, rules.clone(), relations.clone(), updates.clone(), clock.clone());
        Self { presence, clock, rules, relations, updates }
    }

    fn new() -> Self {
        Self::with(PresenceConfig::default(), false)
    }

    async fn report(&self, name: &str, connection: u64, kind: ReportKind) {
        self.presence.report(&user(name), &Report { socket: socket(connection), mark: Mark::default(), kind });
        self.presence.step().await;
    }

    async fn pass(&self, span: Millis) {
        self.clock.advance(span);
        self.presence.step().await;
    }

    async fn status(&self, name: &str) -> Status {
        self.see("friend", name).await.status
    }

    async fn see(&self, viewer: &str, name: &str) -> Visible {
        self.presence.get(&user(viewer), &[user(name)]).await.remove(0)
    }

    fn told(&self) -> Vec<(Vec<u64>, Status, Option<Millis>)> {
        let told = std::mem::take(&mut *self.updates.0.lock());
        let to = |update: &Update| update.to.iter().map(|socket| socket.connection.0).collect();
        told.iter().map(|update| (to(update), update.seen.status, update.seen.last_seen)).collect()
    }
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn socket(connection: u64) -> Socket {
    Socket { node: NodeId::new("n1").unwrap(), connection: ConnectionId(connection) }
}

#[tokio::test]
async fn a_user_goes_online_away_and_offline_as_the_policy_says() {
    let world = World::new();
    assert_eq!(world.status("alice").await, Status::Offline);
    world.report("alice", 1, ReportKind::Connected).await;
    assert_eq!(world.status("alice").await, Status::Online);
    for _ in 0..5 {
        world.report("alice", 1, ReportKind::Alive).await;
        world.pass(60_000).await;
    }
    assert_eq!(world.status("alice").await, Status::Away);
    world.report("alice", 1, ReportKind::Active).await;
    assert_eq!(world.status("alice").await, Status::Online);
    world.report("alice", 1, ReportKind::Disconnected).await;
    assert_eq!(world.status("alice").await, Status::Online, "not before the policy's ten seconds");
    world.pass(9_999).await;
    assert_eq!(world.status("alice").await, Status::Online);
    world.pass(1).await;
    assert_eq!(world.status("alice").await, Status::Offline);
}

#[tokio::test]
async fn a_reconnect_within_the_policys_grace_is_never_announced() {
    let world = World::new();
    world.report("alice", 1, ReportKind::Connected).await;
    world.presence.subscribe(&user("friend"), &socket(9), &[user("alice")]).await.unwrap();
    world.report("alice", 1, ReportKind::Disconnected).await;
    world.pass(5_000).await;
    world.report("alice", 2, ReportKind::Connected).await;
    world.pass(20_000).await;
    assert_eq!(world.told(), []);
}

#[tokio::test]
async fn without_reports_a_user_goes_offline_when_its_lease_ends_and_not_before() {
    let world = World::new();
    world.report("alice", 1, ReportKind::Connected).await;
    world.pass(89_999).await;
    assert_eq!(world.status("alice").await, Status::Online);
    world.pass(1).await;
    assert_eq!(world.rules.asked.lock().last(), Some(&("alice".to_owned(), Event::Disconnected, 0)));
    world.pass(10_000).await;
    assert_eq!(world.status("alice").await, Status::Offline);
}

#[tokio::test]
async fn a_lease_that_is_renewed_holds_and_one_connection_of_two_keeps_a_user_online() {
    let world = World::new();
    world.report("alice", 1, ReportKind::Connected).await;
    world.report("alice", 2, ReportKind::Connected).await;
    for _ in 0..3 {
        world.pass(60_000).await;
        world.report("alice", 2, ReportKind::Alive).await;
    }
    assert_eq!(world.rules.asked.lock().last(), Some(&("alice".to_owned(), Event::Disconnected, 1)));
    assert_eq!(world.status("alice").await, Status::Online);
}

#[tokio::test]
async fn those_who_watch_are_told_what_they_may_see_and_others_nothing() {
    let world = World::new();
    for (viewer, connection) in [("friend", 11), ("peer", 12), ("blocked", 13), ("stranger", 14), ("friend", 15)] {
        world.presence.subscribe(&user(viewer), &socket(connection), &[user("alice")]).await.unwrap();
    }
    world.report("alice", 1, ReportKind::Connected).await;
    assert_eq!(world.told(), [(vec![12], Status::Online, None), (vec![11, 15], Status::Online, Some(START))]);
    assert_eq!(world.see("blocked", "alice").await.status, Status::Offline);
    assert_eq!(world.see("alice", "alice").await.last_seen, Some(START), "one sees oneself");
}

#[tokio::test]
async fn who_unsubscribed_or_closed_is_told_nothing_more() {
    let world = World::new();
    for connection in [11, 12, 13] {
        world.presence.subscribe(&user("friend"), &socket(connection), &[user("alice")]).await.unwrap();
    }
    world.presence.unsubscribe(&socket(11), &[user("alice")]);
    world.presence.drop_connection(&socket(12));
    world.report("alice", 1, ReportKind::Connected).await;
    assert_eq!(world.told(), [(vec![13], Status::Online, Some(START))]);
}

#[tokio::test]
async fn a_declared_status_lasts_until_the_last_connection_ends() {
    let world = World::new();
    world.report("alice", 1, ReportKind::Connected).await;
    world.report("alice", 1, ReportKind::Declared(Status::Away)).await;
    assert_eq!(world.status("alice").await, Status::Away);
    world.report("alice", 1, ReportKind::Disconnected).await;
    world.pass(10_000).await;
    world.report("alice", 2, ReportKind::Connected).await;
    assert_eq!(world.status("alice").await, Status::Online);
}

#[tokio::test]
async fn a_busy_user_costs_one_call_per_pause_not_one_per_frame() {
    let world = World::new();
    world.report("alice", 1, ReportKind::Connected).await;
    for _ in 0..1_000 {
        world.clock.advance(10);
        world.report("alice", 1, ReportKind::Active).await;
    }
    assert_eq!(world.rules.asked.lock().len(), 1);
    assert_eq!(world.see("friend", "alice").await.last_seen, Some(START + 10_000));
}

#[tokio::test]
async fn nothing_is_revealed_while_nobody_knows_the_relations() {
    let world = World::with(PresenceConfig::default(), true);
    world.presence.subscribe(&user("friend"), &socket(9), &[user("alice")]).await.unwrap();
    world.report("alice", 1, ReportKind::Connected).await;
    assert_eq!(world.told(), []);
    assert_eq!(world.status("alice").await, Status::Offline);
    assert!(world.relations.asked.load(Ordering::SeqCst) >= 2);
}

#[tokio::test]
async fn last_seen_comes_from_the_archive_for_a_user_that_was_not_here_since_the_start() {
    let world = World::new();
    assert_eq!(world.see("friend", "archived").await.last_seen, Some(START - 5_000));
    assert_eq!(world.see("peer", "archived").await.last_seen, None);
}

#[tokio::test]
async fn one_connection_watches_no_more_than_its_limit() {
    let config = PresenceConfig { watched_per_connection_max: 3, ..PresenceConfig::default() };
    let world = World::with(config, false);
    let names: Vec<UserId> = ["a", "b", "c", "d"].map(user).to_vec();
    world.presence.subscribe(&user("friend"), &socket(9), &names[..2]).await.unwrap();
    let refused = world.presence.subscribe(&user("friend"), &socket(9), &names).await;
    assert_eq!(refused, Err(PresenceError::TooManyWatched { watched: 4, max: 3 }));
    let again = world.presence.subscribe(&user("friend"), &socket(9), &names[..3]).await;
    assert_eq!(again.map(|seen| seen.len()), Ok(3), "those that are watched already do not count twice");
}

#[tokio::test]
async fn memory_is_bounded_and_those_who_are_gone_make_room() {
    let config = PresenceConfig { users_max: 100, ..PresenceConfig::default() };
    let world = World::with(config, false);
    for n in 0..1_000 {
        let name = format!("u{n}");
        world.report(&name, n, ReportKind::Connected).await;
        world.report(&name, n, ReportKind::Disconnected).await;
        world.pass(10_000).await;
    }
    let figures = world.presence.figures();
    assert!(figures.users <= 100 && figures.timers <= 100, "{figures:?}");
    assert_eq!(figures.refused, 0);
    for n in 0..200 {
        world.report(&format!("v{n}"), n, ReportKind::Connected).await;
    }
    let figures = world.presence.figures();
    assert!(figures.users <= 100, "{figures:?}");
    assert_eq!(figures.refused, 100, "who is here is not thrown out for somebody new");
}

#[tokio::test]
async fn a_flood_of_connects_holds_no_more_connections_than_the_limit() {
    let world = World::new();
    for n in 0..1_000 {
        world.report("alice", n, ReportKind::Connected).await;
    }
    assert_eq!(world.rules.asked.lock().last(), Some(&("alice".to_owned(), Event::Connected, 32)));
}

#[tokio::test(start_paused = true)]
async fn the_running_tasks_tell_those_who_watch_and_end_with_the_last_handle() {
    let (rules, updates) = (Arc::new(Rules::default()), Arc::new(Updates::default()));
    let relations = Arc::new(ByName { away: false, apart: AtomicBool::new(false), asked: AtomicUsize::new(0) });
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let presence = Presence::start(PresenceConfig::default(), rules.clone(), relations, updates.clone(), clock);
    presence.subscribe(&user("friend"), &socket(9), &[user("alice")]).await.unwrap();
    presence.report(&user("alice"), &Report { socket: socket(1), mark: Mark::default(), kind: ReportKind::Connected });
    let told = async {
        while updates.0.lock().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), told).await.unwrap();
    drop(presence);
    let ended = async {
        while Arc::strong_count(&rules) > 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), ended).await.unwrap();
}

#[tokio::test]
async fn two_who_are_set_apart_are_told_at_once_and_nobody_else_is() {
    let world = World::new();
    world.report("alice", 1, ReportKind::Connected).await;
    for (viewer, at) in [("friend", 9), ("friend-2", 8)] {
        world.presence.subscribe(&user(viewer), &socket(at), &[user("alice")]).await.unwrap();
    }
    world.relations.apart.store(true, Ordering::SeqCst);
    world.presence.related_anew(&user("alice"), &user("friend")).await;
    assert_eq!(world.told(), [(vec![9], Status::Offline, None)]);
    world.relations.apart.store(false, Ordering::SeqCst);
    world.presence.related_anew(&user("friend"), &user("alice")).await;
    assert_eq!(world.told(), [(vec![9], Status::Online, Some(START))]);
}
