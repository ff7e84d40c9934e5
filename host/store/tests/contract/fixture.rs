//! Rows as tests write them.

use bytes::Bytes;
use heddle_model::{Conversation, GroupId, MessageId, Partitioning, Position, Role, TopicPartition, UserId};
use heddle_store::{
    ArchiveBatch, ArchivedRecord, Cursor, GroupDelta, GroupLogRow, HistoryAnchor, HistoryPage, HistoryQuery,
    MemberDelta, Store, StreamRow,
};

pub(crate) const PARTITIONING: Partitioning = Partitioning { count: 16 };

pub(crate) fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

pub(crate) fn group(name: &str) -> GroupId {
    GroupId::new(name).unwrap()
}

pub(crate) fn conversation(name: &str) -> Conversation {
    Conversation::parse(name).unwrap()
}

pub(crate) fn home(name: &str) -> TopicPartition {
    PARTITIONING.home(&user(name))
}

pub(crate) fn group_home(name: &str) -> TopicPartition {
    PARTITIONING.group_home(&group(name))
}

pub(crate) fn at(position: u64) -> Position {
    Position(position)
}

pub(crate) fn message_id(number: u64) -> MessageId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    id[8..].copy_from_slice(&number.to_be_bytes());
    MessageId(id)
}

/// A record with the text `body`, appended at 1,000 + position.
pub(crate) fn record(partition: TopicPartition, position: u64, id: Option<u64>, body: &str) -> ArchivedRecord {
    ArchivedRecord {
        partition,
        position: at(position),
        appended_at: 1_000 + position,
        message_id: id.map(message_id),
        bytes: Bytes::copy_from_slice(body.as_bytes()),
    }
}

/// An incoming message in a user's stream.
pub(crate) fn event(of: &str, position: u64, name: &str, id: u64) -> StreamRow {
    StreamRow {
        user: user(of),
        partition: home(of),
        position: at(position),
        conversation: Some(conversation(name)),
        order: at(position),
        lamport: position,
        message_id: Some(message_id(id)),
        incoming: true,
    }
}

/// An event that is no message.
pub(crate) fn notice(of: &str, position: u64) -> StreamRow {
    let message = event(of, position, "user:nobody", 0);
    StreamRow { conversation: None, order: at(0), lamport: 0, message_id: None, incoming: false, ..message }
}

pub(crate) fn cursor(partition: TopicPartition, upto: u64) -> Cursor {
    Cursor { partition, upto: at(upto), judge: Bytes::from(format!("judge {upto}")) }
}

/// `bob` gets a direct message of `alice`, with its record.
pub(crate) fn direct(batch: &mut ArchiveBatch, position: u64, lamport: u64, id: u64) {
    batch.records.push(record(home("bob"), position, Some(id), &format!("m{id}")));
    batch.stream.push(StreamRow { lamport, ..event("bob", position, "user:alice", id) });
}

/// A pulled message of a group by `sender`, without the sender's own copy.
pub(crate) fn pulled(batch: &mut ArchiveBatch, name: &str, order: u64, sender: &str, id: u64) {
    batch.records.push(record(group_home(name), order, Some(id), &format!("m{id}")));
    batch.group_log.push(GroupLogRow {
        partition: group_home(name),
        group: group(name),
        order: at(order),
        sender: user(sender),
        pulled: true,
        discarded: false,
        only: None,
    });
}

/// A change of a group at `order`.
pub(crate) fn change(name: &str, order: u64, members: Vec<MemberDelta>) -> GroupDelta {
    GroupDelta {
        group: group(name),
        order: at(order),
        at: order,
        name: None,
        created_by: None,
        deleted: false,
        members,
    }
}

/// A group made at `order`; the first member makes it and is its admin.
pub(crate) fn made(name: &str, order: u64, members: &[&str]) -> GroupDelta {
    let joined = members.iter().enumerate().map(|(nth, member)| joined_as(member, nth == 0));
    GroupDelta {
        name: Some(format!("the {name}").into()),
        created_by: Some(user(members[0])),
        ..change(name, order, joined.collect())
    }
}

pub(crate) fn joined_as(member: &str, admin: bool) -> MemberDelta {
    MemberDelta::Joined(user(member), if admin { Role::Admin } else { Role::Member })
}

pub(crate) fn joined(member: &str) -> MemberDelta {
    joined_as(member, false)
}

pub(crate) fn left(member: &str) -> MemberDelta {
    MemberDelta::Left(user(member))
}

/// A page of a conversation.
pub(crate) async fn history(store: &Store, of: &str, name: &str, anchor: HistoryAnchor, limit: u32) -> HistoryPage {
    let group_home = match conversation(name) {
        Conversation::Group(group) => Some(PARTITIONING.group_home(&group)),
        Conversation::Direct(_) => None,
    };
    let query =
        HistoryQuery { viewer: user(of), conversation: conversation(name), home: home(of), group_home, anchor, limit };
    store.archive.history(query).await.unwrap()
}

/// The bodies of a page.
pub(crate) fn bodies(page: &HistoryPage) -> Vec<&str> {
    page.rows.iter().map(|row| std::str::from_utf8(&row.bytes).unwrap()).collect()
}
