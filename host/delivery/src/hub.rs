//! The connections of this node, and what reaches them over the bus.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use heddle_model::{ConnectionId, GroupId, Millis, Position, UserId};
use heddle_presence::{Tidings, Visible};
use parking_lot::RwLock;
use tokio::sync::mpsc;

use crate::Event;

/// What nodes tell each other. Each may be lost: it hints, the stream decides.
#[derive(Debug)]
pub enum NodeMessage {
    /// An event, for connections of this node.
    Push {
        /// The event.
        event: Arc<Event>,
        /// Each with the position above which its user has nothing before the event. (DELIVERY 14)
        to: Vec<(ConnectionId, Position)>,
    },
    /// A pulled group has news.
    GroupNotice {
        /// Which group.
        group: GroupId,
        /// The position of its newest message.
        head: Position,
        /// For whom.
        to: Vec<ConnectionId>,
    },
    /// Somebody types, or stopped.
    Typing {
        /// Who.
        from: UserId,
        /// Where, if not to the receiver itself.
        group: Option<GroupId>,
        /// Started.
        started: bool,
        /// For whom.
        to: Vec<ConnectionId>,
    },
    /// Somebody's status changed.
    Presence {
        /// As those may see it.
        seen: Visible,
        /// For whom.
        to: Vec<ConnectionId>,
    },
    /// A connection must go.
    Kick {
        /// Which.
        connection: ConnectionId,
        /// Why.
        why: Kick,
    },
    /// Blocks or revocations changed: look.
    Denials,
    /// Somebody waits for the archive: write what it lacks.
    Hurry,
    /// What a node tells of its connections.
    Tidings(Tidings),
}

/// Why a connection must go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kick {
    /// The same device is connected elsewhere.
    Replaced,
    /// The user was revoked.
    Revoked,
    /// Its device was set back: it comes again and takes its stream from there.
    Replay,
}

/// One item of a session's mailbox.
#[derive(Debug)]
pub(crate) enum Mail {
    Push {
        event: Arc<Event>,
        after: Position,
    },
    GroupNotice(Box<(GroupId, Position)>),
    Typing(Box<Typing>),
    Presence(Box<Visible>),
    Kicked,
    /// Look into the stream.
    Wake,
}

/// Each connection has a block of these for as long as it lives.
const _: () = assert!(size_of::<Mail>() <= 24);

/// Somebody types, or stopped.
#[derive(Debug, Clone)]
pub(crate) struct Typing {
    pub(crate) from: UserId,
    pub(crate) group: Option<GroupId>,
    pub(crate) started: bool,
}

/// What a session and the hub share beside the queue.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    /// A push did not fit: read the stream.
    lagged: AtomicBool,
    /// 0: none, else a kick.
    kicked: AtomicU8,
}

impl Signals {
    /// Did a push get lost since the last call?
    pub(crate) fn take_lagged(&self) -> bool {
        self.lagged.swap(false, Ordering::AcqRel)
    }

    pub(crate) fn kicked(&self) -> Option<Kick> {
        match self.kicked.load(Ordering::Acquire) {
            1 => Some(Kick::Replaced),
            2 => Some(Kick::Revoked),
            3 => Some(Kick::Replay),
            _ => None,
        }
    }
}

#[derive(Debug)]
struct Mailbox {
    user: UserId,
    /// When the user's token may have been issued at the earliest.
    issued: Millis,
    queue: mpsc::Sender<Mail>,
    signals: Arc<Signals>,
}

impl Mailbox {
    fn put(&self, mail: Mail) {
        let push = matches!(mail, Mail::Push { .. });
        if self.queue.try_send(mail).is_err() && push {
            self.signals.lagged.store(true, Ordering::Release);
        }
    }

    fn kick(&self, why: Kick) {
        let code = match why {
            Kick::Replaced => 1,
            Kick::Revoked => 2,
            Kick::Replay => 3,
        };
        self.signals.kicked.store(code, Ordering::Release);
        self.put(Mail::Kicked);
    }
}

/// Mailboxes by connection. Bounded by the gateway's connection limits.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    mailboxes: RwLock<HashMap<ConnectionId, Mailbox>>,
}

