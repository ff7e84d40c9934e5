//! The archive has what stands in the log, byte for byte, and nothing else.

use std::collections::BTreeMap;

use crate::anomaly::{Found, Kind};
use crate::history::History;
use crate::topics::Topics;

pub(crate) fn equals(history: &History, topics: &Topics<'_>, found: &mut Found) {
    let mut archived: BTreeMap<(u64, u64), &str> = BTreeMap::new();
    for (place, sha256) in &history.archived {
        if archived.insert(*place, sha256).is_some() {
            found.add(Kind::ArchivedTooMuch, format!("{} is there twice", shown(*place)));
        }
    }
    for (place, record) in &topics.stands {
        match archived.get(place) {
            None => found.add(Kind::NotArchived, format!("{}, a {}", shown(*place), record.kind)),
            Some(sha256) if **sha256 != record.sha256 => {
                let words =
                    format!("{}, a {}, has the hash {sha256} and not {}", shown(*place), record.kind, record.sha256);
                found.add(Kind::ArchivedOtherwise, words);
            }
            Some(_) => {}
        }
    }
    for place in archived.keys().filter(|place| !topics.stands.contains_key(place)) {
        found.add(Kind::ArchivedTooMuch, format!("{} does not stand in the log", shown(*place)));
    }
}

fn shown((code, position): (u64, u64)) -> String {
    let topic = if code % 4 == 0 { "messages" } else { "group_messages" };
    format!("position {position} of {topic}/{}", code / 4)
}
