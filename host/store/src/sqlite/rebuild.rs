//! Making rows of the archive anew.

use async_trait::async_trait;
use heddle_model::{GroupId, Position, TopicPartition};
use sqlx::Executor as _;
use sqlx::sqlite::SqliteConnection;

use super::archive::Prepared;
use super::fault::of;
use super::members;
use super::rows::{Cell, Rows};
use super::work::Work;
use super::{SqliteStore, archive};
use crate::cell::{group, partition_code, place, position};
use crate::fault::Fault;
use crate::kept;
use crate::row::{RecordColumns, record};
use crate::{
    ArchiveBatch, ArchivedRecord, GroupDelta, Rebuild, ReceiptCut, ReceiptKept, ReceiptRow, StoreError, Stretch,
    StretchRows,
};

/// Conversations that are put right in one step.
const CONVERSATIONS_MAX: u32 = 1_000;

#[async_trait]
impl Rebuild for SqliteStore {
    async fn prepare_rebuild(&self) -> Result<(), StoreError> {
        self.writer.write(Work::PrepareRebuild).await.map(drop)
    }

    async fn end_rebuild(&self) -> Result<(), StoreError> {
        self.writer.write(Work::EndRebuild).await.map(drop)
    }

    async fn stretch(&self, stretch: Stretch) -> Result<StretchRows, StoreError> {
        self.reader.read("stretch", move |connection| Box::pin(rows(connection, stretch))).await
    }

    async fn replace(&self, stretch: Stretch, batch: ArchiveBatch) -> Result<(), StoreError> {
        let prepared = Prepared::new(batch).map_err(|fault| of(fault, "replace"))?;
        self.writer.write(Work::Replace(stretch, prepared)).await.map(drop)
    }

    async fn records_below(
        &self,
        partition: TopicPartition,
        below: Position,
        limit: u32,
    ) -> Result<Vec<ArchivedRecord>, StoreError> {
        let read = self.reader.read("records below", move |connection| {
            Box::pin(async move {
                let rows: Vec<RecordColumns> = sqlx::query_as(
                    "SELECT partition, position, appended_at, message_id, bytes FROM records
                     WHERE partition = ?1 AND position < ?2 ORDER BY position DESC LIMIT ?3",
                )
                .bind(partition_code(partition))
                .bind(place("records", below)?)
                .bind(limit)
                .fetch_all(connection)
                .await?;
                rows.into_iter().map(record).collect()
            })
        });
        read.await
    }

    async fn groups_above(&self, after: Option<&GroupId>, limit: u32) -> Result<Vec<(GroupId, Position)>, StoreError> {
        let after = after.map_or_else(String::new, |group| group.as_str().to_owned());
        let read = self.reader.read("groups above", move |connection| {
            Box::pin(async move {
                let rows: Vec<(String, i64)> = sqlx::query_as(
                    "SELECT n.grp, coalesce(h.head, 0) FROM (
                         SELECT grp FROM groups WHERE grp > ?1 UNION SELECT grp FROM group_heads WHERE grp > ?1
                         UNION SELECT grp FROM group_members WHERE grp > ?1 ORDER BY grp LIMIT ?2) n
                     LEFT JOIN group_heads h ON h.grp = n.grp ORDER BY n.grp",
                )
                .bind(after)
                .bind(limit)
                .fetch_all(connection)
                .await?;
                let rows = rows.iter().map(|(id, head)| Ok((group("groups", id)?, position("group_heads", *head)?)));
                rows.collect()
            })
        });
        read.await
    }

    async fn remake_group(
        &self,
        group: &GroupId,
        after: Position,
        changes: Vec<GroupDelta>,
        keep: bool,
    ) -> Result<bool, StoreError> {
        let work = Work::RemakeGroup { group: group.clone(), after, changes, keep };
        Ok(self.writer.write(work).await?.changed())
    }

    async fn set_head(&self, group: &GroupId, head: Position) -> Result<(), StoreError> {
        self.writer.write(Work::SetHead(group.clone(), head)).await.map(drop)
    }

    async fn receipts_above(&self, after: Option<&ReceiptKept>, limit: u32) -> Result<Vec<ReceiptKept>, StoreError> {
        let after = after.map(|row| [row.sender.to_string(), row.conversation.to_string(), row.by.to_string()]);
        let [sender, about, by] = after.unwrap_or_default();
        let read = self.reader.read("receipts above", move |connection| {
            Box::pin(async move {
                let rows: Vec<kept::ReceiptColumns> = sqlx::query_as(
                    "SELECT sender, conversation, reader, delivered, read, at FROM receipts
                     WHERE (sender, conversation, reader) > (?1, ?2, ?3) ORDER BY sender, conversation, reader LIMIT ?4",
                )
                .bind(sender)
                .bind(about)
                .bind(by)
                .bind(limit)
                .fetch_all(connection)
                .await?;
                rows.into_iter().map(kept::receipt).collect()
            })
        });
        read.await
    }

    async fn remake_receipts(&self, cuts: Vec<ReceiptCut>, rows: Vec<ReceiptRow>) -> Result<(), StoreError> {
        let batch = ArchiveBatch { receipts: rows, ..ArchiveBatch::default() };
        let prepared = Prepared::new(batch).map_err(|fault| of(fault, "remake receipts"))?;
        self.writer.write(Work::RemakeReceipts(cuts, prepared)).await.map(drop)
    }

    async fn remake_conversations(&self, stretches: &[Stretch], keep: bool) -> Result<u64, StoreError> {
        let mut json = Rows::default();
        for stretch in stretches {
            let after = place("conversations", stretch.after).map_err(|fault| of(fault, "remake conversations"))?;
            json.push(&[Cell::Int(partition_code(stretch.partition)), Cell::Int(after)]);
        }
        let Some(json) = json.finish() else { return Ok(0) };
        let mut all = 0;
        loop {
            let stretches = json.clone();
            let wrong =
                self.reader.read("conversations", |connection| Box::pin(strayed(connection, stretches))).await?;
            all += wrong.len() as u64;
            if !keep || wrong.is_empty() {
                return Ok(all);
            }
            self.writer.write(Work::RemakeConversations(wrong)).await?;
        }
    }
}

