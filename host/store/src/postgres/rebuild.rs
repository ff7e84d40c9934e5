//! Making rows of the archive anew.

use std::sync::Arc;

use async_trait::async_trait;
use heddle_model::{GroupId, Position, TopicPartition};
use sqlx::Executor as _;
use sqlx::postgres::PgConnection;

use super::columns::Prepared;
use super::fault::of;
use super::{PostgresStore, archive, members};
use crate::cell::{group, partition_code, place, position};
use crate::fault::Fault;
use crate::kept;
use crate::row::{RecordColumns, record};
use crate::{
    ArchiveBatch, ArchivedRecord, GroupDelta, Rebuild, ReceiptCut, ReceiptKept, ReceiptRow, StoreError, Stretch,
    StretchRows,
};

/// Conversations that are put right in one step.
const CONVERSATIONS_MAX: i64 = 1_000;

#[async_trait]
impl Rebuild for PostgresStore {
    async fn prepare_rebuild(&self) -> Result<(), StoreError> {
        let sql = "SET LOCAL statement_timeout = 0;
            CREATE INDEX IF NOT EXISTS rebuild_stream ON stream (partition, position);
            CREATE INDEX IF NOT EXISTS rebuild_pulled ON pulled (partition, ord);";
        self.at_length("prepare a rebuild", sql).await
    }

    async fn end_rebuild(&self) -> Result<(), StoreError> {
        let sql = "SET LOCAL statement_timeout = 0; DROP INDEX IF EXISTS rebuild_stream; DROP INDEX IF EXISTS rebuild_pulled;";
        self.at_length("end a rebuild", sql).await
    }

    async fn stretch(&self, stretch: Stretch) -> Result<StretchRows, StoreError> {
        self.connections.read("stretch", move |connection| Box::pin(rows(connection, stretch))).await
    }

    async fn replace(&self, stretch: Stretch, batch: ArchiveBatch) -> Result<(), StoreError> {
        let prepared = Arc::new(Prepared::new(batch).map_err(|fault| of(fault, "replace"))?);
        self.replace_prepared(stretch, prepared).await
    }

    async fn records_below(
        &self,
        partition: TopicPartition,
        below: Position,
        limit: u32,
    ) -> Result<Vec<ArchivedRecord>, StoreError> {
        let read = self.connections.read("records below", move |connection| {
            Box::pin(async move {
                let rows: Vec<RecordColumns> = sqlx::query_as(
                    "SELECT partition, position, appended_at, message_id, bytes FROM records
                     WHERE partition = $1 AND position < $2 ORDER BY position DESC LIMIT $3",
                )
                .bind(partition_code(partition))
                .bind(place("records", below)?)
                .bind(i64::from(limit))
                .fetch_all(connection)
                .await?;
                rows.into_iter().map(record).collect()
            })
        });
        read.await
    }

