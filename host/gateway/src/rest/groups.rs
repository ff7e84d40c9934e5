//! Groups and their members.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use heddle_delivery::GroupView;
use heddle_model::{ClientId, Conversation, GroupId, IdError, Role, UserId};
use heddle_policy::Command;
use heddle_protocol::ErrorCode;
use heddle_protocol::limits::{GROUP_NAME_CHARS_MAX, USERS_MAX};
use heddle_protocol::rest::{AddMember, ChangeGroup, CreateGroup, Group, GroupCreated, GroupMember, GroupRole};

use super::extract::{BodyOf, Caller, done};
use super::{PathOf, Refused};
use crate::core::Core;

pub(super) async fn create(
    State(core): State<Arc<Core>>,
    caller: Caller,
    body: BodyOf,
) -> Result<Json<GroupCreated>, Refused> {
    let asked: CreateGroup = body.json()?;
    let client_id = ClientId::new(&asked.client_id)?;
    check_name(&asked.name)?;
    if asked.members.len() > USERS_MAX {
        let detail = format!("{} members, give at most {USERS_MAX} and add others later", asked.members.len());
        return Err(Refused::new(ErrorCode::Invalid, detail));
    }
    let members = asked.members.iter().map(|user| UserId::new(user)).collect::<Result<Vec<UserId>, IdError>>()?;
    caller.may(&core, Command::Membership, body.0.len(), None).await?;
    let group = core.deps.delivery.create_group(&caller.user, &client_id, &asked.name, &members).await?;
    Ok(Json(GroupCreated { group: group.to_string() }))
}

pub(super) async fn read(
    State(core): State<Arc<Core>>,
    caller: Caller,
    PathOf(group): PathOf<String>,
) -> Result<Json<Group>, Refused> {
    let group = GroupId::new(&group)?;
    caller.may(&core, Command::Other, 0, Some(&Conversation::Group(group.clone()))).await?;
    Ok(Json(shown(&core.deps.delivery.group(&caller.user, &group).await?)))
}

pub(super) async fn change(
    State(core): State<Arc<Core>>,
    caller: Caller,
    PathOf(group): PathOf<String>,
    body: BodyOf,
) -> Result<Json<Group>, Refused> {
    let group = GroupId::new(&group)?;
    let asked: ChangeGroup = body.json()?;
    if asked.name.is_none() && asked.roles.is_empty() {
        return Err(Refused::new(ErrorCode::Invalid, "nothing to change: give `name`, `roles` or both"));
    }
    if asked.roles.len() > USERS_MAX {
        return Err(Refused::new(ErrorCode::Invalid, format!("{} roles, give at most {USERS_MAX}", asked.roles.len())));
    }
    let mut roles = Vec::with_capacity(asked.roles.len());
    for (user, role) in &asked.roles {
        let role = match role {
            GroupRole::Member => Role::Member,
            GroupRole::Admin => Role::Admin,
        };
        roles.push((UserId::new(user)?, role));
    }
    caller.may(&core, Command::Membership, body.0.len(), Some(&Conversation::Group(group.clone()))).await?;
    let delivery = &core.deps.delivery;
    if let Some(name) = &asked.name {
        check_name(name)?;
        delivery.rename_group(&caller.user, &group, name).await?;
    }
    for (user, role) in roles {
        delivery.set_role(&caller.user, &group, &user, role).await?;
    }
    Ok(Json(shown(&delivery.group(&caller.user, &group).await?)))
}

pub(super) async fn remove(
    State(core): State<Arc<Core>>,
    caller: Caller,
    PathOf(group): PathOf<String>,
) -> Result<Response, Refused> {
    let group = GroupId::new(&group)?;
    caller.may(&core, Command::Membership, 0, Some(&Conversation::Group(group.clone()))).await?;
    core.deps.delivery.delete_group(&caller.user, &group).await?;
    Ok(done())
}

pub(super) async fn add_member(
    State(core): State<Arc<Core>>,
    caller: Caller,
    PathOf(group): PathOf<String>,
    body: BodyOf,
) -> Result<Response, Refused> {
    let group = GroupId::new(&group)?;
    let asked: AddMember = body.json()?;
    let user = UserId::new(&asked.user)?;
    caller.may(&core, Command::Membership, body.0.len(), Some(&Conversation::Group(group.clone()))).await?;
    core.deps.delivery.add_member(&caller.user, &group, &user).await?;
    Ok(done())
}

pub(super) async fn remove_member(
    State(core): State<Arc<Core>>,
    caller: Caller,
    PathOf((group, user)): PathOf<(String, String)>,
) -> Result<Response, Refused> {
    let (group, user) = (GroupId::new(&group)?, UserId::new(&user)?);
    caller.may(&core, Command::Membership, 0, Some(&Conversation::Group(group.clone()))).await?;
    core.deps.delivery.remove_member(&caller.user, &group, &user).await?;
    Ok(done())
}

fn check_name(name: &str) -> Result<(), Refused> {
    let chars = name.chars().count();
    if (1..=GROUP_NAME_CHARS_MAX).contains(&chars) && !name.chars().any(char::is_control) {
        return Ok(());
    }
    let detail =
        format!("the name has {chars} characters, give 1 to {GROUP_NAME_CHARS_MAX} without control characters");
    Err(Refused::new(ErrorCode::Invalid, detail))
}

fn shown(view: &GroupView) -> Group {
    let member = |(user, role): (&UserId, &Role)| GroupMember {
        user: user.to_string(),
        role: match role {
            Role::Member => GroupRole::Member,
            Role::Admin => GroupRole::Admin,
        },
    };
    Group {
        group: view.group.to_string(),
        name: view.name.to_string(),
        members: view.members.iter().map(member).collect(),
    }
}
