//! Applying a change of a group: intervals [joined, left) by order.

use sqlx::sqlite::SqliteConnection;

use super::rows::{Cell, Rows};
use crate::cell::{place, role_code, time};
use crate::fault::Fault;
use crate::{GroupDelta, MemberDelta};

/// Applies it, unless the group's row was made from it or a later one.
pub(super) async fn apply(connection: &mut SqliteConnection, delta: &GroupDelta) -> Result<(), Fault> {
    if !change_group(connection, delta).await? {
        return Ok(());
    }
    // The usual long change is a group made with all its members: consecutive joins are one statement.
    let mut joining = Rows::default();
    for member in &delta.members {
        if let MemberDelta::Joined(user, role) = member {
            joining.push(&[Cell::Text(user.as_str()), Cell::Int(role_code(*role))]);
            continue;
        }
        join(connection, delta, std::mem::take(&mut joining)).await?;
        change_member(connection, delta, member).await?;
    }
    join(connection, delta, joining).await?;
    if delta.deleted {
        sqlx::query("UPDATE group_members SET left_at = ?2 WHERE grp = ?1 AND left_at IS NULL")
            .bind(delta.group.as_str())
            .bind(place("group_members", delta.order)?)
            .execute(connection)
            .await?;
    }
    Ok(())
}

/// Whether the change is news.
async fn change_group(connection: &mut SqliteConnection, delta: &GroupDelta) -> Result<bool, Fault> {
    let order = place("groups", delta.order)?;
    let known: Option<i64> = sqlx::query_scalar("SELECT changed FROM groups WHERE grp = ?1")
        .bind(delta.group.as_str())
        .fetch_optional(&mut *connection)
        .await?;
    match (known, &delta.created_by) {
        (Some(changed), _) if changed >= order => return Ok(false),
        (Some(_), _) => {
            sqlx::query(
                "UPDATE groups SET name = coalesce(?2, name), deleted = max(deleted, ?3), changed = ?4, changed_at = ?5
                 WHERE grp = ?1",
            )
            .bind(delta.group.as_str())
            .bind(delta.name.as_deref())
            .bind(delta.deleted)
            .bind(order)
            .bind(time(delta.at))
            .execute(connection)
            .await?;
        }
        (None, None) => return Ok(false),
        (None, Some(created_by)) => {
            sqlx::query(
                "INSERT INTO groups (grp, name, created_by, created_at, deleted, changed, changed_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?4)",
            )
            .bind(delta.group.as_str())
            .bind(delta.name.as_deref().unwrap_or_default())
            .bind(created_by.as_str())
            .bind(time(delta.at))
            .bind(delta.deleted)
            .bind(order)
            .execute(connection)
            .await?;
        }
    }
    Ok(true)
}

/// Opens intervals where none is open. One that this same change closed before is opened again.
async fn join(connection: &mut SqliteConnection, delta: &GroupDelta, joining: Rows) -> Result<(), Fault> {
    let Some(json) = joining.finish() else { return Ok(()) };
    sqlx::query(
        "INSERT INTO group_members (grp, user, joined, left_at, role)
         SELECT ?2, j.value ->> 0, ?3, NULL, j.value ->> 1 FROM json_each(?1) j
         WHERE NOT EXISTS (
             SELECT 1 FROM group_members m WHERE m.grp = ?2 AND m.user = j.value ->> 0 AND m.left_at IS NULL)
         ON CONFLICT (grp, user, joined) DO UPDATE SET left_at = NULL, role = excluded.role WHERE left_at IS NOT NULL",
    )
    .bind(json)
    .bind(delta.group.as_str())
    .bind(place("group_members", delta.order)?)
    .execute(connection)
    .await?;
    Ok(())
}

async fn change_member(
    connection: &mut SqliteConnection,
    delta: &GroupDelta,
    member: &MemberDelta,
) -> Result<(), Fault> {
    let (query, user, value) = match member {
        MemberDelta::Joined(..) => return Ok(()),
        MemberDelta::Left(user) => (
            sqlx::query("UPDATE group_members SET left_at = ?3 WHERE grp = ?1 AND user = ?2 AND left_at IS NULL"),
            user,
            place("group_members", delta.order)?,
        ),
        MemberDelta::Role(user, role) => (
            sqlx::query("UPDATE group_members SET role = ?3 WHERE grp = ?1 AND user = ?2 AND left_at IS NULL"),
            user,
            role_code(*role),
        ),
    };
    query.bind(delta.group.as_str()).bind(user.as_str()).bind(value).execute(connection).await?;
    Ok(())
}
