//! The conversations of a user: what is in the stream, and the groups.

use std::collections::{HashMap, HashSet};

use heddle_model::{Conversation, Position, UserId};
use sqlx::sqlite::SqliteConnection;

use super::{devices, directory, history};
use crate::cell::{conversation, end_of, group, place, position};
use crate::fault::Fault;
use crate::{ConversationRow, UNREAD_MAX};

/// One that may be listed, before the costly questions are asked.
#[derive(Debug, Default)]
struct Candidate {
    /// In the user's stream; 0: not there.
    position: Position,
    /// What it is sorted by: when something was last appended, or the group changed.
    at: i64,
    /// A group's name.
    name: Option<Box<str>>,
}

pub(super) async fn list(
    connection: &mut SqliteConnection,
    user: UserId,
    limit: u32,
) -> Result<Vec<ConversationRow>, Fault> {
    let mut candidates = HashMap::new();
    add_streamed(connection, &user, &mut candidates).await?;
    add_groups(connection, &user, &mut candidates).await?;
    let mut candidates: Vec<(Conversation, Candidate)> = candidates.into_iter().collect();
    candidates.sort_unstable_by(|(a, x), (b, y)| (y.at, y.position, a).cmp(&(x.at, x.position, b)));
    candidates.truncate(limit as usize);
    let reads: HashMap<Conversation, Position> = devices::reads(connection, &user).await?.into_iter().collect();
    let muted: HashSet<Conversation> = directory::mutes(connection, &user).await?.into_iter().collect();
    let mut rows = Vec::with_capacity(candidates.len());
    for (conversation, candidate) in candidates {
        let last = history::newest(connection, &user, &conversation).await?;
        let read = reads.get(&conversation).copied().unwrap_or_default();
        rows.push(ConversationRow {
            position: candidate.position,
            order: last.as_ref().map_or(Position::START, |last| last.order),
            last: last.map(|last| last.bytes),
            unread: unread(connection, &user, &conversation, read).await?,
            muted: muted.contains(&conversation),
            name: candidate.name,
            conversation,
        });
    }
    Ok(rows)
}

async fn add_streamed(
    connection: &mut SqliteConnection,
    user: &UserId,
    candidates: &mut HashMap<Conversation, Candidate>,
) -> Result<(), Fault> {
    let rows: Vec<(String, i64, Option<i64>)> = sqlx::query_as(
        "SELECT c.conversation, c.position, r.appended_at FROM conversations c
         LEFT JOIN records r ON r.partition = c.partition AND r.position = c.position WHERE c.user = ?1",
    )
    .bind(user.as_str())
    .fetch_all(connection)
    .await?;
    for (name, at, appended_at) in rows {
        let key = conversation("conversations", &name)?;
        let kept = candidates.entry(key).or_default();
        kept.position = position("conversations", at)?;
        kept.at = appended_at.unwrap_or(0);
    }
    Ok(())
}

/// Groups that the user is a member of, or was while something was pulled; and the names of all.
async fn add_groups(
    connection: &mut SqliteConnection,
    user: &UserId,
    candidates: &mut HashMap<Conversation, Candidate>,
) -> Result<(), Fault> {
    let rows: Vec<(String, String, bool, i64, Option<i64>)> = sqlx::query_as(
        "SELECT i.grp, g.name, max(i.left_at IS NULL), g.changed_at, max((
             SELECT r.appended_at FROM pulled p JOIN records r ON r.partition = p.partition AND r.position = p.ord
             WHERE p.grp = i.grp AND p.ord >= i.joined AND p.ord < coalesce(i.left_at, 9223372036854775807)
               AND (p.audience IS NULL OR p.sender = ?1 OR EXISTS (SELECT 1 FROM json_each(p.audience) a WHERE a.value = ?1))
             ORDER BY p.ord DESC LIMIT 1))
         FROM group_members i JOIN groups g ON g.grp = i.grp WHERE i.user = ?1 GROUP BY i.grp",
    )
    .bind(user.as_str())
    .fetch_all(connection)
    .await?;
    for (name, shown_as, is_member, changed_at, pulled_at) in rows {
        let key = Conversation::Group(group("group_members", &name)?);
        if !is_member && pulled_at.is_none() && !candidates.contains_key(&key) {
            continue;
        }
        let kept = candidates.entry(key).or_default();
        kept.name = Some(shown_as.into());
        kept.at = kept.at.max(pulled_at.unwrap_or(0));
        if kept.at == 0 {
            kept.at = changed_at;
        }
    }
    Ok(())
}

async fn unread(
    connection: &mut SqliteConnection,
    user: &UserId,
    conversation: &Conversation,
    read: Position,
) -> Result<u64, Fault> {
    let (name, read) = (conversation.to_string(), place("reads", read)?);
    let mut unread: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM (
             SELECT 1 FROM stream WHERE user = ?1 AND conversation = ?2 AND incoming = 1 AND ord > ?3 LIMIT ?4)",
    )
    .bind(user.as_str())
    .bind(&name)
    .bind(read)
    .bind(UNREAD_MAX as i64)
    .fetch_one(&mut *connection)
    .await?;
    if let Conversation::Group(group) = conversation {
        for interval in history::intervals(connection, user, group).await? {
            unread += sqlx::query_scalar::<_, i64>(
                "SELECT count(*) FROM (
                     SELECT 1 FROM pulled p
                     WHERE p.grp = ?1 AND p.ord >= ?2 AND p.ord < ?3 AND p.ord > ?4 AND p.sender <> ?5
                       AND (p.audience IS NULL OR EXISTS (SELECT 1 FROM json_each(p.audience) a WHERE a.value = ?5))
                       AND NOT EXISTS (SELECT 1 FROM stream s WHERE s.user = ?5 AND s.conversation = ?6 AND s.shown = p.ord)
                     LIMIT ?7)",
            )
            .bind(group.as_str())
            .bind(place("group_members", interval.joined)?)
            .bind(end_of(interval)?)
            .bind(read)
            .bind(user.as_str())
            .bind(&name)
            .bind(UNREAD_MAX as i64)
            .fetch_one(&mut *connection)
            .await?;
        }
    }
    Ok(UNREAD_MAX.min(unread.unsigned_abs()))
}
