//! The conversations of a user: what is in the stream, and the groups.

use std::collections::{HashMap, HashSet};

use heddle_model::{Conversation, GroupId, Position, UserId};
use sqlx::postgres::PgConnection;

use super::{devices, directory, history};
use crate::cell::{Interval, conversation, end_of, group, place, position};
use crate::fault::Fault;
use crate::{ConversationRow, UNREAD_MAX};

/// One that may be listed, before the costly questions are asked.
#[derive(Debug, Default)]
pub(super) struct Candidate {
    /// In the user's stream; 0: not there.
    pub(super) position: Position,
    /// What it is sorted by: when something was last appended, or the group changed.
    pub(super) at: i64,
    /// A group's name.
    pub(super) name: Option<Box<str>>,
}

/// What may be listed.
pub(super) type Candidates = HashMap<Conversation, Candidate>;

pub(super) async fn list(
    connection: &mut PgConnection,
    user: UserId,
    limit: u32,
) -> Result<Vec<ConversationRow>, Fault> {
    let mut candidates = streamed(connection, &user).await?;
    add_groups(connection, &user, &mut candidates).await?;
    let candidates = newest_of(candidates, limit);
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

/// The most recently appended to, that first.
pub(super) fn newest_of(candidates: Candidates, limit: u32) -> Vec<(Conversation, Candidate)> {
    let mut candidates: Vec<(Conversation, Candidate)> = candidates.into_iter().collect();
    candidates.sort_unstable_by(|(a, x), (b, y)| (y.at, y.position, a).cmp(&(x.at, x.position, b)));
    candidates.truncate(limit as usize);
    candidates
}

/// What is in the user's stream.
pub(super) async fn streamed(connection: &mut PgConnection, user: &UserId) -> Result<Candidates, Fault> {
    let mut candidates = Candidates::new();
    let rows: Vec<(String, i64, Option<i64>)> = sqlx::query_as(
        "SELECT c.conversation, c.position, r.appended_at FROM conversations c
         LEFT JOIN records r ON r.partition = c.partition AND r.position = c.position WHERE c.usr = $1",
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
    Ok(candidates)
}

/// Groups that the user is a member of, or was while something was pulled; and the names of all.
async fn add_groups(connection: &mut PgConnection, user: &UserId, candidates: &mut Candidates) -> Result<(), Fault> {
    let rows: Vec<(String, String, bool, i64, Option<i64>)> = sqlx::query_as(
        "SELECT i.grp, g.name, bool_or(i.left_at IS NULL), g.changed_at, max((
             SELECT r.appended_at FROM pulled p JOIN records r ON r.partition = p.partition AND r.position = p.ord
             WHERE p.grp = i.grp AND p.ord >= i.joined AND p.ord < coalesce(i.left_at, 9223372036854775807)
               AND (p.audience IS NULL OR p.sender = $1 OR $1 = ANY (p.audience))
             ORDER BY p.ord DESC LIMIT 1))
         FROM group_members i JOIN groups g ON g.grp = i.grp WHERE i.usr = $1 GROUP BY i.grp, g.name, g.changed_at",
    )
    .bind(user.as_str())
    .fetch_all(connection)
    .await?;
    for (name, shown_as, is_member, changed_at, pulled_at) in rows {
        let key = Conversation::Group(group("group_members", &name)?);
        add_group(candidates, key, shown_as, is_member, changed_at, pulled_at);
    }
    Ok(())
}

/// A group whose newest message that the user may pull was appended at `pulled_at`.
pub(super) fn add_group(
    candidates: &mut Candidates,
    key: Conversation,
    name: String,
    is_member: bool,
    changed_at: i64,
    pulled_at: Option<i64>,
) {
    if !is_member && pulled_at.is_none() && !candidates.contains_key(&key) {
        return;
    }
    let kept = candidates.entry(key).or_default();
    kept.name = Some(name.into());
    kept.at = kept.at.max(pulled_at.unwrap_or(0));
    if kept.at == 0 {
        kept.at = changed_at;
    }
}

async fn unread(
    connection: &mut PgConnection,
    user: &UserId,
    conversation: &Conversation,
    read: Position,
) -> Result<u64, Fault> {
    let mut unread = unread_streamed(connection, user, conversation, read).await?;
    if let Conversation::Group(group) = conversation {
        let intervals = history::intervals(connection, user, group).await?;
        unread += unread_pulled(connection, user, group, &intervals, read).await?;
    }
    Ok(UNREAD_MAX.min(unread))
}

/// Incoming messages of the user's stream beyond what was read.
pub(super) async fn unread_streamed(
    connection: &mut PgConnection,
    user: &UserId,
    conversation: &Conversation,
    read: Position,
) -> Result<u64, Fault> {
    let unread: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM (
             SELECT 1 FROM stream WHERE usr = $1 AND conversation = $2 AND incoming AND ord > $3 LIMIT $4) counted",
    )
    .bind(user.as_str())
    .bind(conversation.to_string())
    .bind(place("reads", read)?)
    .bind(UNREAD_MAX as i64)
    .fetch_one(connection)
    .await?;
    Ok(unread.unsigned_abs())
}

/// What others sent that the user may pull, beyond what was read.
pub(super) async fn unread_pulled(
    connection: &mut PgConnection,
    user: &UserId,
    group: &GroupId,
    intervals: &[Interval],
    read: Position,
) -> Result<u64, Fault> {
    let (name, read) = (Conversation::Group(group.clone()).to_string(), place("reads", read)?);
    let mut unread = 0;
    for interval in intervals {
        let counted: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM (
                 SELECT 1 FROM pulled p
                 WHERE p.grp = $1 AND p.ord >= $2 AND p.ord < $3 AND p.ord > $4 AND p.sender <> $5
                   AND (p.audience IS NULL OR $5 = ANY (p.audience))
                   AND NOT EXISTS (SELECT 1 FROM stream s WHERE s.usr = $5 AND s.conversation = $6 AND s.shown = p.ord)
                 LIMIT $7) counted",
        )
        .bind(group.as_str())
        .bind(place("group_members", interval.joined)?)
        .bind(end_of(*interval)?)
        .bind(read)
        .bind(user.as_str())
        .bind(&name)
        .bind(UNREAD_MAX as i64)
        .fetch_one(&mut *connection)
        .await?;
        unread += counted.unsigned_abs();
    }
    Ok(unread)
}
