//! What of a batch is the same for every database: how rows are sorted, and which of many counts.

use std::collections::HashMap;

use heddle_model::{Conversation, UserId};

use crate::cell::{int, place};
use crate::fault::Fault;
use crate::{HistoryRow, StreamRow};

/// What the row's conversation is sorted by: the lamport of a direct message, the order of a group's; none if it is no message.
pub(crate) fn shown(row: &StreamRow) -> Result<Option<i64>, Fault> {
    match (&row.conversation, &row.message_id) {
        (None, _) => Ok(None),
        (Some(name), None) => {
            let reason = format!("the event of {} at {} in {name} has no message id", row.user, row.position);
            Err(Fault::broken("stream", reason))
        }
        (Some(Conversation::Direct(_)), Some(_)) => int("stream", row.lamport).map(Some),
        (Some(Conversation::Group(_)), Some(_)) => place("stream", row.order).map(Some),
    }
}

/// The newest message per user and conversation, in the order of both.
pub(crate) fn newest(stream: &[StreamRow]) -> Vec<(&UserId, &Conversation, &StreamRow)> {
    let mut newest: HashMap<(&UserId, &Conversation), &StreamRow> = HashMap::new();
    for row in stream {
        if let Some(conversation) = &row.conversation {
            let kept = newest.entry((&row.user, conversation)).or_insert(row);
            if row.position > kept.position {
                *kept = row;
            }
        }
    }
    let mut newest: Vec<_> = newest.into_iter().map(|((user, conversation), row)| (user, conversation, row)).collect();
    newest.sort_unstable_by_key(|(user, conversation, _)| (*user, *conversation));
    newest
}

/// What a conversation is sorted by: lamport or order, then message id.
pub(crate) type Key = (i64, Vec<u8>);

/// A message found, with its key.
pub(crate) struct Found {
    pub(crate) key: Key,
    pub(crate) row: HistoryRow,
}

/// Which way to go from a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum From {
    Below(Key),
    Above(Key),
}

/// Behind every key.
pub(crate) fn end() -> Key {
    (i64::MAX, vec![0xff; 17])
}

/// The nearest `limit` of what was found, oldest first; whether there are more beyond the far end.
pub(crate) fn cut(mut found: Vec<Found>, from: &From, limit: u32) -> (Vec<HistoryRow>, bool) {
    found.sort_unstable_by(|a, b| match from {
        From::Below(_) => b.key.cmp(&a.key),
        From::Above(_) => a.key.cmp(&b.key),
    });
    let more = found.len() > limit as usize;
    found.truncate(limit as usize);
    if matches!(from, From::Below(_)) {
        found.reverse();
    }
    (found.into_iter().map(|found| found.row).collect(), more)
}
