//! The rules of receipts: forward only, never of what did not come, and in the archive the newest. (DELIVERY 19)

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::anomaly::{Found, Kind};
use crate::history::{History, Step};
use crate::lines::Frame;
use crate::streams::Seen;
use crate::topics::Topics;

/// Those in the streams of who sent what was received. A reader that came back, perhaps to another node, may have its older ones said again: they
/// are cumulative, and whoever takes them takes the newest.
pub(crate) fn in_streams(history: &History, seen: &Seen<'_>, found: &mut Found) {
    let mut connects: BTreeMap<&str, usize> = BTreeMap::new();
    for ((user, _), steps) in &history.devices {
        let times = steps.iter().filter(|step| matches!(step, Step::Connect(..))).count();
        *connects.entry(user).or_default() += times;
    }
    let got: BTreeMap<&str, HashSet<(&str, u64)>> = seen
        .iter()
        .map(|(user, events)| (*user, events.values().filter_map(|frame| message(frame)).collect()))
        .collect();
    for (sender, events) in seen {
        let mut last: BTreeMap<(&str, &str, &str), u64> = BTreeMap::new();
        for frame in events.values() {
            let Frame::Receipt { offset, conversation, by, status, order, count: None } = frame else { continue };
            let what = format!("{sender} was told at {offset} that {by} has {conversation} {status} up to {order}");
            let before = last.entry((conversation, by, status)).or_insert(0);
            let once = connects.get(by.as_str()) == Some(&1);
            if *order < *before && once {
                found.add(Kind::ReceiptWentBack, format!("{what}, and before that up to {before}"));
            }
            *before = (*order).max(*before);
            // Of somebody whose devices are not part of this history, nothing is known.
            if got.get(by.as_str()).is_some_and(|got| !got.contains(&(sender, *order))) {
                found.add(Kind::ReceiptOfNothing, format!("{what}, and it never came to {by}"));
            }
        }
    }
}

fn message(frame: &Frame) -> Option<(&str, u64)> {
    match frame {
        Frame::NewMessage { from, order, .. } => Some((from, *order)),
        _ => None,
    }
}

/// Those in the archive: of each reader the newest that the log has, and nothing else.
pub(crate) fn in_the_archive(history: &History, topics: &Topics<'_>, found: &mut Found) {
    let mut newest: BTreeMap<(&str, &str, &str), (u64, u64)> = BTreeMap::new();
    for record in topics.stands.values().filter(|record| record.kind == "receipt" && record.count.is_none()) {
        let about = (record.to.as_deref(), record.conversation.as_deref(), record.by.as_deref());
        let (Some(sender), Some(conversation), Some(reader)) = about else { continue };
        let order = record.order.unwrap_or_default();
        let (delivered, read) = newest.entry((sender, conversation, reader)).or_default();
        *delivered = order.max(*delivered);
        if record.status.as_deref() == Some("read") {
            *read = order.max(*read);
        }
    }
    let archived: BTreeMap<(&str, &str, &str), (u64, u64)> = history
        .archived_receipts
        .iter()
        .map(|((sender, conversation, reader), so_far)| {
            ((sender.as_str(), conversation.as_str(), reader.as_str()), *so_far)
        })
        .collect();
    for ((sender, conversation, reader), (delivered, read)) in &archived {
        if read > delivered {
            let words =
                format!("{reader} has read {conversation} of {sender} up to {read}, and has it up to {delivered}");
            found.add(Kind::ReadAboveDelivered, words);
        }
    }
    // In large groups they are counted in rows only.
    let counted = |conversation: &str| {
        let group = conversation.strip_prefix("group:");
        group.is_some_and(|group| topics.ever_members(group) > history.receipts_members_max)
    };
    let keys: BTreeSet<_> = newest.keys().chain(archived.keys()).filter(|(_, of, _)| !counted(of)).collect();
    for key in keys {
        let (wanted, is) = (newest.get(key), archived.get(key));
        // Where more is read than was delivered, that is said already.
        if wanted != is && is.is_none_or(|(delivered, read)| read <= delivered) {
            let (sender, conversation, reader) = key;
            let words = format!(
                "{reader} in {conversation} of {sender}: the log says (delivered, read) {wanted:?}, the archive {is:?}"
            );
            found.add(Kind::ReceiptNotTheNewest, words);
        }
    }
}