impl Hub {
    /// Opens a mailbox that holds `items_max`, for a user whose token may have been issued at `issued` at the earliest.
    pub(crate) fn open(
        &self,
        connection: ConnectionId,
        items_max: usize,
        user: UserId,
        issued: Millis,
    ) -> (mpsc::Receiver<Mail>, Arc<Signals>) {
        let (queue, mail) = mpsc::channel(items_max);
        let signals = Arc::new(Signals::default());
        let mailbox = Mailbox { user, issued, queue, signals: Arc::clone(&signals) };
        self.mailboxes.write().insert(connection, mailbox);
        (mail, signals)
    }

    /// Sends away whose token is refused now.
    pub(crate) fn revoke(&self, refused: impl Fn(&UserId, Millis) -> bool) {
        for mailbox in self.mailboxes.read().values().filter(|mailbox| refused(&mailbox.user, mailbox.issued)) {
            mailbox.kick(Kick::Revoked);
        }
    }

    /// Connections of this user.
    pub(crate) fn of_user(&self, user: &UserId) -> usize {
        self.mailboxes.read().values().filter(|mailbox| mailbox.user == *user).count()
    }

    pub(crate) fn close(&self, connection: ConnectionId) {
        self.mailboxes.write().remove(&connection);
    }

    /// Makes every connection look into its stream.
    pub(crate) fn wake_all(&self) {
        for mailbox in self.mailboxes.read().values() {
            mailbox.signals.lagged.store(true, Ordering::Release);
            // One that is full wakes up anyway.
            mailbox.put(Mail::Wake);
        }
    }

    /// Takes what the bus brought to its mailboxes.
    pub(crate) fn receive(&self, message: &NodeMessage) {
        let mailboxes = self.mailboxes.read();
        let each = |to: &[ConnectionId], mail: &dyn Fn() -> Mail| {
            for mailbox in to.iter().filter_map(|connection| mailboxes.get(connection)) {
                mailbox.put(mail());
            }
        };
        match message {
            NodeMessage::Push { event, to } => {
                for (connection, after) in to {
                    if let Some(mailbox) = mailboxes.get(connection) {
                        mailbox.put(Mail::Push { event: Arc::clone(event), after: *after });
                    }
                }
            }
            NodeMessage::GroupNotice { group, head, to } => {
                each(to, &|| Mail::GroupNotice(Box::new((group.clone(), *head))));
            }
            NodeMessage::Typing { from, group, started, to } => {
                let typing = Typing { from: from.clone(), group: group.clone(), started: *started };
                each(to, &|| Mail::Typing(Box::new(typing.clone())));
            }
            NodeMessage::Presence { seen, to } => each(to, &|| Mail::Presence(Box::new(seen.clone()))),
            // Others take care of them.
            NodeMessage::Tidings(_) | NodeMessage::Denials | NodeMessage::Hurry => {}
            NodeMessage::Kick { connection, why } => {
                if let Some(mailbox) = mailboxes.get(connection) {
                    mailbox.kick(*why);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_revoked_goes_and_who_came_with_a_newer_token_stays() {
        let (hub, bob) = (Hub::default(), UserId::new("bob").unwrap());
        let open = |number, user: &str, issued| hub.open(ConnectionId(number), 1, UserId::new(user).unwrap(), issued);
        let (mut full, old) = open(1, "bob", 10);
        let (_newer, new) = open(2, "bob", 11);
        let (_other, alice) = open(3, "alice", 1);
        // A full mailbox holds no kick back.
        hub.receive(&NodeMessage::Typing { from: bob.clone(), group: None, started: true, to: vec![ConnectionId(1)] });
        hub.revoke(|user, issued| *user == bob && issued <= 10);
        assert_eq!([old.kicked(), new.kicked(), alice.kicked()], [Some(Kick::Revoked), None, None]);
        assert!(matches!(full.try_recv(), Ok(Mail::Typing(_))));
        assert_eq!((hub.of_user(&bob), hub.of_user(&UserId::new("carol").unwrap())), (2, 0));
    }
}
