//! A page of a conversation: the viewer's stream rows, and for a group what the viewer may pull, each message once.

use heddle_model::{Conversation, GroupId, MessageId, Position, UserId};
use sqlx::postgres::PgConnection;

use super::stream::cursor;
use crate::cell::{Interval, end_of, place, position, user};
use crate::fault::Fault;
use crate::layout::{self, Found, From, Key, end};
use crate::row::present;
use crate::{HistoryAnchor, HistoryPage, HistoryQuery, HistoryRow, ReceiptState};

/// A page tells of at most this many readers.
const RECEIPTS_MAX: u32 = 1_000;

/// Shown, message id, position, order, the record.
type StreamColumns = (i64, Vec<u8>, i64, i64, Option<Vec<u8>>);

/// `elsewhere`: orders of the anchor that another database knows.
pub(super) async fn page(
    connection: &mut PgConnection,
    query: HistoryQuery,
    elsewhere: Vec<i64>,
) -> Result<HistoryPage, Fault> {
    let HistoryQuery { viewer, conversation, home, group_home, anchor, limit } = query;
    let archived = cursor(connection, home).await?;
    let group_archived = match group_home {
        Some(partition) => cursor(connection, partition).await?,
        None => Position::START,
    };
    let mut page = HistoryPage { archived, group_archived, ..HistoryPage::default() };
    let from = match anchor {
        HistoryAnchor::Newest => Some(From::Below(end())),
        HistoryAnchor::Before(id) => find(connection, &viewer, &conversation, id, &elsewhere).await?.map(From::Below),
        HistoryAnchor::After(id) => find(connection, &viewer, &conversation, id, &elsewhere).await?.map(From::Above),
    };
    if let Some(from) = from {
        (page.rows, page.more) = rows(connection, &viewer, &conversation, &from, limit).await?;
    }
    page.receipts = receipts(connection, &viewer, &conversation).await?;
    Ok(page)
}

/// The newest message that the user may see here.
pub(super) async fn newest(
    connection: &mut PgConnection,
    viewer: &UserId,
    conversation: &Conversation,
) -> Result<Option<HistoryRow>, Fault> {
    let (mut rows, _) = rows(connection, viewer, conversation, &From::Below(end()), 1).await?;
    Ok(rows.pop())
}

/// Oldest first; whether there are more beyond the far end.
async fn rows(
    connection: &mut PgConnection,
    viewer: &UserId,
    conversation: &Conversation,
    from: &From,
    limit: u32,
) -> Result<(Vec<HistoryRow>, bool), Fault> {
    let wanted = i64::from(limit) + 1;
    let mut found = from_stream(connection, viewer, conversation, from, wanted).await?;
    if let Conversation::Group(group) = conversation {
        let intervals = intervals(connection, viewer, group).await?;
        found.extend(from_pulled(connection, viewer, group, intervals, from, wanted).await?);
    }
    Ok(layout::cut(found, from, limit))
}

pub(super) async fn from_stream(
    connection: &mut PgConnection,
    viewer: &UserId,
    conversation: &Conversation,
    from: &From,
    wanted: i64,
) -> Result<Vec<Found>, Fault> {
    let (query, (shown, id)) = match from {
        From::Below(key) => (
            sqlx::query_as(
                "SELECT s.shown, s.message_id, s.position, s.ord, r.bytes FROM stream s
                 LEFT JOIN records r ON r.partition = s.partition AND r.position = s.position
                 WHERE s.usr = $1 AND s.conversation = $2 AND (s.shown, s.message_id) < ($3, $4)
                 ORDER BY s.shown DESC, s.message_id DESC LIMIT $5",
            ),
            key,
        ),
        From::Above(key) => (
            sqlx::query_as(
                "SELECT s.shown, s.message_id, s.position, s.ord, r.bytes FROM stream s
                 LEFT JOIN records r ON r.partition = s.partition AND r.position = s.position
                 WHERE s.usr = $1 AND s.conversation = $2 AND (s.shown, s.message_id) > ($3, $4)
                 ORDER BY s.shown, s.message_id LIMIT $5",
            ),
            key,
        ),
    };
    let rows: Vec<StreamColumns> = query
        .bind(viewer.as_str())
        .bind(conversation.to_string())
        .bind(*shown)
        .bind(id)
        .bind(wanted)
        .fetch_all(connection)
        .await?;
    rows.into_iter()
        .map(|(shown, id, at, order, bytes)| {
            let bytes = present(bytes, at)?.into();
            let row = HistoryRow { position: position("stream", at)?, order: position("stream", order)?, bytes };
            Ok(Found { key: (shown, id), row })
        })
        .collect()
}

