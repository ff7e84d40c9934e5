//! A batch as columns: each table takes one statement over `unnest`, whatever the number of rows.
//!
//! Rows stand in the order of their keys, so that two writers of the same rows meet in the same order and none waits in a circle, and no key
//! twice where a statement may touch a row only once.

use std::collections::{BTreeMap, BTreeSet};

use heddle_model::{Position, ReceiptStatus, UserId};

use super::ranges::POSITION_END;
use crate::cell::{partition_code, place, time};
use crate::fault::Fault;
use crate::layout;
use crate::{ArchiveBatch, ArchivedRecord, Cursor, DeadLetter, GroupDelta, GroupLogRow, ReceiptRow, StreamRow};

/// A batch in the form in which its statements take it.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    /// Positions of records and events: their tables must be there.
    pub(super) positions: BTreeSet<i64>,
    /// The log's partitions, whose archive has one writer at a time.
    pub(super) partitions: Vec<i64>,
    pub(super) records: Records,
    pub(super) stream: Stream,
    pub(super) conversations: Conversations,
    pub(super) receipts: Receipts,
    pub(super) users: Users,
    pub(super) groups: Vec<GroupDelta>,
    pub(super) pulled: Pulled,
    pub(super) heads: Heads,
    pub(super) dead: Vec<DeadLetter>,
    pub(super) cursors: Vec<(i64, i64, Vec<u8>)>,
    /// Partitions whose cursors stand in another database, and the epochs of these: a cut that the writer does not know refuses the batch here too.
    pub(super) elsewhere: Vec<(i64, i64)>,
}

#[derive(Debug, Default)]
pub(super) struct Records {
    pub(super) partition: Vec<i64>,
    pub(super) position: Vec<i64>,
    pub(super) appended_at: Vec<i64>,
    pub(super) message_id: Vec<Option<Vec<u8>>>,
    pub(super) bytes: Vec<Vec<u8>>,
}

#[derive(Debug, Default)]
pub(super) struct Stream {
    pub(super) user: Vec<String>,
    pub(super) position: Vec<i64>,
    pub(super) partition: Vec<i64>,
    pub(super) conversation: Vec<Option<String>>,
    pub(super) shown: Vec<Option<i64>>,
    pub(super) message_id: Vec<Option<Vec<u8>>>,
    pub(super) incoming: Vec<bool>,
    pub(super) order: Vec<i64>,
}

#[derive(Debug, Default)]
pub(super) struct Conversations {
    pub(super) user: Vec<String>,
    pub(super) conversation: Vec<String>,
    pub(super) position: Vec<i64>,
    pub(super) partition: Vec<i64>,
}

#[derive(Debug, Default)]
pub(super) struct Receipts {
    pub(super) sender: Vec<String>,
    pub(super) conversation: Vec<String>,
    pub(super) reader: Vec<String>,
    pub(super) delivered: Vec<i64>,
    pub(super) delivered_at: Vec<i64>,
    pub(super) read: Vec<i64>,
    pub(super) read_at: Vec<i64>,
}

#[derive(Debug, Default)]
pub(super) struct Users {
    pub(super) user: Vec<String>,
    pub(super) since: Vec<i64>,
}

#[derive(Debug, Default)]
pub(super) struct Pulled {
    pub(super) group: Vec<String>,
    pub(super) order: Vec<i64>,
    pub(super) partition: Vec<i64>,
    pub(super) sender: Vec<String>,
    /// A JSON array of names: `unnest` flattens arrays of arrays.
    pub(super) audience: Vec<Option<String>>,
}

#[derive(Debug, Default)]
pub(super) struct Heads {
    pub(super) group: Vec<String>,
    pub(super) head: Vec<i64>,
}

impl Prepared {
    /// Checks and lays out the rows.
    pub(super) fn new(batch: ArchiveBatch) -> Result<Self, Fault> {
        let ArchiveBatch { mut records, mut stream, receipts, groups, mut group_log, users, mut dead, cursors } = batch;
        records.sort_by_key(|record| (record.partition, record.position));
        stream.sort_by(|a, b| (&a.user, a.position).cmp(&(&b.user, b.position)));
        group_log.sort_by(|a, b| (&a.group, a.order).cmp(&(&b.group, b.order)));
        dead.sort_by_key(|letter| (letter.partition, letter.position, letter.by));
        let mut prepared = Self {
            conversations: conversation_rows(&stream)?,
            receipts: receipt_rows(&receipts)?,
            users: user_rows(&users),
            cursors: cursor_rows(cursors)?,
            groups,
            dead,
            ..Self::default()
        };
        prepared.add_records(records)?;
        prepared.add_stream(&stream)?;
        prepared.add_group_log(&group_log)?;
        prepared.partitions = prepared.partitions();
        Ok(prepared)
    }

    /// Is there anything for a database that has no partition?
    pub(super) fn has_any(&self) -> bool {
        !(self.users.user.is_empty()
            && self.groups.is_empty()
            && self.heads.group.is_empty()
            && self.elsewhere.is_empty())
    }

