//! A page of a conversation: the viewer's stream rows, and for a group what the viewer may pull, each message once.

use heddle_model::{Conversation, GroupId, MessageId, UserId};
use sqlx::sqlite::SqliteConnection;

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

pub(super) async fn page(connection: &mut SqliteConnection, query: HistoryQuery) -> Result<HistoryPage, Fault> {
    let HistoryQuery { viewer, conversation, home, group_home, anchor, limit } = query;
    let archived = cursor(connection, home).await?;
    let group_archived = match group_home {
        Some(partition) => cursor(connection, partition).await?,
        None => heddle_model::Position::START,
    };
    let mut page = HistoryPage { archived, group_archived, ..HistoryPage::default() };
    let from = match anchor {
        HistoryAnchor::Newest => Some(From::Below(end())),
        HistoryAnchor::Before(id) => find(connection, &viewer, &conversation, id).await?.map(From::Below),
        HistoryAnchor::After(id) => find(connection, &viewer, &conversation, id).await?.map(From::Above),
    };
    if let Some(from) = from {
        (page.rows, page.more) = rows(connection, &viewer, &conversation, &from, limit).await?;
    }
    page.receipts = receipts(connection, &viewer, &conversation).await?;
    Ok(page)
}

/// The newest message that the user may see here.
pub(super) async fn newest(
    connection: &mut SqliteConnection,
    viewer: &UserId,
    conversation: &Conversation,
) -> Result<Option<HistoryRow>, Fault> {
    let (mut rows, _) = rows(connection, viewer, conversation, &From::Below(end()), 1).await?;
    Ok(rows.pop())
}

/// Oldest first; whether there are more beyond the far end.
async fn rows(
    connection: &mut SqliteConnection,
    viewer: &UserId,
    conversation: &Conversation,
    from: &From,
    limit: u32,
) -> Result<(Vec<HistoryRow>, bool), Fault> {
    let wanted = i64::from(limit) + 1;
    let mut found = from_stream(connection, viewer, conversation, from, wanted).await?;
    if let Conversation::Group(group) = conversation {
        found.extend(from_pulled(connection, viewer, group, from, wanted).await?);
    }
    Ok(layout::cut(found, from, limit))
}

async fn from_stream(
    connection: &mut SqliteConnection,
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
                 WHERE s.user = ?1 AND s.conversation = ?2 AND (s.shown, s.message_id) < (?3, ?4)
                 ORDER BY s.shown DESC, s.message_id DESC LIMIT ?5",
            ),
            key,
        ),
        From::Above(key) => (
            sqlx::query_as(
                "SELECT s.shown, s.message_id, s.position, s.ord, r.bytes FROM stream s
                 LEFT JOIN records r ON r.partition = s.partition AND r.position = s.position
                 WHERE s.user = ?1 AND s.conversation = ?2 AND (s.shown, s.message_id) > (?3, ?4)
                 ORDER BY s.shown, s.message_id LIMIT ?5",
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
async fn from_pulled(
    connection: &mut SqliteConnection,
    viewer: &UserId,
    group: &GroupId,
    from: &From,
    wanted: i64,
) -> Result<Vec<Found>, Fault> {
    let mut intervals = intervals(connection, viewer, group).await?;
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
            let row = HistoryRow { position: heddle_model::Position::START, order: position("pulled", order)?, bytes };
            found.push(Found { key: (order, Vec::new()), row });
        }
    }
    Ok(found)
}

const PULLED_NEWEST_FIRST: &str = "
    SELECT p.ord, r.bytes FROM pulled p
    LEFT JOIN records r ON r.partition = p.partition AND r.position = p.ord
    WHERE p.grp = ?1 AND p.ord >= ?2 AND p.ord < ?3
      AND (p.audience IS NULL OR p.sender = ?4 OR EXISTS (SELECT 1 FROM json_each(p.audience) a WHERE a.value = ?4))
      AND NOT EXISTS (SELECT 1 FROM stream s WHERE s.user = ?4 AND s.conversation = ?5 AND s.shown = p.ord)
    ORDER BY p.ord DESC LIMIT ?6";