/// Interval by interval from the near end, so that a page is a few steps into the index whatever the group's length.
pub(super) async fn from_pulled(
    connection: &mut PgConnection,
    viewer: &UserId,
    group: &GroupId,
    mut intervals: Vec<Interval>,
    from: &From,
    wanted: i64,
) -> Result<Vec<Found>, Fault> {
    if matches!(from, From::Below(_)) {
        intervals.reverse();
    }
    let name = Conversation::Group(group.clone()).to_string();
    let mut found = Vec::new();
    for interval in intervals {
        let (joined, left) = (place("group_members", interval.joined)?, end_of(interval)?);
        let missing = wanted - found.len() as i64;
        if missing <= 0 {
            break;
        }
        let (query, low, high) = match from {
            From::Below((order, _)) => (sqlx::query_as(PULLED_NEWEST_FIRST), joined, left.min(*order)),
            From::Above((order, _)) => (sqlx::query_as(PULLED_OLDEST_FIRST), joined.max(order.saturating_add(1)), left),
        };
        let rows: Vec<(i64, Option<Vec<u8>>)> = query
            .bind(group.as_str())
            .bind(low)
            .bind(high)
            .bind(viewer.as_str())
            .bind(&name)
            .bind(missing)
            .fetch_all(&mut *connection)
            .await?;
        for (order, bytes) in rows {
            let bytes = present(bytes, order)?.into();
            let row = HistoryRow { position: Position::START, order: position("pulled", order)?, bytes };
            found.push(Found { key: (order, Vec::new()), row });
        }
    }
    Ok(found)
}

const PULLED_NEWEST_FIRST: &str = "
    SELECT p.ord, r.bytes FROM pulled p
    LEFT JOIN records r ON r.partition = p.partition AND r.position = p.ord
    WHERE p.grp = $1 AND p.ord >= $2 AND p.ord < $3
      AND (p.audience IS NULL OR p.sender = $4 OR $4 = ANY (p.audience))
      AND NOT EXISTS (SELECT 1 FROM stream s WHERE s.usr = $4 AND s.conversation = $5 AND s.shown = p.ord)
    ORDER BY p.ord DESC LIMIT $6";

const PULLED_OLDEST_FIRST: &str = "
    SELECT p.ord, r.bytes FROM pulled p
    LEFT JOIN records r ON r.partition = p.partition AND r.position = p.ord
    WHERE p.grp = $1 AND p.ord >= $2 AND p.ord < $3
      AND (p.audience IS NULL OR p.sender = $4 OR $4 = ANY (p.audience))
      AND NOT EXISTS (SELECT 1 FROM stream s WHERE s.usr = $4 AND s.conversation = $5 AND s.shown = p.ord)
    ORDER BY p.ord LIMIT $6";

/// The viewer's intervals in a group, oldest first.
pub(super) async fn intervals(
    connection: &mut PgConnection,
    viewer: &UserId,
    group: &GroupId,
) -> Result<Vec<Interval>, Fault> {
    let rows: Vec<(i64, Option<i64>)> =
        sqlx::query_as("SELECT joined, left_at FROM group_members WHERE grp = $1 AND usr = $2 ORDER BY joined")
            .bind(group.as_str())
            .bind(viewer.as_str())
            .fetch_all(connection)
            .await?;
    rows.into_iter()
        .map(|(joined, left)| {
            let left = left.map(|left| position("group_members", left)).transpose()?;
            Ok(Interval { joined: position("group_members", joined)?, left })
        })
        .collect()
}

