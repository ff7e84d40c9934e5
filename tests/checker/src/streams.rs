//! What devices met: the rules of one connection and of one user's stream. (DELIVERY 14 to 16)

use std::collections::{BTreeMap, HashSet};

use crate::anomaly::{Found, Kind};
use crate::history::{History, Step};
use crate::lines::{Frame, Record};
use crate::topics::Topics;

/// What came to a user, by offset, whichever device had it first.
pub(crate) type Seen<'a> = BTreeMap<&'a str, BTreeMap<u64, &'a Frame>>;

/// Follows each device, and says what its connections did that none may.
pub(crate) fn follow<'a>(history: &'a History, topics: Option<&Topics<'_>>, found: &mut Found) -> Seen<'a> {
    let mut seen = Seen::new();
    for ((user, device), steps) in &history.devices {
        let stream = topics.map(|topics| topics.streams.get(user.as_str()));
        let mut at = Device { user, device, position: 0, said: false };
        let events = seen.entry(user).or_default();
        for step in steps {
            match step {
                Step::Connect(asked, told, gap) => at.connect(*asked, *told, gap.as_deref(), found),
                Step::Frame(Frame::CaughtUp { offset }) => {
                    if let Some(stream) = stream {
                        at.goes_over(stream, offset + 1, found);
                    }
                    at.position = at.position.max(*offset);
                }
                Step::Frame(frame) => {
                    if at.take(frame, events, found)
                        && let Some(stream) = stream
                    {
                        at.goes_over(stream, frame.offset(), found);
                    }
                    at.position = at.position.max(frame.offset());
                }
            }
        }
    }
    if let Some(topics) = topics {
        gaps_of_nothing(history, topics, found);
    }
    seen
}

/// One device, as it goes.
struct Device<'a> {
    user: &'a str,
    device: &'a str,
    position: u64,
    /// Its connection was told that events are missing.
    said: bool,
}

impl Device<'_> {
    fn connect(&mut self, asked: Option<u64>, told: u64, gap: Option<&str>, found: &mut Found) {
        if let Some(asked) = asked.filter(|asked| gap.is_none() && *asked != told) {
            let words = format!("{}/{} asked to go on from {asked} and was put to {told}", self.user, self.device);
            found.add(Kind::ResumedElsewhere, words);
        }
        self.position = told;
        self.said = gap.is_some();
    }

    /// Takes an event; false if it is none that counts.
    fn take<'a>(&self, frame: &'a Frame, events: &mut BTreeMap<u64, &'a Frame>, found: &mut Found) -> bool {
        let offset = frame.offset();
        if offset <= self.position {
            let words = format!("{}/{} got {} at {} or above", self.user, self.device, shown(frame), self.position);
            found.add(Kind::SentAgain, words);
            return false;
        }
        let known = *events.entry(offset).or_insert(frame);
        if shown(known) != shown(frame) {
            let words = format!("{}: {offset} is {} and {}", self.user, shown(known), shown(frame));
            found.add(Kind::Moved, words);
        }
        true
    }

    /// From its position to below `to`: there must be nothing in the stream that it did not get.
    fn goes_over(&mut self, stream: Option<&BTreeMap<u64, &Record>>, to: u64, found: &mut Found) {
        let between = stream.filter(|_| self.position + 1 < to && !self.said);
        let missed = between.and_then(|stream| stream.range(self.position + 1..to).next());
        if let Some((position, record)) = missed {
            let (user, device, from) = (self.user, self.device, self.position);
            let what = record.message_id.as_deref().unwrap_or("");
            let words = format!(
                "{user}/{device} went from {from} to {to} over {position}, a {} {what}, and no gap was said",
                record.kind
            );
            found.add(Kind::PassedOver, words);
        }
    }
}

/// A gap is said where something that the user had is in the log no more, or where a position was never given.
fn gaps_of_nothing(history: &History, topics: &Topics<'_>, found: &mut Found) {
    for ((user, device), steps) in &history.devices {
        let stream = topics.streams.get(user.as_str());
        let mut given: HashSet<u64> = HashSet::from([0]);
        let mut had: Vec<u64> = Vec::new();
        for step in steps {
            match step {
                Step::Connect(asked, told, gap) => {
                    let reason = match gap.as_deref() {
                        Some("above_head") => asked.is_none_or(|asked| given.contains(&asked)),
                        Some(_) => had
                            .iter()
                            .filter(|offset| *offset > told)
                            .all(|offset| stream.is_some_and(|stream| stream.contains_key(offset))),
                        None => false,
                    };
                    if reason {
                        let gap = gap.as_deref().unwrap_or_default();
                        let words = format!("{user}/{device} was told of a gap ({gap}) from {told}, and there is none");
                        found.add(Kind::GapOfNothing, words);
                    }
                    given.insert(*told);
                }
                Step::Frame(frame) => {
                    given.insert(frame.offset());
                    if !matches!(frame, Frame::CaughtUp { .. }) {
                        had.push(frame.offset());
                    }
                }
            }
        }
    }
}

/// An event, as people tell it.
pub(crate) fn shown(frame: &Frame) -> String {
    match frame {
        Frame::NewMessage { offset, message_id, from, .. } => format!("message {message_id} by {from} at {offset}"),
        Frame::Receipt { offset, conversation, by, status, order, .. } => {
            format!("receipt of {by} in {conversation}, {status} up to {order}, at {offset}")
        }
        Frame::Membership { offset } => format!("change of a group at {offset}"),
        Frame::Rejected { offset, order } => format!("rejection of {order} at {offset}"),
        Frame::CaughtUp { offset } => format!("end of what was missed at {offset}"),
    }
}
