//! The rules of messages: each accepted one comes to whom it is for, once, in order, and to nobody else.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::anomaly::{Found, Kind};
use crate::history::{Answer, History, Step};
use crate::lines::{Frame, Record};
use crate::streams::Seen;
use crate::topics::{Topics, group_of};

/// A message, from whatever tells of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Message<'a> {
    sender: &'a str,
    /// As the sender addressed it.
    conversation: &'a str,
    client_id: Option<&'a str>,
    /// By the log; without one, by who told of it first.
    order: u64,
    accepted: bool,
    /// A policy saw to who gets it.
    narrowed: bool,
}

/// An event of a user that is a message.
pub(crate) struct Came<'a> {
    offset: u64,
    pub(crate) id: &'a str,
    from: &'a str,
    pub(crate) conversation: String,
    pub(crate) order: u64,
}

/// All messages of a history.
pub(crate) struct Messages<'a> {
    pub(crate) history: &'a History,
    pub(crate) topics: Option<&'a Topics<'a>>,
    pub(crate) known: BTreeMap<&'a str, Message<'a>>,
    pub(crate) came: BTreeMap<&'a str, Vec<Came<'a>>>,
}

impl<'a> Messages<'a> {
    pub(crate) fn of(history: &'a History, topics: Option<&'a Topics<'a>>, seen: &Seen<'a>) -> Self {
        let came = seen.iter().map(|(user, events)| (*user, events.values().filter_map(|it| came(it)).collect()));
        let mut messages = Self { history, topics, known: BTreeMap::new(), came: came.collect() };
        if let Some(topics) = topics {
            for (id, (record, order)) in &topics.messages {
                messages.known.insert(id, of_record(record, *order));
            }
        }
        for answer in history.answers.iter().filter(|answer| answer.code == "accepted") {
            messages.accepted(answer);
        }
        messages.own_copies(seen);
        messages
    }

    fn accepted(&mut self, answer: &'a Answer) {
        let Some(id) = answer.message_id.as_deref() else { return };
        let message = self.known.entry(id).or_insert_with(|| Message {
            sender: &answer.user,
            conversation: &answer.conversation,
            client_id: Some(&answer.client_id),
            order: answer.order.unwrap_or_default(),
            ..Message::default()
        });
        message.accepted = true;
    }

    /// An own copy settles a send whose answer was lost.
    fn own_copies(&mut self, seen: &Seen<'a>) {
        for (user, events) in seen {
            for frame in events.values() {
                let Frame::NewMessage { client_id: Some(client_id), .. } = frame else { continue };
                let Some(event) = came(frame).filter(|event| event.from == *user) else { continue };
                let key = (event.from.to_owned(), event.conversation, client_id.clone());
                if let Some(((_, conversation, client_id), _)) = self.history.sends.get_key_value(&key) {
                    self.known.entry(event.id).or_insert_with(|| Message {
                        sender: event.from,
                        conversation,
                        client_id: Some(client_id),
                        order: event.order,
                        ..Message::default()
                    });
                }
                if let Some(message) = self.known.get_mut(event.id) {
                    message.accepted = true;
                }
            }
        }
    }

    /// Whether it is for that user.
    fn is_for(&self, user: &str, from: &str, conversation: &str, order: u64) -> bool {
        match conversation.split_once(':') {
            Some(("group", group)) => match self.topics {
                Some(topics) => topics.is_member(group, user, order),
                None => self.history.groups.get(group).is_some_and(|members| members.contains(user)),
            },
            Some((_, to)) => user == from || user == to,
            None => false,
        }
    }

