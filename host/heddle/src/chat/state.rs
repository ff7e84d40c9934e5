//! What the screen shows: conversations, messages, who is there. Changed by frames and answers, never by keys.

use std::collections::HashMap;
use std::time::Duration;

use heddle_protocol::rest::{ConversationSummary, HistoryMessage, MessageStatus};
use heddle_protocol::{
    Accepted, Conversation, NewMessage, PresenceStatus, Receipt, ReceiptStatus, Rejected, ServerFrame, Target,
    TypingIndicator,
};

/// Messages that are kept of a conversation; the oldest go first.
const MESSAGES_MAX: usize = 1_000;
/// Conversations that are shown.
const CONVERSATIONS_MAX: usize = 500;
/// How long somebody types without saying so again.
const TYPING: Duration = Duration::from_secs(6);

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The server's id, once it is accepted.
    pub id: Option<String>,
    /// Our own id, of our own.
    pub client_id: Option<String>,
    /// Who.
    pub from: String,
    /// What.
    pub text: String,
    /// When, in milliseconds since 1970.
    pub sent_at: u64,
    /// Direct conversations are shown by it.
    pub lamport: u64,
    /// Groups are shown by it; receipts name it. None yet under way.
    pub order: Option<u64>,
    /// Why it is not sent.
    pub failed: Option<String>,
}

/// How far one of our own messages has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tick {
    /// Not accepted yet.
    UnderWay,
    /// Durable.
    Sent,
    /// On a device.
    Delivered,
    /// Read.
    Read,
    /// Refused.
    Failed,
}

/// One conversation.
#[derive(Debug)]
pub struct Thread {
    /// Which.
    pub id: Conversation,
    /// A group's name.
    pub name: Option<String>,
    /// In the order in which they are shown.
    pub entries: Vec<Entry>,
    /// Not read.
    pub unread: u64,
    /// Of those, how many came since the server was asked for its own count.
    since: u64,
    delivered: u64,
    read: u64,
    typing: HashMap<String, Duration>,
    /// Its past was asked for.
    pub loaded: bool,
    /// The newest message that we said to have read.
    said_read: Option<String>,
}

impl Thread {
    fn new(id: Conversation) -> Self {
        Self {
            id,
            name: None,
            entries: Vec::new(),
            unread: 0,
            since: 0,
            delivered: 0,
            read: 0,
            typing: HashMap::new(),
            loaded: false,
            said_read: None,
        }
    }

    /// What it is called.
    pub fn title(&self) -> &str {
        match (&self.name, &self.id) {
            (Some(name), _) | (None, Conversation::User(name) | Conversation::Group(name)) => name,
        }
    }

    /// Where our own message stands.
    pub fn tick(&self, entry: &Entry) -> Tick {
        match entry.order {
            _ if entry.failed.is_some() => Tick::Failed,
            None => Tick::UnderWay,
            Some(order) if order <= self.read => Tick::Read,
            Some(order) if order <= self.delivered => Tick::Delivered,
            Some(_) => Tick::Sent,
        }
    }

    /// Who types at `now`.
    pub fn typing(&self, now: Duration) -> Vec<&str> {
        let mut names: Vec<&str> =
            self.typing.iter().filter(|(_, until)| **until > now).map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names
    }

    /// The same message again adds to what is known of it.
    fn put(&mut self, entry: Entry) -> bool {
        let same = |known: &Entry| {
            (known.id.is_some() && known.id == entry.id)
                || (entry.client_id.is_some() && known.client_id == entry.client_id && known.from == entry.from)
        };
        let new = match self.entries.iter_mut().find(|known| same(known)) {
            Some(known) => {
                *known = entry;
                false
            }
            None => {
                self.entries.push(entry);
                true
            }
        };
        let group = matches!(self.id, Conversation::Group(_));
        self.entries.sort_by(|a, b| {
            let place = |entry: &Entry| match entry.order {
                None => (u64::MAX, None),
                Some(order) if group => (order, None),
                Some(_) => (entry.lamport, entry.id.clone()),
            };
            place(a).cmp(&place(b))
        });
        if self.entries.len() > MESSAGES_MAX {
            self.entries.remove(0);
        }
        new
    }
}