pub(super) async fn prepare(connection: &mut SqliteConnection) -> Result<(), Fault> {
    connection
        .execute(
            "CREATE INDEX IF NOT EXISTS rebuild_stream ON stream (partition, position);
             CREATE INDEX IF NOT EXISTS rebuild_pulled ON pulled (partition, ord);",
        )
        .await?;
    Ok(())
}

pub(super) async fn end(connection: &mut SqliteConnection) -> Result<(), Fault> {
    connection.execute("DROP INDEX IF EXISTS rebuild_stream; DROP INDEX IF EXISTS rebuild_pulled;").await?;
    Ok(())
}

/// A stretch as its statements take it: partition, after, upto.
fn bounds(stretch: Stretch) -> Result<(i64, i64, i64), Fault> {
    Ok((partition_code(stretch.partition), place("records", stretch.after)?, place("records", stretch.upto)?))
}

async fn rows(connection: &mut SqliteConnection, stretch: Stretch) -> Result<StretchRows, Fault> {
    let (code, after, upto) = bounds(stretch)?;
    let records: Vec<RecordColumns> = sqlx::query_as(
        "SELECT partition, position, appended_at, message_id, bytes FROM records
         WHERE partition = ?1 AND position > ?2 AND position <= ?3",
    )
    .bind(code)
    .bind(after)
    .bind(upto)
    .fetch_all(&mut *connection)
    .await?;
    let stream: Vec<kept::StreamColumns> = sqlx::query_as(
        "SELECT user, position, partition, conversation, shown, message_id, ord, incoming FROM stream
         WHERE partition = ?1 AND position > ?2 AND position <= ?3",
    )
    .bind(code)
    .bind(after)
    .bind(upto)
    .fetch_all(&mut *connection)
    .await?;
    let pulled: Vec<(String, i64, i64, String, Option<String>)> = sqlx::query_as(
        "SELECT grp, ord, partition, sender, audience FROM pulled WHERE partition = ?1 AND ord > ?2 AND ord <= ?3",
    )
    .bind(code)
    .bind(after)
    .bind(upto)
    .fetch_all(connection)
    .await?;
    let pulled = pulled.into_iter().map(|(group, order, code, sender, only)| {
        let only = only.map(|json| serde_json::from_str(&json)).transpose();
        let only = only.map_err(|error| Fault::broken("pulled", error.to_string()))?;
        kept::pulled((group, order, code, sender, only))
    });
    Ok(StretchRows {
        records: records.into_iter().map(record).collect::<Result<_, _>>()?,
        stream: stream.into_iter().map(kept::stream).collect::<Result<_, _>>()?,
        pulled: pulled.collect::<Result<_, _>>()?,
    })
}

pub(super) async fn replace(
    connection: &mut SqliteConnection,
    stretch: Stretch,
    batch: &Prepared,
) -> Result<(), Fault> {
    let (code, after, upto) = bounds(stretch)?;
    for sql in [
        "DELETE FROM records WHERE partition = ?1 AND position > ?2 AND position <= ?3",
        "DELETE FROM stream WHERE partition = ?1 AND position > ?2 AND position <= ?3",
        "DELETE FROM pulled WHERE partition = ?1 AND ord > ?2 AND ord <= ?3",
    ] {
        sqlx::query(sql).bind(code).bind(after).bind(upto).execute(&mut *connection).await?;
    }
    archive::clear(connection, batch).await?;
    archive::write(connection, batch).await
}

/// A group and its intervals, whole.
type Whole = (Vec<(String, String, i64, i64, i64, i64)>, Vec<(String, i64, Option<i64>, i64)>);