    fn partitions(&self) -> Vec<i64> {
        let cursors = self.cursors.iter().map(|(partition, ..)| partition);
        let all = cursors.chain(&self.records.partition).chain(&self.pulled.partition);
        all.copied().collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Where a row of the archive stands.
    fn place(&mut self, table: &'static str, position: Position) -> Result<i64, Fault> {
        let at = place(table, position)?;
        if at >= POSITION_END {
            return Err(Fault::broken(table, format!("position {at} is beyond the last, {}", POSITION_END - 1)));
        }
        self.positions.insert(at);
        Ok(at)
    }

    fn add_records(&mut self, records: Vec<ArchivedRecord>) -> Result<(), Fault> {
        for record in records {
            let position = self.place("records", record.position)?;
            self.records.partition.push(partition_code(record.partition));
            self.records.position.push(position);
            self.records.appended_at.push(time(record.appended_at));
            self.records.message_id.push(record.message_id.map(|id| id.0.to_vec()));
            self.records.bytes.push(record.bytes.to_vec());
        }
        Ok(())
    }

    fn add_stream(&mut self, stream: &[StreamRow]) -> Result<(), Fault> {
        for row in stream {
            let position = self.place("stream", row.position)?;
            self.stream.user.push(row.user.as_str().to_owned());
            self.stream.position.push(position);
            self.stream.partition.push(partition_code(row.partition));
            self.stream.conversation.push(row.conversation.as_ref().map(ToString::to_string));
            self.stream.shown.push(layout::shown(row)?);
            self.stream.message_id.push(row.message_id.as_ref().map(|id| id.0.to_vec()));
            self.stream.incoming.push(row.incoming);
            self.stream.order.push(place("stream", row.order)?);
        }
        Ok(())
    }

    /// What members may pull, and the newest message of each group.
    fn add_group_log(&mut self, group_log: &[GroupLogRow]) -> Result<(), Fault> {
        let mut heads = BTreeMap::new();
        for row in group_log.iter().filter(|row| !row.discarded) {
            let order = place("pulled", row.order)?;
            let head = heads.entry(&row.group).or_insert(order);
            *head = order.max(*head);
            if row.pulled {
                let names = |only: &Vec<UserId>| serde_json::json!(only.iter().map(UserId::as_str).collect::<Vec<_>>());
                self.pulled.group.push(row.group.as_str().to_owned());
                self.pulled.order.push(order);
                self.pulled.partition.push(partition_code(row.partition));
                self.pulled.sender.push(row.sender.as_str().to_owned());
                self.pulled.audience.push(row.only.as_ref().map(|only| names(only).to_string()));
            }
        }
        for (group, head) in heads {
            self.heads.group.push(group.as_str().to_owned());
            self.heads.head.push(head);
        }
        Ok(())
    }
}

/// Counts what is handed in to be archived, whatever the number of databases that it goes to.
pub(super) fn count_rows(batch: &ArchiveBatch) {
    for (table, rows) in [
        ("records", batch.records.len()),
        ("stream", batch.stream.len()),
        ("receipts", batch.receipts.len()),
        ("group_log", batch.group_log.len()),
    ] {
        metrics::counter!("heddle_store_rows_total", "table" => table).increment(rows as u64);
    }
}

fn conversation_rows(stream: &[StreamRow]) -> Result<Conversations, Fault> {
    let mut rows = Conversations::default();
    for (user, conversation, row) in layout::newest(stream) {
        rows.user.push(user.as_str().to_owned());
        rows.conversation.push(conversation.to_string());
        rows.position.push(place("conversations", row.position)?);
        rows.partition.push(partition_code(row.partition));
    }
    Ok(rows)
}

/// The furthest of each reader, with the time of the first that came so far.
fn receipt_rows(receipts: &[ReceiptRow]) -> Result<Receipts, Fault> {
    let mut furthest = BTreeMap::new();
    for row in receipts {
        let (order, at) = (place("receipts", row.order)?, time(row.at));
        let key = (row.sender.as_str(), row.conversation.to_string(), row.by.as_str());
        let (delivered, read) = furthest.entry(key).or_insert(((order, at), (0, 0)));
        if order > delivered.0 {
            *delivered = (order, at);
        }
        if row.status == ReceiptStatus::Read && order > read.0 {
            *read = (order, at);
        }
    }
    let mut rows = Receipts::default();
    for ((sender, conversation, reader), ((delivered, delivered_at), (read, read_at))) in furthest {
        rows.sender.push(sender.to_owned());
        rows.conversation.push(conversation);
        rows.reader.push(reader.to_owned());
        rows.delivered.push(delivered);
        rows.delivered_at.push(delivered_at);
        rows.read.push(read);
        rows.read_at.push(read_at);
    }
    Ok(rows)
}

fn user_rows(users: &[(UserId, u64)]) -> Users {
    let mut earliest = BTreeMap::new();
    for (user, since) in users {
        let kept = earliest.entry(user.as_str()).or_insert(time(*since));
        *kept = time(*since).min(*kept);
    }
    let (user, since) = earliest.into_iter().map(|(user, since)| (user.to_owned(), since)).unzip();
    Users { user, since }
}

fn cursor_rows(cursors: Vec<Cursor>) -> Result<Vec<(i64, i64, Vec<u8>)>, Fault> {
    let mut furthest: BTreeMap<i64, (i64, Vec<u8>)> = BTreeMap::new();
    for cursor in cursors {
        let upto = place("cursors", cursor.upto)?;
        let kept = furthest.entry(partition_code(cursor.partition)).or_insert((-1, Vec::new()));
        if upto > kept.0 {
            *kept = (upto, cursor.judge.to_vec());
        }
    }
    Ok(furthest.into_iter().map(|(partition, (upto, judge))| (partition, upto, judge)).collect())
}
