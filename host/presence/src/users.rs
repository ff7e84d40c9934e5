//! The state: plain and synchronous. Whoever holds the lock may change it; nothing here calls out.

mod remote;
mod watching;

use std::collections::{BTreeSet, HashMap, VecDeque};

use heddle_model::{Millis, UserId};

use self::remote::Own;
use self::watching::Watch;
use crate::{Declared, Event, Mark, PresenceConfig, Report, ReportKind, Said, Sighting, Socket, Status};

/// Events of one user that wait for the policy; older ones give way.
const PENDING_MAX: usize = 8;
/// Until then holds what has no lease of its own.
pub(crate) const NEVER: Millis = Millis::MAX;

/// Two clocks, read once per step: the wall for what people see, the other for spans.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    pub(crate) wall: Millis,
    pub(crate) steady: Millis,
}

/// One user. Each node has one for each user of the platform who is there: what most lack takes no memory of its own.
#[derive(Default)]
struct Tracked {
    sockets: Vec<Held>,
    watchers: BTreeSet<Socket>,
    status: Option<Status>,
    seen_wall: Option<Millis>,
    /// Somebody may have seen the user later: the archive is asked again.
    seen_doubted: bool,
    seen_steady: Millis,
    recheck_at: Option<Millis>,
    timer_at: Option<Millis>,
    pending: Vec<Event>,
    to_announce: bool,
    evictable: bool,
}

/// One connection of a user.
pub(crate) struct Held {
    pub(crate) socket: Socket,
    /// When its lease ends; one of another node goes with the lease of that node.
    pub(crate) until: Millis,
    /// What its user declared, as the node knows that holds it. It alone says so: all nodes come to see the same.
    pub(crate) declared: Option<Declared>,
    pub(crate) mark: Mark,
}

/// All users that this node owns or was asked to watch.
#[derive(Default)]
pub(crate) struct Users {
    /// Boxed: a table that grew has twice as many places as users.
    tracked: HashMap<UserId, Box<Tracked>>,
    watches: HashMap<Socket, Watch>,
    /// (when, who): one entry a user, perhaps earlier than what it waits for.
    timers: BTreeSet<(Millis, UserId)>,
    /// Users with pending events, each once.
    asking: VecDeque<UserId>,
    /// Users whose status changed, each once.
    announcing: VecDeque<UserId>,
    /// Users without sockets, watchers and work, longest first; perhaps no longer so.
    evictable: VecDeque<UserId>,
    refused: u64,
    /// What other nodes are to be told, if there are any.
    own: Option<Own>,
}

/// What the policy is to be told.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) user: UserId,
    pub(crate) event: Event,
    pub(crate) connections: u32,
    pub(crate) idle_ms: Millis,
    pub(crate) declared: Option<Status>,
    pub(crate) previous: Status,
}

/// A user's state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) status: Option<Status>,
    pub(crate) seen: Option<Millis>,
    /// It may have been later.
    pub(crate) doubted: bool,
}

impl Users {
    pub(crate) fn report(&mut self, config: &PresenceConfig, now: Now, user: &UserId, report: &Report) {
        if report.kind == ReportKind::Disconnected && !self.tracked.contains_key(user) {
            return;
        }
        if !self.make_room(config, user) {
            return;
        }
        let tracked = self.tracked.entry(user.clone()).or_default();
        let known = tracked.place(&report.socket);
        let paused = now.steady.saturating_sub(tracked.seen_steady) >= config.pause_ms;
        let until = now.steady + config.lease_ms;
        let mut forgotten = None;
        let event = match (report.kind, known) {
            (ReportKind::Disconnected, None) => None,
            (ReportKind::Disconnected, Some(at)) => {
                tracked.sockets.swap_remove(at);
                Some(Event::Disconnected)
            }
            (kind, None) => {
                let declared = tracked.declared();
                let held = Held { socket: report.socket.clone(), until, declared, mark: report.mark };
                forgotten = tracked.connect(config, held);
                if tracked.seen_wall.is_none() || tracked.sockets.len() == 1 {
                    tracked.seen(now);
                }
                match kind {
                    ReportKind::Declared(_) => Some(Event::Declared),
                    _ => Some(Event::Connected),
                }
            }
            (kind, Some(at)) => {
                tracked.sockets[at].until = until;
                match kind {
                    ReportKind::Alive | ReportKind::Disconnected => None,
                    ReportKind::Connected => Some(Event::Connected),
                    ReportKind::Declared(_) => Some(Event::Declared),
                    ReportKind::Active => (paused || tracked.status != Some(Status::Online)).then_some(Event::Active),
                }
            }
        };
        if let ReportKind::Declared(status) = report.kind {
            let after = tracked.declared().map_or(0, |last| last.at + 1);
            let declared = Declared { at: now.wall.max(after), status };
            for held in tracked.sockets.iter_mut().filter(|held| held.socket.node == report.socket.node) {
                held.declared = Some(declared);
            }
        }
        if matches!(report.kind, ReportKind::Active | ReportKind::Connected | ReportKind::Declared(_)) {
            tracked.seen(now);
        }
        self.say(user, now, report, known.is_none(), forgotten);
        if let Some(event) = event {
            self.ask(user, event);
        }
        self.arm(user);
        self.note_evictable(user);
    }

