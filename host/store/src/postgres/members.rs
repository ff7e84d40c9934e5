//! Applying a change of a group: intervals [joined, left) by order.

use std::collections::BTreeMap;

use sqlx::postgres::PgConnection;

use super::text::plain;
use crate::cell::{place, role_code, time};
use crate::fault::Fault;
use crate::{GroupDelta, MemberDelta};

/// Applies it, unless the group's row was made from it or a later one.
pub(super) async fn apply(connection: &mut PgConnection, delta: &GroupDelta) -> Result<(), Fault> {
    if !change_group(connection, delta).await? {
        return Ok(());
    }
    // The usual long change is a group made with all its members: consecutive joins are one statement.
    let mut joining = BTreeMap::new();
    for member in &delta.members {
        if let MemberDelta::Joined(user, role) = member {
            joining.entry(user.as_str()).or_insert(role_code(*role));
            continue;
        }
        join(connection, delta, std::mem::take(&mut joining)).await?;
        change_member(connection, delta, member).await?;
    }
    join(connection, delta, joining).await?;
    if delta.deleted {
        sqlx::query("UPDATE group_members SET left_at = $2 WHERE grp = $1 AND left_at IS NULL")
            .bind(delta.group.as_str())
            .bind(place("group_members", delta.order)?)
            .execute(connection)
            .await?;
    }
    Ok(())
}

/// Whether the change is news. The group's row is locked from here on: whoever applies the same change waits, and finds it done.
async fn change_group(connection: &mut PgConnection, delta: &GroupDelta) -> Result<bool, Fault> {
    let order = place("groups", delta.order)?;
    let name = delta.name.as_deref().map(plain);
    let changed =
        match &delta.created_by {
            None => sqlx::query(
                "UPDATE groups SET name = coalesce($2, name), deleted = deleted OR $3, changed = $4, changed_at = $5
                 WHERE grp = $1 AND changed < $4",
            )
            .bind(delta.group.as_str())
            .bind(name)
            .bind(delta.deleted)
            .bind(order)
            .bind(time(delta.at))
            .execute(connection)
            .await?,
            Some(created_by) => {
                sqlx::query(
                    "INSERT INTO groups AS g (grp, name, created_by, created_at, deleted, changed, changed_at)
                 VALUES ($1, coalesce($2, ''), $6, $5, $3, $4, $5)
                 ON CONFLICT (grp) DO UPDATE
                 SET name = coalesce($2, g.name), deleted = g.deleted OR $3, changed = $4, changed_at = $5
                 WHERE g.changed < $4",
                )
                .bind(delta.group.as_str())
                .bind(name)
                .bind(delta.deleted)
                .bind(order)
                .bind(time(delta.at))
                .bind(created_by.as_str())
                .execute(connection)
                .await?
            }
        };
    Ok(changed.rows_affected() > 0)
}

/// Opens intervals where none is open. One that this same change closed before is opened again.
async fn join(connection: &mut PgConnection, delta: &GroupDelta, joining: BTreeMap<&str, i64>) -> Result<(), Fault> {
    if joining.is_empty() {
        return Ok(());
    }
    let (users, roles): (Vec<&str>, Vec<i64>) = joining.into_iter().unzip();
    sqlx::query(
        "INSERT INTO group_members AS m (grp, usr, joined, left_at, role)
         SELECT $3, j.usr, $4, NULL, j.role FROM unnest($1::text[], $2::bigint[]) AS j (usr, role)
         WHERE NOT EXISTS (SELECT 1 FROM group_members o WHERE o.grp = $3 AND o.usr = j.usr AND o.left_at IS NULL)
         ON CONFLICT (grp, usr, joined) DO UPDATE SET left_at = NULL, role = excluded.role WHERE m.left_at IS NOT NULL",
    )
    .bind(users)
    .bind(roles)
    .bind(delta.group.as_str())
    .bind(place("group_members", delta.order)?)
    .execute(connection)
    .await?;
    Ok(())
}

async fn change_member(connection: &mut PgConnection, delta: &GroupDelta, member: &MemberDelta) -> Result<(), Fault> {
    let (query, user, value) = match member {
        MemberDelta::Joined(..) => return Ok(()),
        MemberDelta::Left(user) => (
            sqlx::query("UPDATE group_members SET left_at = $3 WHERE grp = $1 AND usr = $2 AND left_at IS NULL"),
            user,
            place("group_members", delta.order)?,
        ),
        MemberDelta::Role(user, role) => (
            sqlx::query("UPDATE group_members SET role = $3 WHERE grp = $1 AND usr = $2 AND left_at IS NULL"),
            user,
            role_code(*role),
        ),
    };
    query.bind(delta.group.as_str()).bind(user.as_str()).bind(value).execute(connection).await?;
    Ok(())
}
