//! Where several tell of one message, they tell the same: its order, its generation, its place among others, its place in a history.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::anomaly::{Found, Kind};
use crate::messages::{Messages, message_in};

impl Messages<'_> {
    /// An accepted message keeps its order; where it was sent more than once, the stream is right and not the answer. (DELIVERY 7)
    pub(crate) fn orders_stay(&self, found: &mut Found) {
        let mut told: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
        for event in self.came.values().flatten() {
            told.entry(event.id).or_default().insert(event.order);
        }
        for answer in self.history.answers.iter().filter(|answer| answer.code == "accepted") {
            let Some((id, order)) = answer.message_id.as_deref().zip(answer.order) else { continue };
            let once = self.known.get(id).and_then(|message| self.send(message)).is_none_or(|(_, times)| times == 1);
            if once {
                told.entry(id).or_default().insert(order);
            }
        }
        for (id, mut orders) in told {
            orders.extend(self.topics.and_then(|topics| topics.messages.get(id)).map(|(_, order)| *order));
            if orders.len() > 1 {
                found.add(Kind::Renumbered, format!("{id} has the orders {orders:?}"));
            }
        }
    }

    /// Any two members have the messages that both have in the same order.
    pub(crate) fn groups_agree(&self, found: &mut Found) {
        let mut groups: BTreeMap<&str, Vec<(&str, Vec<&str>)>> = BTreeMap::new();
        for (user, came) in &self.came {
            let mut of: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
            for event in came {
                if let Some(group) = event.conversation.strip_prefix("group:") {
                    of.entry(group).or_default().push(event.id);
                }
            }
            for (group, ids) in of {
                groups.entry(group).or_default().push((user, ids));
            }
        }
        for (group, members) in groups {
            let Some((first, wanted)) = members.iter().max_by_key(|(_, ids)| ids.len()) else { continue };
            let places: HashMap<&str, usize> = wanted.iter().enumerate().map(|(at, id)| (*id, at)).collect();
            for (user, ids) in members.iter().filter(|(user, _)| user != first) {
                let both: Vec<(usize, &str)> = ids.iter().filter_map(|id| Some((*places.get(id)?, *id))).collect();
                if let Some(pair) = both.windows(2).find(|pair| pair[0].0 > pair[1].0) {
                    let words = format!(
                        "{group}: {user} got {} before {}, {first} got them the other way",
                        pair[0].1, pair[1].1
                    );
                    found.add(Kind::Disagreed, words);
                }
            }
        }
    }

    /// Each message that stands was decided, by one generation, the one that its sender was told.
    pub(crate) fn one_generation(&self, found: &mut Found) {
        let Some(topics) = self.topics else { return };
        let mut by: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
        for record in topics.stands.values() {
            if let Some(id) = message_in(record) {
                by.entry(id).or_default().insert(record.stamp.as_ref().map_or(0, |stamp| stamp.generation));
            }
        }
        for answer in self.history.answers.iter().filter(|answer| answer.code == "accepted") {
            let Some((id, generation)) = answer.message_id.as_deref().zip(answer.generation) else { continue };
            let once = self.known.get(id).and_then(|message| self.send(message)).is_none_or(|(_, times)| times == 1);
            if let Some(decided) = by.get_mut(id).filter(|_| once) {
                decided.insert(generation);
            }
        }
        for (id, generations) in by {
            if generations.contains(&0) {
                found.add(Kind::Undecided, format!("{id} stands, and no generation is stamped on it"));
            } else if generations.len() > 1 {
                found.add(Kind::DecidedTwice, format!("{id} was decided by the generations {generations:?}"));
            }
        }
    }

    /// A page of history is the newest of what came: a group's in order; a direct one is sorted by lamport, so only which they are is compared.
    pub(crate) fn told(&self, found: &mut Found) {
        for (user, conversation, limit, told) in &self.history.told {
            let mine = self.came.get(user.as_str()).into_iter().flatten();
            let mut once = HashSet::new();
            let came: Vec<&str> = mine
                .filter(|event| event.seen_by(user) == *conversation && once.insert(event.id))
                .map(|event| event.id)
                .collect();
            let newest = &came[came.len().saturating_sub(*limit)..];
            let same = if conversation.starts_with("group:") {
                newest.iter().eq(told.iter())
            } else {
                let all: HashSet<&str> = came.iter().copied().collect();
                told.len() == newest.len() && told.iter().all(|id| all.contains(id.as_str()))
            };
            if !same {
                let words = format!(
                    "{user} was told {} messages of {conversation} that are not the newest {} of those that came",
                    told.len(),
                    newest.len()
                );
                found.add(Kind::ToldOtherwise, words);
            }
        }
    }
}
