//! What this node is to tell others of its connections, and what others tell of theirs.

use heddle_model::{ConnectionId, Millis, NodeId, UserId};

use super::{Held, Now, Tracked, Users};
use crate::{Declared, Event, PresenceConfig, Report, ReportKind, Said, Socket, Status, Word};

/// Words that wait to be told. Beyond it they are dropped, and others ask for the whole.
const WORDS_MAX: usize = 65_536;

/// What waits to be told.
pub(super) struct Own {
    node: NodeId,
    words: Vec<Word>,
    /// Some found no room.
    dropped: bool,
}

impl Own {
    pub(super) fn say(&mut self, connection: ConnectionId, said: Said) {
        if self.words.len() < WORDS_MAX && !self.dropped {
            self.words.push(Word { connection, said });
        } else {
            self.words.clear();
            self.dropped = true;
        }
    }
}

impl Users {
    /// From now on what is reported is to be told to others as well.
    pub(crate) fn join(&mut self, node: NodeId) {
        self.own = Some(Own { node, words: Vec::new(), dropped: false });
    }

    /// What is to be told; none: more happened than there was room for.
    pub(crate) fn take_words(&mut self) -> Option<Vec<Word>> {
        let Some(own) = &mut self.own else { return Some(Vec::new()) };
        let words = std::mem::take(&mut own.words);
        (!std::mem::take(&mut own.dropped)).then_some(words)
    }

    /// All connections of this node.
    pub(crate) fn own_connections(&self, now: Now) -> Vec<Word> {
        let Some(own) = &self.own else { return Vec::new() };
        let mut words = Vec::new();
        for (user, tracked) in &self.tracked {
            for held in tracked.sockets.iter().filter(|held| held.socket.node == own.node) {
                words.push(Word { connection: held.socket.connection, said: tracked.here(user, held, now) });
            }
        }
        words
    }

    /// Notes for others what was reported of a connection of this node.
    pub(super) fn say(&mut self, user: &UserId, now: Now, report: &Report, new: bool, forgotten: Option<Socket>) {
        let (Some(own), Some(tracked)) = (&mut self.own, self.tracked.get(user)) else { return };
        if let Some(forgotten) = forgotten.filter(|socket| socket.node == own.node) {
            own.say(forgotten.connection, Said::Gone);
        }
        let (connection, held) = (report.socket.connection, tracked.place(&report.socket));
        match (report.kind, held) {
            (ReportKind::Disconnected, _) if !new => own.say(connection, Said::Gone),
            (_, Some(at)) if new => own.say(connection, tracked.here(user, &tracked.sockets[at], now)),
            (ReportKind::Active | ReportKind::Connected, _) => own.say(connection, Said::Active),
            _ => {}
        }
        if let ReportKind::Declared(_) = report.kind {
            own.say_declared(tracked);
        }
    }

    /// Another node says that it holds this connection. False: there is no room for its user.
    pub(crate) fn here(
        &mut self,
        config: &PresenceConfig,
        now: Now,
        user: &UserId,
        idle_ms: Millis,
        held: Held,
    ) -> bool {
        if !self.make_room(config, user) {
            return false;
        }
        let tracked = self.tracked.entry(user.clone()).or_default();
        let before = tracked.declared();
        let seen = tracked.seen_before(now, idle_ms);
        tracked.seen_doubted = false;
        let event = match tracked.place(&held.socket) {
            Some(at) => {
                tracked.sockets[at].declared = held.declared;
                (seen && tracked.status != Some(Status::Online)).then_some(Event::Active)
            }
            None => {
                let forgotten = tracked.connect(config, held);
                if let (Some(own), Some(forgotten)) = (&mut self.own, forgotten)
                    && own.node == forgotten.node
                {
                    own.say(forgotten.connection, Said::Gone);
                }
                // One that was open for long is no sign of life: the policy judges by the idle time.
                Some(if idle_ms < config.pause_ms.max(1) { Event::Connected } else { Event::Idle })
            }
        };
        if let Some(event) = event {
            self.ask(user, event);
        }
        self.follow(user, before);
        true
    }

    /// Another node says that this connection's client was active.
    pub(crate) fn active(&mut self, config: &PresenceConfig, now: Now, user: &UserId) {
        let Some(tracked) = self.tracked.get_mut(user) else { return };
        let paused = now.steady.saturating_sub(tracked.seen_steady) >= config.pause_ms;
        tracked.seen(now);
        if paused || tracked.status != Some(Status::Online) {
            self.ask(user, Event::Active);
        }
    }

    /// Another node says what the user of this connection declared.
    pub(crate) fn declared(&mut self, socket: &Socket, user: &UserId, declared: Declared) {
        let Some(tracked) = self.tracked.get_mut(user) else { return };
        let Some(at) = tracked.place(socket) else { return };
        let before = tracked.declared();
        tracked.sockets[at].declared = Some(declared);
        self.follow(user, before);
    }

    /// A connection of another node is no longer there.
    pub(crate) fn gone(&mut self, socket: &Socket, user: &UserId) {
        let Some(tracked) = self.tracked.get_mut(user) else { return };
        let Some(at) = tracked.place(socket) else { return };
        tracked.sockets.swap_remove(at);
        self.ask(user, Event::Disconnected);
        self.arm(user);
        self.note_evictable(user);
    }

    /// The devices of the user's connections at other nodes, by their marks.
    pub(crate) fn elsewhere(&self, user: &UserId) -> Vec<[u8; 8]> {
        let (Some(own), Some(tracked)) = (&self.own, self.tracked.get(user)) else { return Vec::new() };
        tracked.sockets.iter().filter(|held| held.socket.node != own.node).map(|held| held.mark.device).collect()
    }

    /// Something was missed: who is offline may have been here meanwhile.
    pub(crate) fn doubt(&mut self) {
        for tracked in self.tracked.values_mut().filter(|tracked| tracked.sockets.is_empty()) {
            tracked.seen_doubted = true;
        }
    }

    /// If a newer status was declared elsewhere, it is that of this node's connections too.
    fn follow(&mut self, user: &UserId, before: Option<Declared>) {
        let (Some(own), Some(tracked)) = (&mut self.own, self.tracked.get_mut(user)) else { return };
        let newest = tracked.declared();
        if newest == before {
            return;
        }
        let mut changed = false;
        for held in tracked.sockets.iter_mut().filter(|held| held.socket.node == own.node && held.declared < newest) {
            held.declared = newest;
            changed = true;
        }
        if changed {
            own.say_declared(tracked);
        }
        self.ask(user, Event::Declared);
    }
}

impl Own {
    /// What the user's connections of this node have from now on.
    fn say_declared(&mut self, tracked: &Tracked) {
        for held in &tracked.sockets {
            if let Some(declared) = held.declared.filter(|_| held.socket.node == self.node) {
                self.say(held.socket.connection, Said::Declared(declared));
            }
        }
    }
}

impl Tracked {
    fn here(&self, user: &UserId, held: &Held, now: Now) -> Said {
        Said::Here {
            user: user.clone(),
            idle_ms: now.steady.saturating_sub(self.seen_steady),
            declared: held.declared,
            mark: held.mark,
        }
    }
}
