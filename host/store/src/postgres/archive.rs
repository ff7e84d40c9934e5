//! Writing a batch of the archiver: one statement a table.

use heddle_model::{Position, TopicPartition};
use sqlx::postgres::PgConnection;

use super::columns::Prepared;
use super::members;
use super::migrate::LOCK_PARTITION;
use super::text::plain;
use crate::cell::{partition_code, place, position, time};
use crate::fault::Fault;

/// Writes all of it; the caller commits.
pub(super) async fn write(connection: &mut PgConnection, batch: &Prepared) -> Result<(), Fault> {
    take_turn(connection, &batch.partitions).await?;
    check_epochs(connection, batch).await?;
    check_cuts(connection, batch).await?;
    write_records(connection, batch).await?;
    write_stream(connection, batch).await?;
    write_conversations(connection, batch).await?;
    write_receipts(connection, batch).await?;
    write_users(connection, batch).await?;
    for delta in &batch.groups {
        members::apply(connection, delta).await?;
    }
    write_group_log(connection, batch).await?;
    write_dead(connection, batch).await?;
    write_cursors(connection, batch).await
}

/// One writer at a time for each partition of the log, in the order of their numbers: an archiver that woke up late waits for the new one
/// and then finds its rows.
async fn take_turn(connection: &mut PgConnection, partitions: &[i64]) -> Result<(), Fault> {
    if !partitions.is_empty() {
        sqlx::query("SELECT count(pg_advisory_xact_lock($1 + p)) FROM (SELECT unnest($2::bigint[]) AS p) codes")
            .bind(LOCK_PARTITION)
            .bind(partitions)
            .execute(connection)
            .await?;
    }
    Ok(())
}

/// An archiver that stood still while the log was cut anew gives its records positions of the epoch before.
async fn check_epochs(connection: &mut PgConnection, batch: &Prepared) -> Result<(), Fault> {
    let mut partitions = Vec::new();
    let mut next_epochs = Vec::new();
    for (partition, upto, _) in &batch.cursors {
        let epoch = position("cursors", *upto)?.epoch();
        partitions.push(*partition);
        next_epochs.push(place("cursors", Position(Position::new(epoch + 1, 0).0 - 1))?);
    }
    let late: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM cursors c JOIN unnest($1::bigint[], $2::bigint[]) AS n (partition, later) USING (partition)
         WHERE c.upto >= n.later)",
    )
    .bind(partitions)
    .bind(next_epochs)
    .fetch_one(connection)
    .await?;
    if late { Err(Fault::Late) } else { Ok(()) }
}

/// The same, where the cursors stand in other databases, which hear of a cut a moment later.
async fn check_cuts(connection: &mut PgConnection, batch: &Prepared) -> Result<(), Fault> {
    if batch.elsewhere.is_empty() {
        return Ok(());
    }
    let (partitions, epochs): (Vec<i64>, Vec<i64>) = batch.elsewhere.iter().copied().unzip();
    let late: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM epoch_starts s JOIN unnest($1::bigint[], $2::bigint[]) AS n (partition, epoch) USING (partition)
         WHERE s.epoch > n.epoch)",
    )
    .bind(partitions)
    .bind(epochs)
    .fetch_one(connection)
    .await?;
    if late { Err(Fault::Late) } else { Ok(()) }
}

async fn write_records(connection: &mut PgConnection, batch: &Prepared) -> Result<(), Fault> {
    let rows = &batch.records;
    if rows.position.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO records (partition, position, appended_at, message_id, bytes)
         SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bytea[], $5::bytea[])
         ON CONFLICT (partition, position) DO NOTHING",
    )
    .bind(&rows.partition)
    .bind(&rows.position)
    .bind(&rows.appended_at)
    .bind(&rows.message_id)
    .bind(&rows.bytes)
    .execute(connection)
    .await?;
    Ok(())
}

async fn write_stream(connection: &mut PgConnection, batch: &Prepared) -> Result<(), Fault> {
    let rows = &batch.stream;
    if rows.position.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO stream (usr, position, partition, conversation, shown, message_id, incoming, ord)
         SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::bigint[], $6::bytea[], $7::bool[], $8::bigint[])
         ON CONFLICT (usr, position) DO NOTHING",
    )
    .bind(&rows.user)
    .bind(&rows.position)
    .bind(&rows.partition)
    .bind(&rows.conversation)
    .bind(&rows.shown)
    .bind(&rows.message_id)
    .bind(&rows.incoming)
    .bind(&rows.order)
    .execute(connection)
    .await?;
    Ok(())
}

async fn write_conversations(connection: &mut PgConnection, batch: &Prepared) -> Result<(), Fault> {
    let rows = &batch.conversations;
    if rows.user.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO conversations AS c (usr, conversation, position, partition)
         SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[])
         ON CONFLICT (usr, conversation) DO UPDATE SET position = excluded.position, partition = excluded.partition
         WHERE excluded.position > c.position",
    )
    .bind(&rows.user)
    .bind(&rows.conversation)
    .bind(&rows.position)
    .bind(&rows.partition)
    .execute(connection)
    .await?;
    Ok(())
}