    /// Turns what is due into events: leases that ended, and rechecks.
    pub(crate) fn fire(&mut self, now: Now) {
        while let Some((at, user)) = self.timers.first().cloned()
            && at <= now.steady
        {
            self.timers.remove(&(at, user.clone()));
            let Some(tracked) = self.tracked.get_mut(&user) else { continue };
            tracked.timer_at = None;
            let before = tracked.sockets.len();
            let own = &mut self.own;
            tracked.sockets.retain(|held| {
                let holds = held.until > now.steady;
                if let Some(own) = own.as_mut().filter(|_| !holds) {
                    own.say(held.socket.connection, Said::Gone);
                }
                holds
            });
            let ended = before - tracked.sockets.len();
            let recheck = tracked.recheck_at.is_some_and(|at| at <= now.steady);
            if recheck {
                tracked.recheck_at = None;
            }
            if ended > 0 {
                self.ask(&user, Event::Disconnected);
            } else if recheck {
                self.ask(&user, Event::Idle);
            }
            self.arm(&user);
            self.note_evictable(&user);
        }
    }

    /// The steady time of the next timer.
    pub(crate) fn next_due(&self) -> Option<Millis> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// The next question for the policy, taken from the queue.
    pub(crate) fn next_question(&mut self, now: Now) -> Option<Question> {
        loop {
            let user = self.asking.front()?.clone();
            let Some(tracked) = self.tracked.get_mut(&user).filter(|tracked| !tracked.pending.is_empty()) else {
                self.asking.pop_front();
                continue;
            };
            let event = tracked.pending.remove(0);
            if tracked.pending.is_empty() {
                tracked.pending = Vec::new();
            }
            let question = Question {
                event,
                connections: u32::try_from(tracked.sockets.len()).unwrap_or(u32::MAX),
                idle_ms: now.steady.saturating_sub(tracked.seen_steady),
                declared: tracked.declared().map(|declared| declared.status),
                previous: tracked.status.unwrap_or(Status::Offline),
                user,
            };
            self.asking.pop_front();
            if !tracked.pending.is_empty() {
                self.asking.push_back(question.user.clone());
            }
            return Some(question);
        }
    }

    /// Keeps what the policy answered.
    pub(crate) fn answered(&mut self, now: Now, user: &UserId, sighting: Sighting) {
        let Some(tracked) = self.tracked.get_mut(user) else { return };
        tracked.status = Some(sighting.status);
        tracked.recheck_at = (sighting.recheck_ms > 0).then(|| now.steady + sighting.recheck_ms.max(1_000));
        if sighting.announce && !tracked.to_announce && !tracked.watchers.is_empty() {
            tracked.to_announce = true;
            self.announcing.push_back(user.clone());
        }
        self.arm(user);
        self.note_evictable(user);
    }

    /// The next user whose change is to be told, with who watches.
    pub(crate) fn next_announcement(&mut self) -> Option<(UserId, Vec<(UserId, Socket)>)> {
        while let Some(user) = self.announcing.pop_front() {
            let Some(tracked) = self.tracked.get_mut(&user) else { continue };
            tracked.to_announce = false;
            let viewer = |socket: &Socket| Some((self.watches.get(socket)?.viewer.clone(), socket.clone()));
            let mut watchers: Vec<_> = tracked.watchers.iter().filter_map(viewer).collect();
            watchers.sort();
            self.note_evictable(&user);
            if !watchers.is_empty() {
                return Some((user, watchers));
            }
        }
        None
    }

    /// Where a user stands.
    pub(crate) fn state(&self, user: &UserId) -> State {
        self.tracked.get(user).map_or_else(State::default, |tracked| State {
            status: tracked.status,
            seen: tracked.seen_wall,
            doubted: tracked.seen_doubted,
        })
    }

