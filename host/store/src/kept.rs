//! Rows of the archive read back to be compared with what the log makes of them. The same in every database.

use heddle_model::{Conversation, MessageId, UserId};

use crate::cell::{conversation, fixed, group, partition, position, uint, user};
use crate::fault::Fault;
use crate::{GroupLogRow, ReceiptKept, StreamRow};

/// User, position, partition, conversation, shown, message id, order, incoming.
pub(crate) type StreamColumns = (String, i64, i64, Option<String>, Option<i64>, Option<Vec<u8>>, i64, bool);

/// An event, whose `lamport` is 0 where it is sorted by its order.
pub(crate) fn stream(columns: StreamColumns) -> Result<StreamRow, Fault> {
    let (name, at, code, about, shown, id, order, incoming) = columns;
    let about = about.map(|text| conversation("stream", &text)).transpose()?;
    let lamport = match &about {
        Some(Conversation::Group(_)) if shown == Some(order) => 0,
        _ => uint("stream", shown.unwrap_or(0))?,
    };
    Ok(StreamRow {
        user: user("stream", &name)?,
        partition: partition("stream", code)?,
        position: position("stream", at)?,
        conversation: about,
        order: position("stream", order)?,
        lamport,
        message_id: id.map(|id| fixed("stream", &id).map(MessageId)).transpose()?,
        incoming,
    })
}

/// Group, order, partition, sender, the names of those who may see it.
pub(crate) type PulledColumns = (String, i64, i64, String, Option<Vec<String>>);

/// A pulled message.
pub(crate) fn pulled((name, order, code, sender, only): PulledColumns) -> Result<GroupLogRow, Fault> {
    let only = only.map(|names| names.iter().map(|name| user("pulled", name)).collect::<Result<Vec<UserId>, Fault>>());
    Ok(GroupLogRow {
        partition: partition("pulled", code)?,
        group: group("pulled", &name)?,
        order: position("pulled", order)?,
        sender: user("pulled", &sender)?,
        pulled: true,
        discarded: false,
        only: only.transpose()?,
    })
}

/// Sender, conversation, reader, delivered, read, when.
pub(crate) type ReceiptColumns = (String, String, String, i64, i64, i64);

pub(crate) fn receipt((sender, about, by, delivered, read, at): ReceiptColumns) -> Result<ReceiptKept, Fault> {
    Ok(ReceiptKept {
        sender: user("receipts", &sender)?,
        conversation: conversation("receipts", &about)?,
        by: user("receipts", &by)?,
        delivered: position("receipts", delivered)?,
        read: position("receipts", read)?,
        at: uint("receipts", at)?,
    })
}