async fn write_receipts(connection: &mut PgConnection, batch: &Prepared) -> Result<(), Fault> {
    let rows = &batch.receipts;
    if rows.sender.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO receipts AS r (sender, conversation, reader, delivered, delivered_at, read, read_at)
         SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[])
         ON CONFLICT (sender, conversation, reader) DO UPDATE
         SET delivered = greatest(r.delivered, excluded.delivered), read = greatest(r.read, excluded.read),
             delivered_at = CASE WHEN excluded.delivered > r.delivered THEN excluded.delivered_at ELSE r.delivered_at END,
             read_at = CASE WHEN excluded.read > r.read THEN excluded.read_at ELSE r.read_at END
         WHERE excluded.delivered > r.delivered OR excluded.read > r.read",
    )
    .bind(&rows.sender)
    .bind(&rows.conversation)
    .bind(&rows.reader)
    .bind(&rows.delivered)
    .bind(&rows.delivered_at)
    .bind(&rows.read)
    .bind(&rows.read_at)
    .execute(connection)
    .await?;
    Ok(())
}

async fn write_users(connection: &mut PgConnection, batch: &Prepared) -> Result<(), Fault> {
    let rows = &batch.users;
    if rows.user.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO users AS u (usr, since) SELECT * FROM unnest($1::text[], $2::bigint[])
         ON CONFLICT (usr) DO UPDATE SET since = excluded.since WHERE excluded.since < u.since",
    )
    .bind(&rows.user)
    .bind(&rows.since)
    .execute(connection)
    .await?;
    Ok(())
}

async fn write_group_log(connection: &mut PgConnection, batch: &Prepared) -> Result<(), Fault> {
    let rows = &batch.pulled;
    if !rows.group.is_empty() {
        sqlx::query(
            "INSERT INTO pulled (grp, ord, partition, sender, audience)
             SELECT grp, ord, partition, sender,
                    CASE WHEN audience IS NOT NULL THEN ARRAY(SELECT jsonb_array_elements_text(audience::jsonb)) END
             FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::text[])
                  AS p (grp, ord, partition, sender, audience)
             ON CONFLICT (grp, ord) DO NOTHING",
        )
        .bind(&rows.group)
        .bind(&rows.order)
        .bind(&rows.partition)
        .bind(&rows.sender)
        .bind(&rows.audience)
        .execute(&mut *connection)
        .await?;
    }
    let rows = &batch.heads;
    if !rows.group.is_empty() {
        sqlx::query(
            "INSERT INTO group_heads AS h (grp, head) SELECT * FROM unnest($1::text[], $2::bigint[])
             ON CONFLICT (grp) DO UPDATE SET head = excluded.head WHERE excluded.head > h.head",
        )
        .bind(&rows.group)
        .bind(&rows.head)
        .execute(connection)
        .await?;
    }
    Ok(())
}

async fn write_dead(connection: &mut PgConnection, batch: &Prepared) -> Result<(), Fault> {
    for letter in &batch.dead {
        sqlx::query(
            "INSERT INTO dead_letters (partition, position, given_up_by, error, at, bytes) VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT DO NOTHING",
        )
        .bind(partition_code(letter.partition))
        .bind(place("dead_letters", letter.position)?)
        .bind(letter.by)
        .bind(plain(&letter.error))
        .bind(time(letter.at))
        .bind(&*letter.bytes)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

pub(super) async fn keep_derived(
    connection: &mut PgConnection,
    cursors: &[(TopicPartition, Position)],
) -> Result<(), Fault> {
    let partitions: Vec<i64> = cursors.iter().map(|(partition, _)| partition_code(*partition)).collect();
    let places = cursors.iter().map(|(_, upto)| place("derived_cursors", *upto)).collect::<Result<Vec<_>, _>>()?;
    sqlx::query(
        "INSERT INTO derived_cursors AS c (partition, upto) SELECT * FROM unnest($1::bigint[], $2::bigint[])
         ON CONFLICT (partition) DO UPDATE SET upto = excluded.upto WHERE excluded.upto > c.upto",
    )
    .bind(partitions)
    .bind(places)
    .execute(connection)
    .await?;
    Ok(())
}

async fn write_cursors(connection: &mut PgConnection, batch: &Prepared) -> Result<(), Fault> {
    if batch.cursors.is_empty() {
        return Ok(());
    }
    let column = |nth: fn(&(i64, i64, Vec<u8>)) -> i64| batch.cursors.iter().map(nth).collect::<Vec<_>>();
    let judges: Vec<&[u8]> = batch.cursors.iter().map(|(_, _, judge)| judge.as_slice()).collect();
    sqlx::query(
        "INSERT INTO cursors AS c (partition, upto, judge) SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bytea[])
         ON CONFLICT (partition) DO UPDATE SET upto = excluded.upto, judge = excluded.judge WHERE excluded.upto > c.upto",
    )
    .bind(column(|cursor| cursor.0))
    .bind(column(|cursor| cursor.1))
    .bind(judges)
    .execute(connection)
    .await?;
    Ok(())
}