    /// Keeps what the archive knew of a user that was not seen since the start, or that others may have seen.
    pub(crate) fn remember_seen(&mut self, user: &UserId, at: Millis) {
        if let Some(tracked) = self.tracked.get_mut(user) {
            tracked.seen_wall = tracked.seen_wall.max(Some(at));
            tracked.seen_doubted = false;
        }
    }

    pub(crate) fn figures(&self) -> (usize, usize, usize, u64) {
        (self.tracked.len(), self.watches.len(), self.timers.len(), self.refused)
    }

    fn ask(&mut self, user: &UserId, event: Event) {
        let Some(tracked) = self.tracked.get_mut(user) else { return };
        if tracked.pending.is_empty() {
            self.asking.push_back(user.clone());
        }
        if tracked.pending.last() != Some(&event) {
            if tracked.pending.len() == PENDING_MAX {
                tracked.pending.remove(0);
            }
            tracked.pending.push(event);
        }
    }

    /// Sees to it that the user's timer is not later than what it waits for.
    fn arm(&mut self, user: &UserId) {
        let Some(tracked) = self.tracked.get_mut(user) else { return };
        let lease = tracked.sockets.iter().map(|held| held.until).filter(|until| *until < NEVER).min();
        let Some(due) = [lease, tracked.recheck_at].into_iter().flatten().min() else { return };
        match tracked.timer_at {
            Some(at) if at <= due => {}
            held => {
                if let Some(at) = held {
                    self.timers.remove(&(at, user.clone()));
                }
                tracked.timer_at = Some(due);
                self.timers.insert((due, user.clone()));
            }
        }
    }

    fn note_evictable(&mut self, user: &UserId) {
        let Some(tracked) = self.tracked.get_mut(user) else { return };
        if tracked.is_idle() && !tracked.evictable {
            tracked.evictable = true;
            self.evictable.push_back(user.clone());
        }
    }

    /// Is there a place for this user, perhaps by forgetting another that is offline and that nobody watches?
    fn make_room(&mut self, config: &PresenceConfig, user: &UserId) -> bool {
        if self.tracked.contains_key(user) {
            return true;
        }
        while self.tracked.len() >= config.users_max {
            let Some(oldest) = self.evictable.pop_front() else {
                self.refused += 1;
                return false;
            };
            let Some(tracked) = self.tracked.get_mut(&oldest) else { continue };
            tracked.evictable = false;
            if tracked.is_idle() {
                if let Some(at) = tracked.timer_at {
                    self.timers.remove(&(at, oldest.clone()));
                }
                self.tracked.remove(&oldest);
            }
        }
        true
    }
}

impl Tracked {
    fn place(&self, socket: &Socket) -> Option<usize> {
        self.sockets.iter().position(|held| held.socket == *socket)
    }

    /// Adds a connection, and says which one is forgotten for it.
    fn connect(&mut self, config: &PresenceConfig, held: Held) -> Option<Socket> {
        let full = self.sockets.len() >= config.connections_per_user_max;
        let soonest = (0..self.sockets.len()).filter(|_| full).min_by_key(|at| self.sockets[*at].until);
        let forgotten = soonest.map(|soonest| self.sockets.swap_remove(soonest).socket);
        // Most users have one, and there are many users.
        self.sockets.reserve_exact(1);
        self.sockets.push(held);
        forgotten
    }

    fn seen(&mut self, now: Now) {
        self.seen_wall = Some(now.wall);
        self.seen_steady = now.steady;
    }

    /// As [`seen`](Self::seen), but a while ago; false if the user was seen since.
    fn seen_before(&mut self, now: Now, idle_ms: Millis) -> bool {
        let (wall, steady) = (now.wall.saturating_sub(idle_ms), now.steady.saturating_sub(idle_ms));
        let newer = steady > self.seen_steady;
        if newer {
            self.seen_steady = steady;
            self.seen_wall = self.seen_wall.max(Some(wall));
        }
        newer
    }

    /// What the user's client declared last. It ends with the user's last connection.
    fn declared(&self) -> Option<Declared> {
        self.sockets.iter().filter_map(|held| held.declared).max()
    }

    fn is_idle(&self) -> bool {
        self.sockets.is_empty()
            && self.watchers.is_empty()
            && self.pending.is_empty()
            && !self.to_announce
            && self.recheck_at.is_none()
            && matches!(self.status, None | Some(Status::Offline))
    }
}