/// The key of a message that the viewer has in this conversation.
async fn find(
    connection: &mut PgConnection,
    viewer: &UserId,
    conversation: &Conversation,
    id: MessageId,
    elsewhere: &[i64],
) -> Result<Option<Key>, Fault> {
    let key = find_by_order(connection, viewer, conversation, id, elsewhere).await?;
    if key.is_some() {
        return Ok(key);
    }
    if let Conversation::Group(group) = conversation
        && let Some(order) = find_pulled(connection, viewer, group, id).await?
        && intervals(connection, viewer, group).await?.iter().any(|interval| interval.contains(order))
    {
        return Ok(Some((place("pulled", order)?, id.0.to_vec())));
    }
    find_by_id(connection, viewer, conversation, id).await
}

/// In the viewer's stream, where the message's first record is known: here or `elsewhere`.
pub(super) async fn find_by_order(
    connection: &mut PgConnection,
    viewer: &UserId,
    conversation: &Conversation,
    id: MessageId,
    elsewhere: &[i64],
) -> Result<Option<Key>, Fault> {
    let shown: Option<i64> = sqlx::query_scalar(
        "SELECT s.shown FROM stream s
         WHERE s.usr = $1 AND s.conversation = $2 AND s.incoming = ANY ('{t,f}')
           AND s.ord = ANY (ARRAY(SELECT position FROM records WHERE message_id = $3) || $4::bigint[])
           AND s.message_id = $3 LIMIT 1",
    )
    .bind(viewer.as_str())
    .bind(conversation.to_string())
    .bind(id.0.as_slice())
    .bind(elsewhere)
    .fetch_optional(connection)
    .await?;
    Ok(shown.map(|shown| (shown, id.0.to_vec())))
}

/// An own copy may be archived before the first record, which stands in another partition: then the conversation's index is searched.
pub(super) async fn find_by_id(
    connection: &mut PgConnection,
    viewer: &UserId,
    conversation: &Conversation,
    id: MessageId,
) -> Result<Option<Key>, Fault> {
    let shown: Option<i64> =
        sqlx::query_scalar("SELECT shown FROM stream WHERE usr = $1 AND conversation = $2 AND message_id = $3 LIMIT 1")
            .bind(viewer.as_str())
            .bind(conversation.to_string())
            .bind(id.0.as_slice())
            .fetch_optional(connection)
            .await?;
    Ok(shown.map(|shown| (shown, id.0.to_vec())))
}

/// The order of a message that whoever is a member there may pull.
pub(super) async fn find_pulled(
    connection: &mut PgConnection,
    viewer: &UserId,
    group: &GroupId,
    id: MessageId,
) -> Result<Option<Position>, Fault> {
    let order: Option<i64> = sqlx::query_scalar(
        "SELECT p.ord FROM records r JOIN pulled p ON p.grp = $2 AND p.ord = r.position AND p.partition = r.partition
         WHERE r.message_id = $3 AND (p.audience IS NULL OR p.sender = $1 OR $1 = ANY (p.audience)) LIMIT 1",
    )
    .bind(viewer.as_str())
    .bind(group.as_str())
    .bind(id.0.as_slice())
    .fetch_optional(connection)
    .await?;
    order.map(|order| position("pulled", order)).transpose()
}

/// Where the records of a message stand.
pub(super) async fn orders(connection: &mut PgConnection, id: MessageId) -> Result<Vec<i64>, Fault> {
    let orders = sqlx::query_scalar("SELECT position FROM records WHERE message_id = $1").bind(id.0.as_slice());
    Ok(orders.fetch_all(connection).await?)
}

pub(super) async fn receipts(
    connection: &mut PgConnection,
    viewer: &UserId,
    conversation: &Conversation,
) -> Result<Vec<ReceiptState>, Fault> {
    let rows: Vec<(String, i64, i64)> = sqlx::query_as(
        "SELECT reader, delivered, read FROM receipts WHERE sender = $1 AND conversation = $2 ORDER BY reader LIMIT $3",
    )
    .bind(viewer.as_str())
    .bind(conversation.to_string())
    .bind(i64::from(RECEIPTS_MAX))
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|(by, delivered, read)| {
            Ok(ReceiptState {
                by: user("receipts", by)?,
                delivered: position("receipts", *delivered)?,
                read: position("receipts", *read)?,
            })
        })
        .collect()
}