const PULLED_OLDEST_FIRST: &str = "
    SELECT p.ord, r.bytes FROM pulled p
    LEFT JOIN records r ON r.partition = p.partition AND r.position = p.ord
    WHERE p.grp = ?1 AND p.ord >= ?2 AND p.ord < ?3
      AND (p.audience IS NULL OR p.sender = ?4 OR EXISTS (SELECT 1 FROM json_each(p.audience) a WHERE a.value = ?4))
      AND NOT EXISTS (SELECT 1 FROM stream s WHERE s.user = ?4 AND s.conversation = ?5 AND s.shown = p.ord)
    ORDER BY p.ord LIMIT ?6";

/// The viewer's intervals in a group, oldest first.
pub(super) async fn intervals(
    connection: &mut SqliteConnection,
    viewer: &UserId,
    group: &GroupId,
) -> Result<Vec<Interval>, Fault> {
    let rows: Vec<(i64, Option<i64>)> =
        sqlx::query_as("SELECT joined, left_at FROM group_members WHERE grp = ?1 AND user = ?2 ORDER BY joined")
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
    connection: &mut SqliteConnection,
    viewer: &UserId,
    conversation: &Conversation,
    id: MessageId,
) -> Result<Option<Key>, Fault> {
    let name = conversation.to_string();
    let shown: Option<i64> = sqlx::query_scalar(
        "SELECT s.shown FROM stream s
         WHERE s.user = ?1 AND s.conversation = ?2 AND s.incoming IN (0, 1)
           AND s.ord IN (SELECT position FROM records WHERE message_id = ?3) AND s.message_id = ?3 LIMIT 1",
    )
    .bind(viewer.as_str())
    .bind(&name)
    .bind(id.0.as_slice())
    .fetch_optional(&mut *connection)
    .await?;
    if let Some(shown) = shown {
        return Ok(Some((shown, id.0.to_vec())));
    }
    if let Conversation::Group(group) = conversation {
        let order: Option<i64> = sqlx::query_scalar(
            "SELECT p.ord FROM records r JOIN pulled p ON p.grp = ?2 AND p.ord = r.position AND p.partition = r.partition
             WHERE r.message_id = ?3
               AND (p.audience IS NULL OR p.sender = ?1 OR EXISTS (SELECT 1 FROM json_each(p.audience) a WHERE a.value = ?1))
               AND EXISTS (SELECT 1 FROM group_members m WHERE m.grp = ?2 AND m.user = ?1 AND m.joined <= p.ord
                           AND (m.left_at IS NULL OR m.left_at > p.ord)) LIMIT 1",
        )
        .bind(viewer.as_str())
        .bind(group.as_str())
        .bind(id.0.as_slice())
        .fetch_optional(&mut *connection)
        .await?;
        if let Some(order) = order {
            return Ok(Some((order, id.0.to_vec())));
        }
    }
    // An own copy may be archived before the first record, which stands in another partition: then the conversation's index is searched.
    let shown: Option<i64> = sqlx::query_scalar(
        "SELECT shown FROM stream WHERE user = ?1 AND conversation = ?2 AND message_id = ?3 LIMIT 1",
    )
    .bind(viewer.as_str())
    .bind(&name)
    .bind(id.0.as_slice())
    .fetch_optional(connection)
    .await?;
    Ok(shown.map(|shown| (shown, id.0.to_vec())))
}

async fn receipts(
    connection: &mut SqliteConnection,
    viewer: &UserId,
    conversation: &Conversation,
) -> Result<Vec<ReceiptState>, Fault> {
    let rows: Vec<(String, i64, i64)> = sqlx::query_as(
        "SELECT reader, delivered, read FROM receipts WHERE sender = ?1 AND conversation = ?2 ORDER BY reader LIMIT ?3",
    )
    .bind(viewer.as_str())
    .bind(conversation.to_string())
    .bind(RECEIPTS_MAX)
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
