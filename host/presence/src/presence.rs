use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use heddle_model::{Clock, Millis, NodeId, UserId};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::peers::Peers;
use crate::users::{Now, State, Users};
use crate::{
    Observation, PresenceConfig, PresenceError, PresencePolicy, PresenceSink, Relations, Report, Socket, Status,
    Tidings, Update, Visibility, Visible, relation,
};

/// The longest sleep: a clock that was moved by hand is noticed after it.
const SLEEP_MAX: Duration = Duration::from_secs(1);
/// Reports that an answer waits for.
const ASKED_FIRST_MAX: usize = 64;
/// Viewers whose relations are asked for at once.
const VIEWERS_PAGE: usize = 500;
/// Where the steady clock begins: others tell of what was before this process.
const STEADY_START: Millis = 1 << 40;

/// The handle: cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Presence {
    shared: Arc<Shared>,
}

struct Shared {
    config: PresenceConfig,
    policy: Arc<dyn PresencePolicy>,
    relations: Arc<dyn Relations>,
    sink: Arc<dyn PresenceSink>,
    clock: Arc<dyn Clock>,
    users: Mutex<Users>,
    /// Other nodes, if there are any. Locked before the users.
    peers: Mutex<Option<Peers>>,
    /// There are others: who is alone need not lock anything to know of none.
    joined: AtomicBool,
    ask: Arc<Notify>,
    tell: Arc<Notify>,
}

/// How much it holds, for gauges.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PresenceFigures {
    /// Users tracked.
    pub users: usize,
    /// Connections that watch somebody.
    pub watchers: usize,
    /// Users that wait for a timer.
    pub timers: usize,
    /// Other nodes that are heard.
    pub nodes: usize,
    /// Connections of other nodes.
    pub remote: usize,
    /// Users, watchers and connections of other nodes for whom there was no room, since the start.
    pub refused: u64,
}