/// Everything.
#[derive(Debug, Default)]
pub struct Chat {
    /// Who we are.
    pub me: String,
    /// The conversations, in the order in which they came up.
    pub threads: Vec<Thread>,
    /// The one that is open.
    pub selected: usize,
    /// What is known of others.
    pub presence: HashMap<String, PresenceStatus>,
    /// Whether what was missed is here.
    pub caught_up: bool,
    /// Messages that were missed and came.
    pub missed: u64,
    /// The list of conversations is out of date.
    pub stale: bool,
    /// What just happened, for the status line.
    pub notice: String,
}

impl Chat {
    /// The open conversation.
    pub fn open(&self) -> Option<&Thread> {
        self.threads.get(self.selected)
    }

    /// Opens a conversation.
    pub fn select(&mut self, id: &Conversation) {
        if let Some(at) = self.at(id) {
            self.selected = at;
        }
    }

    /// Opens the next one, or the one before.
    pub fn turn(&mut self, by: isize) {
        if let count @ 1.. = self.threads.len() {
            self.selected = (self.selected.min(count - 1) + count).wrapping_add_signed(by) % count;
        }
    }

    fn at(&mut self, id: &Conversation) -> Option<usize> {
        if let Some(at) = self.threads.iter().position(|thread| thread.id == *id) {
            return Some(at);
        }
        if self.threads.len() >= CONVERSATIONS_MAX {
            self.notice = format!("{CONVERSATIONS_MAX} conversations are shown, and {id} is one too many");
            return None;
        }
        self.threads.push(Thread::new(id.clone()));
        Some(self.threads.len() - 1)
    }

    fn thread(&mut self, id: &Conversation) -> Option<&mut Thread> {
        self.at(id).and_then(|at| self.threads.get_mut(at))
    }

    /// Our own message, before the server knows of it.
    pub fn sending(&mut self, target: &Target, client_id: &str, text: &str, sent_at: u64) {
        let (from, text, client_id) = (self.me.clone(), text.to_owned(), Some(client_id.to_owned()));
        let entry = Entry { id: None, client_id, from, text, sent_at, lamport: 0, order: None, failed: None };
        if let Some(thread) = self.thread(&target.conversation()) {
            thread.put(entry);
        }
    }

    /// What the server says.
    pub fn frame(&mut self, frame: ServerFrame, now: Duration) {
        match frame {
            ServerFrame::NewMessage(message) => self.message(message),
            ServerFrame::Accepted(accepted) => self.accepted(accepted),
            ServerFrame::Rejected(rejected) => self.rejected(&rejected),
            ServerFrame::Receipt(receipt) => self.receipt(&receipt),
            ServerFrame::TypingIndicator(typing) => self.typing(typing, now),
            ServerFrame::PresenceUpdate(update) => {
                self.presence.insert(update.user, update.status);
            }
            ServerFrame::CaughtUp(_) => {
                if self.missed > 0 {
                    self.notice = format!("{} missed messages are here", self.missed);
                }
                (self.caught_up, self.missed, self.stale) = (true, 0, true);
            }
            ServerFrame::Membership(change) => {
                self.stale = true;
                let what = format!("{:?}", change.change).to_lowercase();
                self.notice = format!("{}: {what} by {}", change.user, change.by);
            }
            ServerFrame::GroupNotice(news) => {
                if let Some(thread) = self.thread(&Conversation::Group(news.group)) {
                    thread.loaded = false;
                }
                self.stale = true;
            }
            ServerFrame::Error(error) => self.notice = error.reason,
            ServerFrame::HelloOk(_) | ServerFrame::Pong => {}
        }
    }

    fn message(&mut self, message: NewMessage) {
        let own = message.from == self.me;
        let id = match &message.target {
            Target::User(_) if !own => Conversation::User(message.from.clone()),
            target => target.conversation(),
        };
        self.missed += u64::from(message.missed && !own);
        let live = self.caught_up && !own && !message.quiet;
        let text = said(message.text, message.data.is_some());
        let entry = Entry {
            id: Some(message.message_id),
            client_id: message.client_id,
            from: message.from,
            text,
            sent_at: message.sent_at,
            lamport: message.lamport,
            order: Some(message.order),
            failed: None,
        };
        let Some(thread) = self.thread(&id) else { return };
        thread.typing.remove(&entry.from);
        if thread.put(entry) && live {
            thread.unread += 1;
            thread.since += 1;
        }
    }

