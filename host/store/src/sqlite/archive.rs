//! Writing a batch of the archiver: one statement a table, whatever the number of rows.

use heddle_model::{Conversation, Position, ReceiptStatus, TopicPartition, UserId};
use sqlx::sqlite::SqliteConnection;

use super::members;
use super::rows::{Cell, Rows, texts};
use crate::cell::{partition_code, place, time};
use crate::fault::Fault;
use crate::layout;
use crate::{ArchiveBatch, ArchivedRecord, Cursor, DeadLetter, GroupDelta, GroupLogRow, ReceiptRow, StreamRow};

/// A batch in the form in which its statements take it; made by the caller, not by the writer.
#[derive(Debug)]
pub(super) struct Prepared {
    records: Option<String>,
    /// The records' bytes, one after the other: SQLite cuts them out with `substr`.
    bytes: Vec<u8>,
    stream: Option<String>,
    conversations: Option<String>,
    receipts: Option<String>,
    pulled: Option<String>,
    heads: Option<String>,
    users: Option<String>,
    groups: Vec<GroupDelta>,
    dead: Vec<DeadLetter>,
    cursors: Vec<Cursor>,
}

impl Prepared {
    /// Checks and lays out the rows.
    pub(super) fn new(batch: ArchiveBatch) -> Result<Self, Fault> {
        let ArchiveBatch { records, mut stream, receipts, groups, group_log, users, dead, cursors } = batch;
        count("records", records.len());
        count("stream", stream.len());
        count("receipts", receipts.len());
        count("group_log", group_log.len());
        let (records, bytes) = record_rows(records)?;
        // In the order of the key, so that neighbours land on the same page.
        stream.sort_unstable_by(|a, b| (&a.user, a.position).cmp(&(&b.user, b.position)));
        let (pulled, heads) = group_rows(&group_log)?;
        Ok(Self {
            records,
            bytes,
            conversations: conversation_rows(&stream)?,
            stream: stream_rows(&stream)?,
            receipts: receipt_rows(&receipts)?,
            pulled,
            heads,
            users: user_rows(&users),
            groups,
            dead,
            cursors,
        })
    }
}

fn count(table: &'static str, rows: usize) {
    metrics::counter!("heddle_store_rows_total", "table" => table).increment(rows as u64);
}

fn record_rows(records: Vec<ArchivedRecord>) -> Result<(Option<String>, Vec<u8>), Fault> {
    let mut bytes = Vec::with_capacity(records.iter().map(|record| record.bytes.len()).sum());
    let mut rows = Rows::default();
    for record in &records {
        rows.push(&[
            Cell::Int(partition_code(record.partition)),
            Cell::Int(place("records", record.position)?),
            Cell::Int(time(record.appended_at)),
            record.message_id.as_ref().map_or(Cell::Null, |id| Cell::Hex(&id.0)),
            // `substr` counts from 1.
            Cell::Int(bytes.len() as i64 + 1),
            Cell::Int(record.bytes.len() as i64),
        ]);
        bytes.extend_from_slice(&record.bytes);
    }
    Ok((rows.finish(), bytes))
}

fn stream_rows(stream: &[StreamRow]) -> Result<Option<String>, Fault> {
    let mut rows = Rows::default();
    for row in stream {
        let order = place("stream", row.order)?;
        let name = row.conversation.as_ref().map(Conversation::to_string);
        let shown = layout::shown(row)?.map_or(Cell::Null, Cell::Int);
        rows.push(&[
            Cell::Text(row.user.as_str()),
            Cell::Int(place("stream", row.position)?),
            Cell::Int(partition_code(row.partition)),
            name.as_deref().map_or(Cell::Null, Cell::Text),
            shown,
            row.message_id.as_ref().map_or(Cell::Null, |id| Cell::Hex(&id.0)),
            Cell::Int(i64::from(row.incoming)),
            Cell::Int(order),
        ]);
    }
    Ok(rows.finish())
}

