//! What a dumped log comes to: which records stand, where, whose streams they are in, and who was a member when.
//!
//! Written from the rules, and not with the product's own judgement: whoever checks must not share the mistake. (DELIVERY 2, 8, 17, 23, 26)

use std::collections::{BTreeMap, HashMap};

use crate::history::History;
use crate::lines::Record;

/// Bits of a position below the epoch.
const EPOCH_BITS: u32 = 43;
/// A sender's record that lands later, or that much earlier, after it was handed in does not stand.
const LATE_MS: u64 = 30_000;
const EARLY_MS: u64 = 5_000;

/// [joined, left) by order.
type Intervals = Vec<(u64, Option<u64>)>;

/// A log, judged.
#[derive(Debug, Default)]
pub(crate) struct Topics<'a> {
    /// By partition code and position.
    pub(crate) stands: BTreeMap<(u64, u64), &'a Record>,
    /// By user: what is in its stream, by position.
    pub(crate) streams: BTreeMap<&'a str, BTreeMap<u64, &'a Record>>,
    /// By message id: the record by its gateway that stands, and the order.
    pub(crate) messages: BTreeMap<&'a str, (&'a Record, u64)>,
    members: BTreeMap<&'a str, BTreeMap<&'a str, Intervals>>,
}

/// Topic code + 4 x partition, as the store has it.
fn code(topic: &str, partition: u64) -> u64 {
    u64::from(topic != "messages") + 4 * partition
}

impl<'a> Topics<'a> {
    pub(crate) fn of(history: &'a History) -> Self {
        let mut records: Vec<(u64, u64, &Record)> = history
            .records
            .iter()
            .map(|record| {
                let code = code(&record.topic, record.partition);
                (code, position(history, code, record.offset), record)
            })
            .collect();
        records.sort_by_key(|(code, position, _)| (*code, *position));
        let mut topics = Self::default();
        topics.take_changes(&records);
        let mut judge = Judge { dedupe_ms: history.dedupe_ms, ..Judge::default() };
        for (code, position, record) in records {
            let cut = history.epochs.contains_key(&(position >> EPOCH_BITS));
            let sender_is_member = match (record.kind.as_str(), group_of(record), &record.from) {
                ("group", Some(group), Some(from)) => topics.is_member(group, from, position),
                _ => true,
            };
            if judge.stands(code, position, cut, record) && sender_is_member {
                topics.put(code, position, record);
            }
        }
        topics
    }

    /// Was the user a member of the group at that order?
    pub(crate) fn is_member(&self, group: &str, user: &str, order: u64) -> bool {
        let intervals = self.members.get(group).and_then(|members| members.get(user));
        intervals.is_some_and(|them| {
            them.iter().any(|(joined, left)| *joined <= order && left.is_none_or(|left| order < left))
        })
    }