    fn audience(&self, message: &Message<'a>) -> BTreeSet<&'a str> {
        match message.conversation.split_once(':') {
            Some(("group", group)) => match self.topics {
                Some(topics) => topics.members(group, message.order).into_iter().collect(),
                None => self.history.groups.get(group).into_iter().flatten().map(String::as_str).collect(),
            },
            Some((_, to)) => BTreeSet::from([message.sender, to]),
            None => BTreeSet::new(),
        }
    }

    fn number(&self, message: &Message<'_>) -> Option<usize> {
        self.send(message).map(|(number, _)| number)
    }

    /// As which of its sender's, and how often.
    pub(crate) fn send(&self, message: &Message<'_>) -> Option<(usize, usize)> {
        let key = (message.sender.to_owned(), message.conversation.to_owned(), message.client_id?.to_owned());
        self.history.sends.get(&key).copied()
    }

    /// All rules of messages.
    pub(crate) fn check(&self, found: &mut Found) {
        let refused = self.refused();
        self.all_come(&refused, found);
        for (user, came) in &self.came {
            self.once_in_order_and_theirs(user, came, &refused, found);
        }
        self.refused_stand_nowhere(&refused, found);
        self.orders_stay(found);
        self.groups_agree(found);
        self.one_generation(found);
        self.told(found);
    }

    /// Messages that do not stand, by id: refused for good, or rejected through the stream.
    fn refused(&self) -> HashSet<&'a str> {
        let mut last: HashMap<(&str, &str, &str), bool> = HashMap::new();
        for answer in &self.history.answers {
            let key = (answer.user.as_str(), answer.conversation.as_str(), answer.client_id.as_str());
            let certain = !matches!(answer.code.as_str(), "accepted" | "unavailable");
            let before = last.get(&key).copied();
            // What was accepted once is not refused by a later answer to the same; of unknown outcome is unknown until the next.
            last.insert(key, certain && before != Some(false));
            if answer.code == "unavailable" {
                last.remove(&key);
            }
        }
        let mut refused = HashSet::new();
        let later: HashSet<(&str, u64)> = self
            .history
            .devices
            .iter()
            .flat_map(|((user, _), steps)| steps.iter().map(move |step| (user.as_str(), step)))
            .filter_map(|(user, step)| match step {
                Step::Frame(Frame::Rejected { order, .. }) => Some((user, *order)),
                _ => None,
            })
            .collect();
        for (id, message) in &self.known {
            let key = message.client_id.map(|client_id| (message.sender, message.conversation, client_id));
            let at_once = key.is_some_and(|key| last.get(&key) == Some(&true)) && !message.accepted_by_answer(self);
            if at_once || later.contains(&(message.sender, message.order)) {
                refused.insert(*id);
            }
        }
        refused
    }

    fn all_come(&self, refused: &HashSet<&str>, found: &mut Found) {
        let ids =
            |user: &str| -> HashSet<&str> { self.came.get(user).into_iter().flatten().map(|came| came.id).collect() };
        let got: HashMap<&str, HashSet<&str>> = self.came.keys().map(|user| (*user, ids(user))).collect();
        let mut streams: HashMap<&str, HashSet<&str>> = HashMap::new();
        for (user, stream) in self.topics.iter().flat_map(|topics| &topics.streams) {
            streams.insert(user, stream.values().filter_map(|record| message_in(record)).collect());
        }
        for (id, message) in &self.known {
            if message.narrowed || refused.contains(id) || !message.accepted && self.topics.is_none() {
                continue;
            }
            let (sender, conversation) = (message.sender, message.conversation);
            if let Some(topics) = self.topics.filter(|topics| !topics.messages.contains_key(id)) {
                let how = if topics.stands.is_empty() { "the log is empty" } else { "it does not stand in the log" };
                let words = format!("{id} by {sender} to {conversation} was accepted, and {how}");
                found.add(Kind::Lost, words);
                continue;
            }
            for user in self.audience(message) {
                let stands = streams.get(user).is_some_and(|stream| stream.contains(id));
                let came = got.get(user).map(|got| got.contains(id));
                let words = |why: &str| format!("{id} by {sender} to {conversation} did not come to {user}: {why}");
                if self.topics.is_some() && !stands {
                    let kind = if self.history.worked || self.history.settled { Kind::Lost } else { Kind::Late };
                    found.add(kind, words("it is not in that user's stream"));
                } else if came == Some(false) && self.reached(user, id) {
                    // A connection went over it: that is said of the connection.
                } else if came == Some(false) {
                    let kind = if self.history.settled { Kind::Lost } else { Kind::Late };
                    found.add(kind, words("no device of that user got it"));
                }
            }
        }
    }

    /// A device of that user has come as far in its stream as where the message is.
    fn reached(&self, user: &str, id: &str) -> bool {
        let stream = self.topics.and_then(|topics| topics.streams.get(user));
        let at = stream.and_then(|stream| stream.iter().find(|(_, record)| message_in(record) == Some(id)));
        let devices = self.history.devices.iter().filter(|((of, _), _)| of == user);
        let furthest = devices.flat_map(|(_, steps)| steps).map(|step| match step {
            Step::Connect(_, told, _) => *told,
            Step::Frame(frame) => frame.offset(),
        });
        at.is_some_and(|(at, _)| furthest.max().is_some_and(|furthest| furthest >= *at))
    }