    fn own(&mut self, client_id: &str) -> Option<(&mut Thread, usize)> {
        self.threads.iter_mut().find_map(|thread| {
            let at = thread.entries.iter().position(|entry| entry.client_id.as_deref() == Some(client_id))?;
            Some((thread, at))
        })
    }

    fn accepted(&mut self, accepted: Accepted) {
        let Some((thread, at)) = self.own(&accepted.client_id) else { return };
        let mut entry = thread.entries[at].clone();
        entry.id = Some(accepted.message_id);
        (entry.sent_at, entry.lamport, entry.order) = (accepted.sent_at, accepted.lamport, Some(accepted.order));
        entry.failed = None;
        if let Some(text) = accepted.text {
            entry.text = text;
        }
        thread.put(entry);
    }

    fn rejected(&mut self, rejected: &Rejected) {
        self.notice = format!("not sent: {}", rejected.reason);
        if heddle_client::is_repeated(rejected) {
            self.notice = format!("waits, and is sent again: {}", rejected.reason);
            return;
        }
        if let Some((thread, at)) = self.own(&rejected.client_id) {
            thread.entries[at].failed = Some(rejected.reason.clone());
        }
    }

    fn receipt(&mut self, receipt: &Receipt) {
        let Some(thread) = self.thread(&receipt.conversation) else { return };
        thread.delivered = thread.delivered.max(receipt.order);
        if receipt.status == ReceiptStatus::Read {
            thread.read = thread.read.max(receipt.order);
        }
    }

    fn typing(&mut self, typing: TypingIndicator, now: Duration) {
        let id = typing.group.map_or_else(|| Conversation::User(typing.from.clone()), Conversation::Group);
        // Nobody opens a conversation by typing alone.
        let Some(thread) = self.threads.iter_mut().find(|thread| thread.id == id) else { return };
        thread.typing.retain(|_, until| *until > now);
        if typing.typing {
            thread.typing.insert(typing.from, now + TYPING);
        } else {
            thread.typing.remove(&typing.from);
        }
    }

    /// The server's list is asked for from here on.
    pub fn listing(&mut self) {
        self.stale = false;
        for thread in &mut self.threads {
            thread.since = 0;
        }
    }

    /// The server's list; it comes with the newest first.
    pub fn listed(&mut self, summaries: Vec<ConversationSummary>) {
        for summary in summaries {
            let Some(thread) = self.thread(&summary.conversation) else { return };
            thread.name = summary.name;
            thread.unread = summary.unread.max(thread.since);
            if let Some(message) = summary.last_message {
                self.past(&summary.conversation, vec![message]);
            }
        }
    }

    /// Messages of the past.
    pub fn past(&mut self, id: &Conversation, messages: Vec<HistoryMessage>) {
        let me = self.me.clone();
        let Some(thread) = self.thread(id) else { return };
        for message in messages {
            if message.from == me {
                let order = |least| if message.status >= least { message.order } else { 0 };
                thread.delivered = thread.delivered.max(order(MessageStatus::Delivered));
                thread.read = thread.read.max(order(MessageStatus::Read));
            }
            thread.put(Entry {
                id: Some(message.message_id),
                client_id: message.client_id,
                text: said(message.text, message.data.is_some()),
                from: message.from,
                sent_at: message.sent_at,
                lamport: message.lamport,
                order: Some(message.order),
                failed: None,
            });
        }
    }

    /// What the open conversation shows is read: the message to say so of, once.
    pub fn reads(&mut self) -> Option<String> {
        let me = self.me.clone();
        let thread = self.threads.get_mut(self.selected)?;
        let newest = thread.entries.iter().rev().find(|entry| entry.from != me && entry.id.is_some())?.id.clone();
        let unread = std::mem::take(&mut thread.unread) > 0;
        (newest != thread.said_read && (unread || thread.said_read.is_some())).then(|| {
            thread.said_read.clone_from(&newest);
            newest
        })?
    }
}

fn said(text: Option<String>, has_data: bool) -> String {
    text.unwrap_or_else(|| if has_data { "(data)" } else { "" }.to_owned())
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