/// The newest message per user and conversation.
fn conversation_rows(stream: &[StreamRow]) -> Result<Option<String>, Fault> {
    let mut rows = Rows::default();
    for (user, conversation, row) in layout::newest(stream) {
        rows.push(&[
            Cell::Text(user.as_str()),
            Cell::Text(&conversation.to_string()),
            Cell::Int(place("conversations", row.position)?),
            Cell::Int(partition_code(row.partition)),
        ]);
    }
    Ok(rows.finish())
}

fn receipt_rows(receipts: &[ReceiptRow]) -> Result<Option<String>, Fault> {
    let mut rows = Rows::default();
    for row in receipts {
        let order = place("receipts", row.order)?;
        rows.push(&[
            Cell::Text(row.sender.as_str()),
            Cell::Text(&row.conversation.to_string()),
            Cell::Text(row.by.as_str()),
            Cell::Int(order),
            Cell::Int(if row.status == ReceiptStatus::Read { order } else { 0 }),
            Cell::Int(time(row.at)),
        ]);
    }
    Ok(rows.finish())
}

/// What members may pull, and the newest message of each group.
fn group_rows(group_log: &[GroupLogRow]) -> Result<(Option<String>, Option<String>), Fault> {
    let (mut pulled, mut heads) = (Rows::default(), Rows::default());
    for row in group_log.iter().filter(|row| !row.discarded) {
        let (group, order) = (row.group.as_str(), place("pulled", row.order)?);
        heads.push(&[Cell::Text(group), Cell::Int(order)]);
        if row.pulled {
            // Nested JSON: the text of an array, as a text.
            let audience = row.only.as_ref().map(|only| texts(only.iter().map(UserId::as_str)));
            pulled.push(&[
                Cell::Text(group),
                Cell::Int(order),
                Cell::Int(partition_code(row.partition)),
                Cell::Text(row.sender.as_str()),
                audience.as_deref().map_or(Cell::Null, Cell::Text),
            ]);
        }
    }
    Ok((pulled.finish(), heads.finish()))
}

fn user_rows(users: &[(UserId, u64)]) -> Option<String> {
    let mut rows = Rows::default();
    for (user, since) in users {
        rows.push(&[Cell::Text(user.as_str()), Cell::Int(time(*since))]);
    }
    rows.finish()
}

/// Removes events and pulled messages that stand where these belong, whatever partition they name; the caller writes and commits.
pub(super) async fn clear(connection: &mut SqliteConnection, batch: &Prepared) -> Result<(), Fault> {
    for (json, sql) in [
        (
            &batch.stream,
            "DELETE FROM stream WHERE (user, position) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?1))",
        ),
        (&batch.pulled, "DELETE FROM pulled WHERE (grp, ord) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?1))"),
    ] {
        if let Some(json) = json {
            sqlx::query(sql).bind(json).execute(&mut *connection).await?;
        }
    }
    Ok(())
}

/// Writes all of it; the caller commits.
pub(super) async fn write(connection: &mut SqliteConnection, batch: &Prepared) -> Result<(), Fault> {
    write_records(connection, batch).await?;
    if let Some(json) = &batch.stream {
        sqlx::query(
            "INSERT INTO stream (user, position, partition, conversation, shown, message_id, incoming, ord)
             SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, unhex(value ->> 5), value ->> 6, value ->> 7
             FROM json_each(?1) WHERE true ON CONFLICT (user, position) DO NOTHING",
        )
        .bind(json)
        .execute(&mut *connection)
        .await?;
    }
    if let Some(json) = &batch.conversations {
        sqlx::query(
            "INSERT INTO conversations (user, conversation, position, partition)
             SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM json_each(?1) WHERE true
             ON CONFLICT (user, conversation) DO UPDATE SET position = excluded.position, partition = excluded.partition
             WHERE excluded.position > position",
        )
        .bind(json)
        .execute(&mut *connection)
        .await?;
    }
    write_receipts(connection, batch).await?;
    for delta in &batch.groups {
        members::apply(connection, delta).await?;
    }
    write_group_log(connection, batch).await?;
    write_dead(connection, &batch.dead).await?;
    write_cursors(connection, &batch.cursors).await
}