    fn once_in_order_and_theirs(&self, user: &'a str, came: &[Came<'a>], refused: &HashSet<&str>, found: &mut Found) {
        let stream = self.topics.map(|topics| topics.streams.get(user));
        let (mut first, mut last) = (HashMap::new(), HashMap::new());
        for event in came {
            let (id, offset, conversation) = (event.id, event.offset, event.conversation.as_str());
            let what = format!("{id} by {} to {conversation}", event.from);
            if refused.contains(id) {
                found.add(Kind::RejectedDelivered, format!("{user} got {what} at {offset}, and it was rejected"));
                continue;
            }
            if !self.is_for(user, event.from, conversation, event.order) {
                found.add(Kind::Leaked, format!("{user} got {what} at {offset}, of order {}", event.order));
                continue;
            }
            if let Some(before) = first.insert(id, offset) {
                found.add(Kind::Doubled, format!("{user} got {what} at {before} and at {offset}"));
                continue;
            }
            let record = stream.map(|stream| stream.and_then(|stream| stream.get(&offset)));
            if record.is_some_and(|record| record.is_none_or(|record| message_in(record) != Some(id))) {
                found.add(Kind::Unfounded, format!("{user} got {what} at {offset}, where the log has none for {user}"));
            }
            let number = self.known.get(id).and_then(|message| self.number(message));
            if let Some(number) = number {
                let before = last.insert((event.from, conversation), (number, id));
                if let Some((_, before)) = before.filter(|(before, _)| *before > number) {
                    found.add(Kind::Reordered, format!("{user} got {what} after {before}, which was sent later"));
                }
            }
        }
    }

    /// What was refused is nowhere in the log either.
    fn refused_stand_nowhere(&self, refused: &HashSet<&str>, found: &mut Found) {
        let came: HashSet<&str> = self.came.values().flatten().map(|came| came.id).collect();
        for id in refused.iter().filter(|id| !came.contains(*id)) {
            if let Some((record, order)) = self.topics.and_then(|topics| topics.messages.get(id)) {
                let from = record.from.as_deref().unwrap_or_default();
                found.add(Kind::RejectedDelivered, format!("{id} by {from} stands at {order}, and it was rejected"));
            }
        }
    }
}

impl Message<'_> {
    fn accepted_by_answer(&self, of: &Messages<'_>) -> bool {
        of.history.answers.iter().any(|answer| {
            answer.code == "accepted"
                && answer.user == self.sender
                && answer.conversation == self.conversation
                && Some(answer.client_id.as_str()) == self.client_id
        })
    }
}

impl Came<'_> {
    /// The conversation as that user names it.
    pub(crate) fn seen_by(&self, user: &str) -> String {
        if self.conversation.starts_with("group:") || self.from == user {
            self.conversation.clone()
        } else {
            format!("user:{}", self.from)
        }
    }
}

fn came<'a>(frame: &'a Frame) -> Option<Came<'a>> {
    let Frame::NewMessage { offset, message_id, from, to, group, order, .. } = frame else { return None };
    let conversation = match (to, group) {
        (_, Some(group)) => format!("group:{group}"),
        (Some(to), None) => format!("user:{to}"),
        (None, None) => String::new(),
    };
    Some(Came { offset: *offset, id: message_id, from, conversation, order: *order })
}

fn of_record<'a>(record: &'a Record, order: u64) -> Message<'a> {
    Message {
        sender: record.from.as_deref().unwrap_or_default(),
        conversation: record.addressed.as_deref().unwrap_or_default(),
        client_id: record.client_id.as_deref(),
        order,
        accepted: false,
        narrowed: record.discarded
            || record.only.is_some()
            || record.plan.as_deref() == Some("pull") && group_of(record).is_some()
            || record.addressed != record.to,
    }
}

/// The message that a record carries.
pub(crate) fn message_in(record: &Record) -> Option<&str> {
    let carries = matches!(record.kind.as_str(), "direct" | "group" | "own_copy" | "group_chunk");
    record.message_id.as_deref().filter(|_| carries)
}
