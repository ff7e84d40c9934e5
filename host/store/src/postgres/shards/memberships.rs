//! Which groups a user may pull from, and since when: in the main database. What there is to pull is in the groups' shards.
//!
//! Both are read one after the other, and a member may have left between. A batch's changes of groups are written before its messages, so where the
//! intervals are the same before and after the messages were read, they are those of these messages.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;

use heddle_model::{GroupId, Position, UserId};
use sqlx::postgres::PgConnection;

use super::PostgresShards;
use crate::StoreError;
use crate::cell::{Interval, end_of, group, place, position};
use crate::fault::{Fault, unavailable};

/// Times that it is read while members come and go.
const TRIES: usize = 5;

/// What a user was in a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Membership {
    pub(super) name: String,
    /// When the group was last changed.
    pub(super) changed_at: i64,
    /// Oldest first.
    pub(super) intervals: Vec<Interval>,
}

impl Membership {
    /// Is the user in the group now?
    pub(super) fn lasts(&self) -> bool {
        self.intervals.iter().any(|interval| interval.left.is_none())
    }
}

/// Those of one user, by group.
pub(super) type Memberships = BTreeMap<GroupId, Membership>;

/// The newest message of a group that the user may pull: its place, and when it was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Newest {
    pub(super) order: Position,
    pub(super) at: i64,
}

impl PostgresShards {
    /// Reads what depends on the user's memberships, until they are the same afterwards.
    pub(super) async fn with_memberships<T, F>(
        &self,
        user: &UserId,
        read: impl Fn(Memberships) -> F,
    ) -> Result<(Memberships, T), StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let mut before = self.memberships(user).await?;
        for _ in 0..TRIES {
            let answer = read(before.clone()).await?;
            // Who is in no group sees nothing that depends on it.
            if before.is_empty() {
                return Ok((before, answer));
            }
            let after = self.memberships(user).await?;
            if after == before {
                return Ok((before, answer));
            }
            before = after;
        }
        Err(unavailable("memberships", &format!("{user} comes and goes in groups too quickly to tell what was there")))
    }

    pub(super) async fn memberships(&self, user: &UserId) -> Result<Memberships, StoreError> {
        let user = user.clone();
        let connections = &self.main.connections;
        connections.read("memberships", move |connection| Box::pin(memberships(connection, user.clone()))).await
    }

    /// Of each group the newest message that the user may pull, if there is one.
    pub(super) async fn newest_pulled(
        &self,
        user: &UserId,
        groups: &Memberships,
    ) -> Result<HashMap<GroupId, Newest>, StoreError> {
        let mut found = HashMap::new();
        for (nth, groups) in self.by_shard(groups.iter().map(|(group, of)| (group.clone(), of.intervals.clone()))) {
            let user = user.clone();
            let ask = self.ask(nth, |shard| async move {
                let read = shard.connections.read("newest pulled", move |connection| {
                    Box::pin(newest_pulled(connection, user.clone(), groups.clone()))
                });
                read.await
            });
            found.extend(ask.await?);
        }
        Ok(found)
    }

    /// Groups with what is to be asked of them, by the shard that is asked.
    pub(super) fn by_shard<T>(&self, groups: impl Iterator<Item = (GroupId, T)>) -> BTreeMap<usize, Vec<(GroupId, T)>> {
        let mut by_shard: BTreeMap<usize, Vec<(GroupId, T)>> = BTreeMap::new();
        for (group, of) in groups {
            by_shard.entry(self.of_group(&group)).or_default().push((group, of));
        }
        by_shard
    }
}

async fn memberships(connection: &mut PgConnection, user: UserId) -> Result<Memberships, Fault> {
    let rows: Vec<(String, String, i64, i64, Option<i64>)> = sqlx::query_as(
        "SELECT m.grp, g.name, g.changed_at, m.joined, m.left_at FROM group_members m JOIN groups g ON g.grp = m.grp
         WHERE m.usr = $1 ORDER BY m.grp, m.joined",
    )
    .bind(user.as_str())
    .fetch_all(connection)
    .await?;
    let mut memberships = Memberships::new();
    for (id, name, changed_at, joined, left) in rows {
        let joined = position("group_members", joined)?;
        let left = left.map(|left| position("group_members", left)).transpose()?;
        let of = memberships.entry(group("group_members", &id)?).or_insert(Membership {
            name,
            changed_at,
            intervals: Vec::new(),
        });
        of.intervals.push(Interval { joined, left });
    }
    Ok(memberships)
}

async fn newest_pulled(
    connection: &mut PgConnection,
    user: UserId,
    groups: Vec<(GroupId, Vec<Interval>)>,
) -> Result<Vec<(GroupId, Newest)>, Fault> {
    let mut found = Vec::new();
    for (group, intervals) in groups {
        // Within an interval it is one step into the index.
        for interval in intervals.iter().rev() {
            let row: Option<(i64, i64)> = sqlx::query_as(
                "SELECT p.ord, r.appended_at FROM pulled p
                 JOIN records r ON r.partition = p.partition AND r.position = p.ord
                 WHERE p.grp = $1 AND p.ord >= $2 AND p.ord < $3
                   AND (p.audience IS NULL OR p.sender = $4 OR $4 = ANY (p.audience))
                 ORDER BY p.ord DESC LIMIT 1",
            )
            .bind(group.as_str())
            .bind(place("group_members", interval.joined)?)
            .bind(end_of(*interval)?)
            .bind(user.as_str())
            .fetch_optional(&mut *connection)
            .await?;
            if let Some((order, at)) = row {
                found.push((group, Newest { order: position("pulled", order)?, at }));
                break;
            }
        }
    }
    Ok(found)
}