impl Presence {
    /// Starts the two tasks that ask the policy and tell those who watch; they end when the last handle is dropped.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(
        config: PresenceConfig,
        policy: Arc<dyn PresencePolicy>,
        relations: Arc<dyn Relations>,
        sink: Arc<dyn PresenceSink>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let presence = Self::still(config, policy, relations, sink, clock);
        let shared = &presence.shared;
        tokio::spawn(ask_policy(Arc::downgrade(shared), Arc::clone(&shared.ask)));
        tokio::spawn(tell_watchers(Arc::downgrade(shared), Arc::clone(&shared.tell)));
        presence
    }

    /// One that moves only by [`step`](Self::step): for tests and simulations.
    pub fn still(
        config: PresenceConfig,
        policy: Arc<dyn PresencePolicy>,
        relations: Arc<dyn Relations>,
        sink: Arc<dyn PresenceSink>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (users, peers, ask, tell) = (Mutex::default(), Mutex::default(), Arc::default(), Arc::default());
        let joined = AtomicBool::new(false);
        Self { shared: Arc::new(Shared { config, policy, relations, sink, clock, users, peers, joined, ask, tell }) }
    }

    /// From now on this node is one of several: what is reported here is told to the others by [`tell`](Self::tell), and what they tell comes in by
    /// [`hear`](Self::hear). `life` tells processes of one name apart, and grows from one to the next. Call it before anything is reported.
    pub fn join(&self, node: NodeId, life: u64) {
        *self.shared.peers.lock() = Some(Peers::new(node.clone(), life, self.shared.now()));
        self.shared.users.lock().join(node);
        self.shared.joined.store(true, Ordering::Release);
    }

    /// Takes in what another node tells, in whatever order and however often it comes.
    pub fn hear(&self, tidings: &Tidings) {
        if let Some(peers) = self.shared.peers.lock().as_mut() {
            peers.hear(&self.shared.config, self.shared.now(), &mut self.shared.users.lock(), tidings);
        }
        self.shared.ask.notify_one();
    }

    /// What is to be sent now, and to whom; none: to all nodes. To be called a few times a second, and sent in order; each may be lost.
    #[must_use]
    pub fn tell(&self) -> Vec<(Option<NodeId>, Tidings)> {
        let mut peers = self.shared.peers.lock();
        let Some(peers) = peers.as_mut() else { return Vec::new() };
        let letters = peers.tell(&self.shared.config, self.shared.now(), &mut self.shared.users.lock());
        self.shared.ask.notify_one();
        letters
    }

    /// The way to the others is there, perhaps again: the next [`tell`](Self::tell) asks how far they are.
    pub fn hail(&self) {
        if let Some(peers) = self.shared.peers.lock().as_mut() {
            peers.hail();
        }
    }

    /// The devices of the user's connections at other nodes, by their marks, as far as those are heard.
    #[must_use]
    pub fn elsewhere(&self, user: &UserId) -> Vec<[u8; 8]> {
        if !self.shared.joined.load(Ordering::Acquire) {
            return Vec::new();
        }
        self.shared.users.lock().elsewhere(user)
    }

    /// Connections at other nodes from the address of this mark, as far as those are heard.
    #[must_use]
    pub fn elsewhere_from(&self, address: &[u8; 8]) -> u32 {
        if !self.shared.joined.load(Ordering::Acquire) {
            return 0;
        }
        self.shared.peers.lock().as_ref().map_or(0, |peers| peers.at_address(address))
    }

    /// Does all that is due now. With [`start`](Self::start) nobody needs to call it.
    pub async fn step(&self) {
        self.shared.users.lock().fire(self.shared.now());
        while self.shared.ask_one() {}
        while self.shared.tell_one().await {}
    }

    /// Notes what a gateway says of one of the user's connections. The policy is asked soon after, never on the caller's time.
    pub fn report(&self, user: &UserId, report: &Report) {
        self.shared.users.lock().report(&self.shared.config, self.shared.now(), user, report);
        self.shared.ask.notify_one();
    }

    /// Watches more users, and answers how each is now, as `viewer` may see it.
    ///
    /// # Errors
    /// Too many for one connection; then none of them is watched.
    pub async fn subscribe(
        &self,
        viewer: &UserId,
        socket: &Socket,
        users: &[UserId],
    ) -> Result<Vec<Visible>, PresenceError> {
        self.shared.users.lock().watch(&self.shared.config, viewer, socket, users)?;
        Ok(self.get(viewer, users).await)
    }

    /// What two users are to each other has changed: where one watches the other from a socket of this node, it is told how the other is now, as it
    /// may see it.
    pub async fn related_anew(&self, a: &UserId, b: &UserId) {
        for (subject, viewer) in [(a, b), (b, a)] {
            let to = self.shared.users.lock().watching(subject, viewer);
            if to.is_empty() {
                continue;
            }
            let visibility = self.shared.visibility(subject, std::slice::from_ref(viewer)).await;
            let visibility = visibility.first().copied().unwrap_or(Visibility::Nothing);
            let seen = self.shared.visible(subject, visibility).await;
            self.shared.sink.update(Update { to, seen });
        }
    }

    /// Watches these no longer.
    pub fn unsubscribe(&self, socket: &Socket, users: &[UserId]) {
        self.shared.users.lock().unwatch(socket, users);
    }

    /// Forgets what a connection watches. (Its own user's status: report `Disconnected`.)
    pub fn drop_connection(&self, socket: &Socket) {
        self.shared.users.lock().drop_socket(socket);
    }

    /// How each of `users` is now, as `viewer` may see it; one answer per user, in order.
    pub async fn get(&self, viewer: &UserId, users: &[UserId]) -> Vec<Visible> {
        // What was reported before this question counts in its answer.
        for _ in 0..ASKED_FIRST_MAX {
            if !self.shared.ask_one() {
                break;
            }
        }
        let mut seen = Vec::with_capacity(users.len());
        for user in users {
            let visibility = self.shared.visibility(user, std::slice::from_ref(viewer)).await;
            let visibility = visibility.first().copied().unwrap_or(Visibility::Nothing);
            seen.push(self.shared.visible(user, visibility).await);
        }
        seen
    }

    /// How much it holds.
    #[must_use]
    pub fn figures(&self) -> PresenceFigures {
        let (nodes, remote, no_room) = self.shared.peers.lock().as_ref().map_or((0, 0, 0), Peers::figures);
        let (users, watchers, timers, refused) = self.shared.users.lock().figures();
        PresenceFigures { users, watchers, timers, nodes, remote, refused: refused + no_room }
    }
}

impl Shared {
    fn now(&self) -> Now {
        let steady = Millis::try_from(self.clock.monotonic().as_millis()).unwrap_or(Millis::MAX);
        Now { wall: self.clock.now(), steady: steady.saturating_add(STEADY_START) }
    }

