//! The rows of the archive as a function of the log: what one record that stands becomes. Nothing here asks anybody. (DELIVERY 10, 12)

use std::sync::Arc;

use bytes::Bytes;
use heddle_model::{
    GroupChange, GroupChangeKind, Message, Millis, Plan, Position, ReceiptRecord, Record, Role, TopicPartition, UserId,
};
use heddle_store::{
    ArchiveBatch, ArchivedRecord, DeadLetter, GroupDelta, GroupLogRow, MemberDelta, ReceiptRow, StreamRow,
};

use crate::expand::group_of;

/// Where a record stands, and when it was appended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) partition: TopicPartition,
    pub(crate) position: Position,
    pub(crate) at: Millis,
}

impl Place {
    /// Of one that is archived.
    pub(crate) fn of(record: &ArchivedRecord) -> Self {
        Self { partition: record.partition, position: record.position, at: record.appended_at }
    }

    /// The record is given up now.
    pub(crate) fn dead(self, bytes: Bytes, error: String, now: Millis) -> DeadLetter {
        DeadLetter { partition: self.partition, position: self.position, by: "archiver", error, at: now, bytes }
    }

    /// Adds the rows of a record that stands.
    pub(crate) fn add(self, batch: &mut ArchiveBatch, record: &Record, bytes: Bytes) {
        batch.records.push(ArchivedRecord {
            partition: self.partition,
            position: self.position,
            appended_at: self.at,
            message_id: record.message_id(),
            bytes,
        });
        let order = match record {
            Record::OwnCopy(copy) => copy.order,
            Record::GroupChunk(chunk) => chunk.order,
            _ => self.position,
        };
        for user in record.audience() {
            batch.stream.push(self.stream(user, record.message(), order));
        }
        match record {
            Record::Direct(message) => batch.users.push((message.sender.clone(), message.sent_at)),
            Record::Group(message) => batch.group_log.extend(self.group_log(message)),
            Record::GroupChange(change) => batch.groups.push(self.delta(change)),
            Record::Receipt(receipt) => batch.receipts.push(receipt_row(receipt)),
            _ => {}
        }
    }

    fn stream(self, user: &UserId, message: Option<&Arc<Message>>, order: Position) -> StreamRow {
        StreamRow {
            user: user.clone(),
            partition: self.partition,
            position: self.position,
            conversation: message.map(|message| message.conversation_for(user)),
            order: if message.is_some() { order } else { Position::START },
            lamport: message.map_or(0, |message| message.lamport),
            message_id: message.map(|message| message.id),
            incoming: message.is_some_and(|message| message.sender != *user),
        }
    }

    fn group_log(self, message: &Message) -> Option<GroupLogRow> {
        Some(GroupLogRow {
            partition: self.partition,
            group: group_of(message)?.clone(),
            order: self.position,
            sender: message.sender.clone(),
            pulled: message.plan == Plan::Pull,
            discarded: message.discarded,
            only: message.only.clone(),
        })
    }

    pub(crate) fn delta(self, change: &GroupChange) -> GroupDelta {
        let mut delta = GroupDelta {
            group: change.group.clone(),
            order: self.position,
            at: change.at,
            name: None,
            created_by: None,
            deleted: false,
            members: Vec::new(),
        };
        match &change.kind {
            GroupChangeKind::Created { name, members } => {
                delta.name = Some(name.clone());
                delta.created_by = Some(change.by.clone());
                delta.members.push(MemberDelta::Joined(change.by.clone(), Role::Admin));
                let others = members.iter().filter(|user| **user != change.by);
                delta.members.extend(others.map(|user| MemberDelta::Joined(user.clone(), Role::Member)));
            }
            GroupChangeKind::Joined { users } => {
                delta.members.extend(users.iter().map(|user| MemberDelta::Joined(user.clone(), Role::Member)));
            }
            GroupChangeKind::Left { user } => delta.members.push(MemberDelta::Left(user.clone())),
            GroupChangeKind::Role { user, role } => delta.members.push(MemberDelta::Role(user.clone(), *role)),
            GroupChangeKind::Renamed { name } => delta.name = Some(name.clone()),
            GroupChangeKind::Deleted => delta.deleted = true,
        }
        delta
    }
}

/// What a receipt says to the archive.
pub(crate) fn receipt_row(receipt: &ReceiptRecord) -> ReceiptRow {
    ReceiptRow {
        sender: receipt.to.clone(),
        conversation: receipt.conversation.clone(),
        by: receipt.by.clone(),
        status: receipt.status,
        order: receipt.order,
        at: receipt.at,
    }
}
