//! Groups, read.

use async_trait::async_trait;
use heddle_model::{GroupId, Position, UserId};
use sqlx::postgres::PgConnection;

use super::PostgresStore;
use super::text::names;
use crate::cell::{group, position, role, uint, user};
use crate::fault::Fault;
use crate::{GroupMember, GroupRow, Groups, StoreError};

#[async_trait]
impl Groups for PostgresStore {
    async fn group(&self, group: &GroupId) -> Result<Option<GroupRow>, StoreError> {
        let group = group.clone();
        self.connections.read("group", move |connection| Box::pin(row(connection, group.clone()))).await
    }

    async fn groups_of(&self, user: &UserId) -> Result<Vec<(GroupId, Position)>, StoreError> {
        let user = user.clone();
        self.connections.read("groups of", move |connection| Box::pin(of_user(connection, user.clone()))).await
    }

    async fn share_a_group(&self, user: &UserId, others: &[UserId]) -> Result<Vec<bool>, StoreError> {
        let (user, others) = (user.clone(), names(others));
        let read = self.connections.read("share a group", move |connection| {
            let (user, others) = (user.clone(), others.clone());
            Box::pin(async move {
                Ok(sqlx::query_scalar(
                    "SELECT EXISTS (
                         SELECT 1 FROM group_members a JOIN group_members b ON b.grp = a.grp
                         WHERE a.usr = $1 AND a.left_at IS NULL AND b.usr = o.usr AND b.left_at IS NULL)
                     FROM unnest($2::text[]) WITH ORDINALITY AS o (usr, nth) ORDER BY o.nth",
                )
                .bind(user.as_str())
                .bind(others)
                .fetch_all(connection)
                .await?)
            })
        });
        read.await
    }
}

async fn row(connection: &mut PgConnection, id: GroupId) -> Result<Option<GroupRow>, Fault> {
    let row: Option<(String, String, i64, bool, i64, i64)> = sqlx::query_as(
        "SELECT g.name, g.created_by, g.created_at, g.deleted, g.changed, coalesce(h.head, 0)
         FROM groups g LEFT JOIN group_heads h ON h.grp = g.grp WHERE g.grp = $1",
    )
    .bind(id.as_str())
    .fetch_optional(&mut *connection)
    .await?;
    let Some((name, created_by, created_at, deleted, changed, head)) = row else { return Ok(None) };
    let members: Vec<(String, i64, Option<i64>, i64)> =
        sqlx::query_as("SELECT usr, joined, left_at, role FROM group_members WHERE grp = $1 ORDER BY usr, joined")
            .bind(id.as_str())
            .fetch_all(connection)
            .await?;
    let members = members.iter().map(|(name, joined, left, code)| {
        Ok(GroupMember {
            user: user("group_members", name)?,
            role: role(*code)?,
            joined: position("group_members", *joined)?,
            left: left.map(|left| position("group_members", left)).transpose()?,
        })
    });
    Ok(Some(GroupRow {
        group: id,
        name: name.into(),
        created_by: user("groups", &created_by)?,
        created_at: uint("groups", created_at)?,
        deleted,
        order: position("groups", changed)?,
        members: members.collect::<Result<_, Fault>>()?,
        head: position("group_heads", head)?,
    }))
}

async fn of_user(connection: &mut PgConnection, of: UserId) -> Result<Vec<(GroupId, Position)>, Fault> {
    // Within each interval the newest pulled message that the user may see is one step into the index.
    let rows: Vec<(String, i64)> = sqlx::query_as(
        "SELECT i.grp, coalesce(max((
             SELECT p.ord FROM pulled p
             WHERE p.grp = i.grp AND p.ord >= i.joined AND p.ord < coalesce(i.left_at, 9223372036854775807)
               AND (p.audience IS NULL OR p.sender = $1 OR $1 = ANY (p.audience))
             ORDER BY p.ord DESC LIMIT 1)), 0)
         FROM group_members i WHERE i.usr = $1
         GROUP BY i.grp HAVING bool_or(i.left_at IS NULL) ORDER BY i.grp",
    )
    .bind(of.as_str())
    .fetch_all(connection)
    .await?;
    rows.iter().map(|(name, head)| Ok((group("group_members", name)?, position("pulled", *head)?))).collect()
}