    /// Asks the policy one question, outside the lock; false if there is none.
    fn ask_one(&self) -> bool {
        let now = self.now();
        let Some(question) = self.users.lock().next_question(now) else { return false };
        let sighting = self.policy.observe(&Observation {
            now: now.wall,
            user: &question.user,
            event: question.event,
            connections: question.connections,
            idle_ms: question.idle_ms,
            declared: question.declared,
            previous: question.previous,
        });
        self.users.lock().answered(now, &question.user, sighting);
        self.tell.notify_one();
        true
    }

    /// Tells those who watch one user; false if there is nothing to tell.
    async fn tell_one(&self) -> bool {
        let next = self.users.lock().next_announcement();
        let Some((user, watchers)) = next else { return false };
        for page in watchers.chunks(VIEWERS_PAGE) {
            let mut viewers: Vec<UserId> = page.iter().map(|(viewer, _)| viewer.clone()).collect();
            viewers.dedup();
            let visibilities = self.visibility(&user, &viewers).await;
            let mut told: BTreeMap<Visibility, Vec<Socket>> = BTreeMap::new();
            for (viewer, socket) in page {
                let at = viewers.binary_search(viewer).ok();
                let visibility = at.and_then(|at| visibilities.get(at)).copied().unwrap_or(Visibility::Nothing);
                told.entry(visibility).or_default().push(socket.clone());
            }
            told.remove(&Visibility::Nothing);
            for (visibility, to) in told {
                let seen = self.visible(&user, visibility).await;
                // Who stopped watching meanwhile would hear of what came after that.
                let to = self.users.lock().still_watching(&user, to);
                if !to.is_empty() {
                    self.sink.update(Update { to, seen });
                }
            }
        }
        true
    }

    /// What each viewer may see: all of oneself, of others what the policy says, and nothing if nobody knows what they are to each other.
    async fn visibility(&self, subject: &UserId, viewers: &[UserId]) -> Vec<Visibility> {
        if viewers.iter().all(|viewer| viewer == subject) {
            return vec![Visibility::StatusAndLastSeen; viewers.len()];
        }
        let relations = self.relations.relations(subject, viewers).await;
        let Some(relations) = relations.filter(|relations| relations.len() == viewers.len()) else {
            return vec![Visibility::Nothing; viewers.len()];
        };
        let mut answer = self.policy.reveal(self.clock.now(), subject, &relations);
        answer.resize(viewers.len(), Visibility::Nothing);
        for ((viewer, visibility), bits) in viewers.iter().zip(&mut answer).zip(&relations) {
            if viewer == subject {
                *visibility = Visibility::StatusAndLastSeen;
            } else if bits & relation::BLOCKED != 0 {
                // Whatever a policy makes of it.
                *visibility = Visibility::Nothing;
            }
        }
        answer
    }

    async fn visible(&self, user: &UserId, visibility: Visibility) -> Visible {
        let State { status, mut seen, doubted } = self.users.lock().state(user);
        if visibility == Visibility::StatusAndLastSeen && (seen.is_none() || doubted) {
            let archived = self.relations.last_seen(user).await;
            seen = seen.max(archived);
            if let Some(at) = archived {
                self.users.lock().remember_seen(user, at);
            }
        }
        Visible {
            user: user.clone(),
            status: status.filter(|_| visibility > Visibility::Nothing).unwrap_or(Status::Offline),
            last_seen: seen.filter(|_| visibility == Visibility::StatusAndLastSeen),
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.ask.notify_one();
        self.tell.notify_one();
    }
}

async fn ask_policy(shared: Weak<Shared>, wake: Arc<Notify>) {
    loop {
        let Some(live) = shared.upgrade() else { return };
        live.users.lock().fire(live.now());
        if live.ask_one() {
            drop(live);
            // A policy may take its whole deadline: others of this thread come first.
            tokio::task::yield_now().await;
            continue;
        }
        let due = live.users.lock().next_due();
        let sleep =
            due.map_or(SLEEP_MAX, |at| Duration::from_millis(at.saturating_sub(live.now().steady)).min(SLEEP_MAX));
        drop(live);
        tokio::select! {
            () = wake.notified() => {}
            () = tokio::time::sleep(sleep) => {}
        }
    }
}

async fn tell_watchers(shared: Weak<Shared>, wake: Arc<Notify>) {
    loop {
        let Some(live) = shared.upgrade() else { return };
        if live.tell_one().await {
            continue;
        }
        drop(live);
        wake.notified().await;
    }
}