    async fn groups_above(&self, after: Option<&GroupId>, limit: u32) -> Result<Vec<(GroupId, Position)>, StoreError> {
        let after = after.map_or_else(String::new, |group| group.as_str().to_owned());
        let read = self.connections.read("groups above", move |connection| {
            let after = after.clone();
            Box::pin(async move {
                let rows: Vec<(String, i64)> = sqlx::query_as(
                    "SELECT n.grp, coalesce(h.head, 0) FROM (
                         (SELECT grp FROM groups WHERE grp > $1 ORDER BY grp LIMIT $2)
                         UNION (SELECT grp FROM group_heads WHERE grp > $1 ORDER BY grp LIMIT $2)
                         UNION (SELECT DISTINCT grp FROM group_members WHERE grp > $1 ORDER BY grp LIMIT $2)
                         ORDER BY grp LIMIT $2) n
                     LEFT JOIN group_heads h ON h.grp = n.grp ORDER BY n.grp",
                )
                .bind(after)
                .bind(i64::from(limit))
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
        let (group, changes) = (group.clone(), Arc::new(changes));
        let write = self.connections.write_at_leisure("remake a group", move |connection| {
            let (group, changes) = (group.clone(), Arc::clone(&changes));
            Box::pin(async move { remake_group(connection, &group, after, &changes, keep).await })
        });
        write.await
    }

    async fn set_head(&self, group: &GroupId, head: Position) -> Result<(), StoreError> {
        let group = group.clone();
        let write = self.connections.write("set head", move |connection| {
            let group = group.clone();
            Box::pin(async move { set_head(connection, &group, head).await })
        });
        write.await
    }

    async fn receipts_above(&self, after: Option<&ReceiptKept>, limit: u32) -> Result<Vec<ReceiptKept>, StoreError> {
        let after = after.map(|row| [row.sender.to_string(), row.conversation.to_string(), row.by.to_string()]);
        let after = after.unwrap_or_default();
        let read = self.connections.read("receipts above", move |connection| {
            let [sender, about, by] = after.clone();
            Box::pin(async move {
                let rows: Vec<kept::ReceiptColumns> = sqlx::query_as(
                    "SELECT sender, conversation, reader, delivered, read, greatest(delivered_at, read_at) FROM receipts
                     WHERE (sender, conversation, reader) > ($1, $2, $3) ORDER BY sender, conversation, reader LIMIT $4",
                )
                .bind(sender)
                .bind(about)
                .bind(by)
                .bind(i64::from(limit))
                .fetch_all(connection)
                .await?;
                rows.into_iter().map(kept::receipt).collect()
            })
        });
        read.await
    }

    async fn remake_receipts(&self, cuts: Vec<ReceiptCut>, rows: Vec<ReceiptRow>) -> Result<(), StoreError> {
        // One after the other: each raises what those before it left, in the order of the log.
        let rows = rows.into_iter().map(|row| {
            let batch = ArchiveBatch { receipts: vec![row], ..ArchiveBatch::default() };
            Prepared::new(batch).map_err(|fault| of(fault, "remake receipts"))
        });
        let work = Arc::new((cuts, rows.collect::<Result<Vec<_>, _>>()?));
        let write = self.connections.write_at_leisure("remake receipts", move |connection| {
            let work = Arc::clone(&work);
            Box::pin(async move { remake_receipts(connection, &work.0, &work.1).await })
        });
        write.await
    }

    async fn remake_conversations(&self, stretches: &[Stretch], keep: bool) -> Result<u64, StoreError> {
        let codes: Vec<i64> = stretches.iter().map(|stretch| partition_code(stretch.partition)).collect();
        let afters =
            stretches.iter().map(|stretch| place("conversations", stretch.after)).collect::<Result<Vec<_>, _>>();
        let stretches = Arc::new((codes, afters.map_err(|fault| of(fault, "remake conversations"))?));
        let mut all = 0;
        loop {
            let stretches = Arc::clone(&stretches);
            let step = self.connections.write_for("remake conversations", super::LONG, move |connection| {
                let stretches = Arc::clone(&stretches);
                Box::pin(async move { remake_conversations(connection, &stretches.0, &stretches.1, keep).await })
            });
            let some = step.await?;
            all += some;
            if !keep || some == 0 {
                return Ok(all);
            }
        }
    }
}

impl PostgresStore {
    /// [`Rebuild::replace`] of a batch that is laid out.
    pub(super) async fn replace_prepared(&self, stretch: Stretch, prepared: Arc<Prepared>) -> Result<(), StoreError> {
        self.ranges.ensure(&self.connections, prepared.positions.iter()).await?;
        let write = self.connections.write_at_leisure("replace", move |connection| {
            let prepared = Arc::clone(&prepared);
            Box::pin(async move { replace(connection, stretch, &prepared).await })
        });
        write.await
    }

    /// Statements that walk through whole tables.
    async fn at_length(&self, operation: &'static str, sql: &'static str) -> Result<(), StoreError> {
        let write = self.connections.write_for(operation, super::LONG, move |connection| {
            Box::pin(async move {
                connection.execute(sqlx::raw_sql(sql)).await?;
                Ok(())
            })
        });
        write.await
    }
}

/// A stretch as its statements take it: partition, after, upto.
fn bounds(stretch: Stretch) -> Result<(i64, i64, i64), Fault> {
    Ok((partition_code(stretch.partition), place("records", stretch.after)?, place("records", stretch.upto)?))
}

async fn rows(connection: &mut PgConnection, stretch: Stretch) -> Result<StretchRows, Fault> {
    let (code, after, upto) = bounds(stretch)?;
    let records: Vec<RecordColumns> = sqlx::query_as(
        "SELECT partition, position, appended_at, message_id, bytes FROM records
         WHERE partition = $1 AND position > $2 AND position <= $3",
    )
    .bind(code)
    .bind(after)
    .bind(upto)
    .fetch_all(&mut *connection)
    .await?;
    let stream: Vec<kept::StreamColumns> = sqlx::query_as(
        "SELECT usr, position, partition, conversation, shown, message_id, ord, incoming FROM stream
         WHERE partition = $1 AND position > $2 AND position <= $3",
    )
    .bind(code)
    .bind(after)
    .bind(upto)
    .fetch_all(&mut *connection)
    .await?;
    let pulled: Vec<kept::PulledColumns> = sqlx::query_as(
        "SELECT grp, ord, partition, sender, audience FROM pulled WHERE partition = $1 AND ord > $2 AND ord <= $3",
    )
    .bind(code)
    .bind(after)
    .bind(upto)
    .fetch_all(connection)
    .await?;
    Ok(StretchRows {
        records: records.into_iter().map(record).collect::<Result<_, _>>()?,
        stream: stream.into_iter().map(kept::stream).collect::<Result<_, _>>()?,
        pulled: pulled.into_iter().map(kept::pulled).collect::<Result<_, _>>()?,
    })
}

async fn replace(connection: &mut PgConnection, stretch: Stretch, batch: &Prepared) -> Result<(), Fault> {
    let (code, after, upto) = bounds(stretch)?;
    for sql in [
        "DELETE FROM records WHERE partition = $1 AND position > $2 AND position <= $3",
        "DELETE FROM stream WHERE partition = $1 AND position > $2 AND position <= $3",
        "DELETE FROM pulled WHERE partition = $1 AND ord > $2 AND ord <= $3",
    ] {
        sqlx::query(sql).bind(code).bind(after).bind(upto).execute(&mut *connection).await?;
    }
    // What stands where these belong, whatever partition it names.
    let (stream, pulled) = (&batch.stream, &batch.pulled);
    for (sql, names, places) in [
        (
            "DELETE FROM stream s USING unnest($1::text[], $2::bigint[]) AS k (usr, position)
             WHERE s.usr = k.usr AND s.position = k.position",
            &stream.user,
            &stream.position,
        ),
        (
            "DELETE FROM pulled p USING unnest($1::text[], $2::bigint[]) AS k (grp, ord)
             WHERE p.grp = k.grp AND p.ord = k.ord",
            &pulled.group,
            &pulled.order,
        ),
    ] {
        if !names.is_empty() {
            sqlx::query(sql).bind(names).bind(places).execute(&mut *connection).await?;
        }
    }
    archive::write(connection, batch).await
}

/// A group and its intervals, whole.
type Whole = (Vec<(String, String, i64, bool, i64, i64)>, Vec<(String, i64, Option<i64>, i64)>);

async fn whole(connection: &mut PgConnection, group: &GroupId) -> Result<Whole, Fault> {
    let row =
        sqlx::query_as("SELECT name, created_by, created_at, deleted, changed, changed_at FROM groups WHERE grp = $1")
            .bind(group.as_str())
            .fetch_all(&mut *connection)
            .await?;
    let members =
        sqlx::query_as("SELECT usr, joined, left_at, role FROM group_members WHERE grp = $1 ORDER BY usr, joined")
            .bind(group.as_str())
            .fetch_all(connection)
            .await?;
    Ok((row, members))
}

async fn remake_group(
    connection: &mut PgConnection,
    group: &GroupId,
    after: Position,
    changes: &[GroupDelta],
    keep: bool,
) -> Result<bool, Fault> {
    let before = whole(connection, group).await?;
    connection.execute("SAVEPOINT remake").await?;
    let born = changes.iter().any(|change| change.created_by.is_some());
    let gone = born || changes.is_empty();
    let after = place("groups", after)?;
    for sql in [
        "DELETE FROM group_members WHERE grp = $1 AND joined > $2",
        "UPDATE group_members SET left_at = NULL WHERE grp = $1 AND left_at > $2",
    ] {
        sqlx::query(sql).bind(group.as_str()).bind(after).execute(&mut *connection).await?;
    }
    if gone {
        // One that began above: the log makes it again, or knows nothing of it.
        sqlx::query(
            "DELETE FROM groups WHERE grp = $1 AND ($3 OR changed > $2)
             AND NOT EXISTS (SELECT FROM group_members m WHERE m.grp = $1)",
        )
        .bind(group.as_str())
        .bind(after)
        .bind(born)
        .execute(&mut *connection)
        .await?;
    }
    sqlx::query(
        "UPDATE groups SET changed = $2,
             deleted = deleted AND NOT EXISTS (SELECT FROM group_members m WHERE m.grp = $1 AND m.left_at IS NULL)
         WHERE grp = $1 AND changed > $2",
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

async fn set_head(connection: &mut PgConnection, group: &GroupId, head: Position) -> Result<(), Fault> {
    if head == Position::START {
        sqlx::query("DELETE FROM group_heads WHERE grp = $1").bind(group.as_str()).execute(connection).await?;
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO group_heads (grp, head) VALUES ($1, $2) ON CONFLICT (grp) DO UPDATE SET head = excluded.head",
    )
    .bind(group.as_str())
    .bind(place("group_heads", head)?)
    .execute(connection)
    .await?;
    Ok(())
}

async fn remake_receipts(connection: &mut PgConnection, cuts: &[ReceiptCut], rows: &[Prepared]) -> Result<(), Fault> {
    for cut in cuts {
        let (sender, about, by) = (cut.row.sender.as_str(), cut.row.conversation.to_string(), cut.row.by.as_str());
        let query = if cut.delivered == Position::START {
            sqlx::query("DELETE FROM receipts WHERE sender = $1 AND conversation = $2 AND reader = $3")
                .bind(sender)
                .bind(about)
                .bind(by)
        } else {
            sqlx::query(
                "UPDATE receipts SET delivered = $4, read = $5,
                     read_at = CASE WHEN $5 = 0 THEN 0 ELSE read_at END
                 WHERE sender = $1 AND conversation = $2 AND reader = $3",
            )
            .bind(sender)
            .bind(about)
            .bind(by)
            .bind(place("receipts", cut.delivered)?)
            .bind(place("receipts", cut.read)?)
        };
        query.execute(&mut *connection).await?;
    }
    for row in rows {
        archive::write(connection, row).await?;
    }
    Ok(())
}

/// Puts some right of those whose newest message would stand in one of these stretches, and is not there.
async fn remake_conversations(
    connection: &mut PgConnection,
    codes: &[i64],
    afters: &[i64],
    keep: bool,
) -> Result<u64, Fault> {
    connection.execute("SET LOCAL statement_timeout = 0").await?;
    let wrong: Vec<(String, String)> = sqlx::query_as(
        "SELECT c.usr, c.conversation FROM unnest($1::bigint[], $2::bigint[]) AS j (partition, low)
         JOIN conversations c ON c.partition = j.partition AND c.position > j.low
         WHERE NOT EXISTS (SELECT FROM stream s WHERE s.usr = c.usr AND s.position = c.position
                           AND s.conversation = c.conversation AND s.partition = c.partition)
         ORDER BY c.usr, c.conversation LIMIT $3",
    )
    .bind(codes)
    .bind(afters)
    .bind(CONVERSATIONS_MAX)
    .fetch_all(&mut *connection)
    .await?;
    for (user, conversation) in wrong.iter().filter(|_| keep) {
        for sql in [
            "DELETE FROM conversations WHERE usr = $1 AND conversation = $2",
            "INSERT INTO conversations (usr, conversation, position, partition)
             SELECT usr, conversation, position, partition FROM stream WHERE usr = $1 AND conversation = $2
             ORDER BY position DESC LIMIT 1",
        ] {
            sqlx::query(sql).bind(user).bind(conversation).execute(&mut *connection).await?;
        }
    }
    Ok(wrong.len() as u64)
}