async fn whole(connection: &mut SqliteConnection, group: &GroupId) -> Result<Whole, Fault> {
    let row =
        sqlx::query_as("SELECT name, created_by, created_at, deleted, changed, changed_at FROM groups WHERE grp = ?1")
            .bind(group.as_str())
            .fetch_all(&mut *connection)
            .await?;
    let members =
        sqlx::query_as("SELECT user, joined, left_at, role FROM group_members WHERE grp = ?1 ORDER BY user, joined")
            .bind(group.as_str())
            .fetch_all(connection)
            .await?;
    Ok((row, members))
}

pub(super) async fn remake_group(
    connection: &mut SqliteConnection,
    group: &GroupId,
    after: Position,
    changes: &[GroupDelta],
    keep: bool,
) -> Result<bool, Fault> {
    let before = whole(connection, group).await?;
    connection.execute("SAVEPOINT remake").await?;
    let born = changes.iter().any(|change| change.created_by.is_some());
    let after = place("groups", after)?;
    for sql in [
        "DELETE FROM group_members WHERE grp = ?1 AND joined > ?2",
        "UPDATE group_members SET left_at = NULL WHERE grp = ?1 AND left_at > ?2",
    ] {
        sqlx::query(sql).bind(group.as_str()).bind(after).execute(&mut *connection).await?;
    }
    if born || changes.is_empty() {
        // One that began above: the log makes it again, or knows nothing of it.
        sqlx::query(
            "DELETE FROM groups WHERE grp = ?1 AND (?3 OR changed > ?2)
             AND NOT EXISTS (SELECT 1 FROM group_members m WHERE m.grp = ?1)",
        )
        .bind(group.as_str())
        .bind(after)
        .bind(born)
        .execute(&mut *connection)
        .await?;
    }
    sqlx::query(
        "UPDATE groups SET changed = ?2,
             deleted = deleted AND NOT EXISTS (SELECT 1 FROM group_members m WHERE m.grp = ?1 AND m.left_at IS NULL)
         WHERE grp = ?1 AND changed > ?2",
    )
    .bind(group.as_str())
    .bind(after)
    .execute(&mut *connection)
    .await?;
    for change in changes {
        members::apply(connection, change).await?;
    }
    let changed = whole(connection, group).await? != before;
    if !(keep && changed) {
        connection.execute("ROLLBACK TO remake").await?;
    }
    connection.execute("RELEASE remake").await?;
    Ok(changed)
}

pub(super) async fn set_head(connection: &mut SqliteConnection, group: &GroupId, head: Position) -> Result<(), Fault> {
    let head = place("group_heads", head)?;
    sqlx::query(if head == 0 {
        "DELETE FROM group_heads WHERE grp = ?1"
    } else {
        "INSERT INTO group_heads (grp, head) VALUES (?1, ?2) ON CONFLICT (grp) DO UPDATE SET head = excluded.head"
    })
    .bind(group.as_str())
    .bind(head)
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn remake_receipts(
    connection: &mut SqliteConnection,
    cuts: &[ReceiptCut],
    batch: &Prepared,
) -> Result<(), Fault> {
    for cut in cuts {
        let gone = cut.delivered == Position::START;
        sqlx::query(if gone {
            "DELETE FROM receipts WHERE sender = ?1 AND conversation = ?2 AND reader = ?3"
        } else {
            "UPDATE receipts SET delivered = ?4, read = ?5 WHERE sender = ?1 AND conversation = ?2 AND reader = ?3"
        })
        .bind(cut.row.sender.as_str())
        .bind(cut.row.conversation.to_string())
        .bind(cut.row.by.as_str())
        .bind(place("receipts", cut.delivered)?)
        .bind(place("receipts", cut.read)?)
        .execute(&mut *connection)
        .await?;
    }
    archive::write(connection, batch).await
}

/// Conversations whose newest message would stand in one of these stretches, and is not there.
async fn strayed(connection: &mut SqliteConnection, stretches: String) -> Result<Vec<(String, String)>, Fault> {
    Ok(sqlx::query_as(
        "SELECT c.user, c.conversation FROM json_each(?1) j
         JOIN conversations c ON c.partition = j.value ->> 0 AND c.position > j.value ->> 1
         WHERE NOT EXISTS (SELECT 1 FROM stream s WHERE s.user = c.user AND s.position = c.position
                           AND s.conversation = c.conversation AND s.partition = c.partition)
         ORDER BY c.user, c.conversation LIMIT ?2",
    )
    .bind(stretches)
    .bind(CONVERSATIONS_MAX)
    .fetch_all(connection)
    .await?)
}

pub(super) async fn remake_conversations(
    connection: &mut SqliteConnection,
    wrong: &[(String, String)],
) -> Result<(), Fault> {
    for (user, conversation) in wrong {
        for sql in [
            "DELETE FROM conversations WHERE user = ?1 AND conversation = ?2",
            "INSERT INTO conversations (user, conversation, position, partition)
             SELECT user, conversation, position, partition FROM stream WHERE user = ?1 AND conversation = ?2
             ORDER BY position DESC LIMIT 1",
        ] {
            sqlx::query(sql).bind(user).bind(conversation).execute(&mut *connection).await?;
        }
    }
    Ok(())
}