async fn write_records(connection: &mut SqliteConnection, batch: &Prepared) -> Result<(), Fault> {
    let Some(json) = &batch.records else { return Ok(()) };
    sqlx::query(
        "INSERT INTO records (partition, position, appended_at, message_id, bytes)
         SELECT value ->> 0, value ->> 1, value ->> 2, unhex(value ->> 3), substr(?2, value ->> 4, value ->> 5)
         FROM json_each(?1) WHERE true ON CONFLICT (partition, position) DO NOTHING",
    )
    .bind(json)
    .bind(&batch.bytes)
    .execute(connection)
    .await?;
    Ok(())
}

async fn write_receipts(connection: &mut SqliteConnection, batch: &Prepared) -> Result<(), Fault> {
    if let Some(json) = &batch.receipts {
        sqlx::query(
            "INSERT INTO receipts (sender, conversation, reader, delivered, read, at)
             SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5
             FROM json_each(?1) WHERE true
             ON CONFLICT (sender, conversation, reader) DO UPDATE
             SET delivered = max(delivered, excluded.delivered), read = max(read, excluded.read), at = excluded.at
             WHERE excluded.delivered > delivered OR excluded.read > read",
        )
        .bind(json)
        .execute(&mut *connection)
        .await?;
    }
    if let Some(json) = &batch.users {
        sqlx::query(
            "INSERT INTO users (user, since) SELECT value ->> 0, value ->> 1 FROM json_each(?1) WHERE true
             ON CONFLICT (user) DO UPDATE SET since = excluded.since WHERE excluded.since < since",
        )
        .bind(json)
        .execute(connection)
        .await?;
    }
    Ok(())
}

async fn write_group_log(connection: &mut SqliteConnection, batch: &Prepared) -> Result<(), Fault> {
    if let Some(json) = &batch.pulled {
        sqlx::query(
            "INSERT INTO pulled (grp, ord, partition, sender, audience)
             SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4 FROM json_each(?1) WHERE true
             ON CONFLICT (grp, ord) DO NOTHING",
        )
        .bind(json)
        .execute(&mut *connection)
        .await?;
    }
    if let Some(json) = &batch.heads {
        sqlx::query(
            "INSERT INTO group_heads (grp, head) SELECT value ->> 0, value ->> 1 FROM json_each(?1) WHERE true
             ON CONFLICT (grp) DO UPDATE SET head = excluded.head WHERE excluded.head > head",
        )
        .bind(json)
        .execute(connection)
        .await?;
    }
    Ok(())
}

async fn write_dead(connection: &mut SqliteConnection, dead: &[DeadLetter]) -> Result<(), Fault> {
    for letter in dead {
        sqlx::query(
            "INSERT INTO dead_letters (partition, position, given_up_by, error, at, bytes) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT DO NOTHING",
        )
        .bind(partition_code(letter.partition))
        .bind(place("dead_letters", letter.position)?)
        .bind(letter.by)
        .bind(&letter.error)
        .bind(time(letter.at))
        .bind(&*letter.bytes)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

pub(super) async fn keep_derived(
    connection: &mut SqliteConnection,
    cursors: &[(TopicPartition, Position)],
) -> Result<(), Fault> {
    for (partition, upto) in cursors {
        sqlx::query(
            "INSERT INTO derived_cursors (partition, upto) VALUES (?1, ?2)
             ON CONFLICT (partition) DO UPDATE SET upto = excluded.upto WHERE excluded.upto > upto",
        )
        .bind(partition_code(*partition))
        .bind(place("derived_cursors", *upto)?)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

async fn write_cursors(connection: &mut SqliteConnection, cursors: &[Cursor]) -> Result<(), Fault> {
    for cursor in cursors {
        sqlx::query(
            "INSERT INTO cursors (partition, upto, judge) VALUES (?1, ?2, ?3)
             ON CONFLICT (partition) DO UPDATE SET upto = excluded.upto, judge = excluded.judge WHERE excluded.upto > upto",
        )
        .bind(partition_code(cursor.partition))
        .bind(place("cursors", cursor.upto)?)
        .bind(&*cursor.judge)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}