    /// The members at that order.
    pub(crate) fn members(&self, group: &str, order: u64) -> Vec<&'a str> {
        let all = self.members.get(group).into_iter().flat_map(BTreeMap::keys);
        all.copied().filter(|user| self.is_member(group, user, order)).collect()
    }

    /// Everybody who ever was one.
    pub(crate) fn ever_members(&self, group: &str) -> usize {
        self.members.get(group).map_or(0, BTreeMap::len)
    }

    /// Changes of groups, in the order of their positions: a group has one home partition in each epoch.
    fn take_changes(&mut self, records: &[(u64, u64, &'a Record)]) {
        let mut changes: Vec<(u64, &'a Record)> = records
            .iter()
            .filter(|(_, _, record)| record.kind == "group_change")
            .map(|(_, position, record)| (*position, *record))
            .collect();
        changes.sort_by_key(|(position, _)| *position);
        for (position, change) in changes {
            let Some(group) = change.group.as_deref() else { continue };
            let members = self.members.entry(group).or_default();
            match change.change.as_deref() {
                Some("created") => {
                    let by = change.by.as_deref().into_iter();
                    join(members, change.members.iter().map(|member| member.user()).chain(by), position);
                }
                Some("joined") => join(members, change.users.iter().map(String::as_str), position),
                Some("left") => leave(members, change.user.as_deref(), position),
                Some("deleted") => {
                    let all: Vec<&str> = members.keys().copied().collect();
                    all.into_iter().for_each(|user| leave(members, Some(user), position));
                }
                _ => {}
            }
        }
    }

    fn put(&mut self, code: u64, position: u64, record: &'a Record) {
        self.stands.insert((code, position), record);
        for user in audience(record) {
            self.streams.entry(user).or_default().insert(position, record);
        }
        if let ("direct" | "group", Some(id)) = (record.kind.as_str(), record.message_id.as_deref()) {
            self.messages.entry(id).or_insert((record, position));
        }
    }
}

/// With the epoch in which the offset was given.
fn position(history: &History, code: u64, offset: u64) -> u64 {
    let began = |starts: &BTreeMap<u64, u64>| offset >= starts.get(&code).copied().unwrap_or(0);
    let cut = history.epochs.iter().rev().find(|(_, starts)| began(starts)).map(|(epoch, _)| *epoch);
    (cut.unwrap_or(0) << EPOCH_BITS) + offset + 1
}

fn join<'a>(members: &mut BTreeMap<&'a str, Intervals>, users: impl Iterator<Item = &'a str>, at: u64) {
    for user in users {
        let intervals = members.entry(user).or_default();
        if intervals.last().is_none_or(|(_, left)| left.is_some()) {
            intervals.push((at, None));
        }
    }
}

fn leave(members: &mut BTreeMap<&str, Intervals>, user: Option<&str>, at: u64) {
    if let Some((_, left @ None)) = user.and_then(|user| members.get_mut(user)).and_then(|them| them.last_mut()) {
        *left = Some(at);
    }
}

/// The group that a message goes to.
pub(crate) fn group_of(record: &Record) -> Option<&str> {
    record.to.as_deref()?.strip_prefix("group:")
}

/// In whose streams a record is an event.
fn audience(record: &Record) -> Vec<&str> {
    let to = record.to.as_deref();
    match record.kind.as_str() {
        "direct" if record.discarded => Vec::new(),
        "direct" => to.and_then(|to| to.strip_prefix("user:")).into_iter().collect(),
        "own_copy" => record.from.as_deref().into_iter().collect(),
        "group_chunk" => record.members.iter().map(|member| member.user()).collect(),
        "receipt" | "rejection" => to.into_iter().collect(),
        "membership" => record.targets.iter().map(String::as_str).collect(),
        _ => Vec::new(),
    }
}

/// What one reader of everything remembers.
#[derive(Debug, Default)]
struct Judge<'a> {
    dedupe_ms: u64,
    /// When an id last occurred in a partition.
    met: HashMap<(u64, &'a str), u64>,
    /// Of the records that a partition got from another: the largest, by position and chunk.
    derived: HashMap<(u64, u64), (u64, u64)>,
}

impl<'a> Judge<'a> {
    fn stands(&mut self, at: u64, position: u64, cut: bool, record: &'a Record) -> bool {
        let landed = record.appended_at;
        if record.handed_in.is_some_and(|handed| landed > handed + LATE_MS || landed + EARLY_MS < handed) {
            return false;
        }
        if let ("direct" | "group", Some(id)) = (record.kind.as_str(), record.message_id.as_deref()) {
            let before = self.met.insert((at, id), landed);
            return before.is_none_or(|before| before < landed.saturating_sub(self.dedupe_ms));
        }
        let Some(source) = &record.source else { return true };
        if cut && source.position >> EPOCH_BITS < position >> EPOCH_BITS {
            // By a node that did not know of the cut yet.
            return false;
        }
        let mark = (source.position, source.chunk);
        let seen = self.derived.entry((at, code(&source.topic, source.partition))).or_insert((0, 0));
        // A position is 1 at least.
        let stands = mark > *seen;
        *seen = mark.max(*seen);
        stands
    }
}
