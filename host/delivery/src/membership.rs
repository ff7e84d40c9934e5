//! Changes of groups: appended, then applied by the group's worker, then answered. (DELIVERY 17)

use std::sync::Arc;
use std::time::Duration;

use heddle_log::Appended;
use heddle_model::{ClientId, Conversation, GroupChange, GroupChangeKind, GroupId, MessageId, Record, Role, UserId};
use heddle_store::StoreError;

use crate::GroupView;
use crate::delivery::Delivery;

/// Why a group was not changed or shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// No such group, or the asker may not know of it.
    #[error("group {0} is not one of yours")]
    NotFound(GroupId),
    /// Only an admin may.
    #[error("only an admin of group {group} may {what}")]
    Forbidden {
        /// Which.
        group: GroupId,
        /// What was asked.
        what: &'static str,
    },
    /// A user lets nobody be brought together with who is blocked.
    #[error("{user} cannot be added to a group by you")]
    Refused {
        /// Who.
        user: UserId,
    },
    /// Another group was made under this `client_id`.
    #[error(
        "client_id {client_id:?} made group {group} with another name or other members: use one of its own for each group"
    )]
    Conflict {
        /// Whose.
        client_id: ClientId,
        /// The first.
        group: GroupId,
    },
    /// What was asked cannot be.
    #[error("{0}")]
    Invalid(String),
    /// Not now, or of unknown outcome: ask for the group, then try again.
    #[error("group cannot be changed now: {0}")]
    Unavailable(String),
}

impl From<StoreError> for GroupError {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// The longest name of a group, bytes.
const NAME_BYTES_MAX: usize = 256;

impl Delivery {
    /// Makes a group; the same `client_id` again answers the same group.
    ///
    /// # Errors
    /// Name or members out of bounds; another name or other members under the same `client_id`; the log or the store does not answer.
    pub async fn create_group(
        &self,
        by: &UserId,
        client_id: &ClientId,
        name: &str,
        members: &[UserId],
    ) -> Result<GroupId, GroupError> {
        check_name(name)?;
        let mut members = members.to_vec();
        members.push(by.clone());
        members.sort();
        members.dedup();
        self.check_size(members.len())?;
        self.check_blocks(by, &members).await?;
        // The id says who made it under which client_id, so a repetition finds the first.
        let id = MessageId::of(by, &Conversation::Direct(by.clone()), client_id).to_string();
        let group = GroupId::new(&id).map_err(|error| GroupError::Invalid(error.to_string()))?;
        let asked = GroupChangeKind::Created { name: name.into(), members };
        if self.shared.groups.view(&group).await?.is_none() {
            self.change(&group, by, asked.clone()).await?;
        }
        // Also after one's own change: of two that were made at once the first stands.
        match self.made(&group).await? {
            Some(made) if made != asked => Err(GroupError::Conflict { client_id: client_id.clone(), group }),
            _ => Ok(group),
        }
    }

    /// How the group was made; none if neither archive nor log has that any more.
    async fn made(&self, group: &GroupId) -> Result<Option<GroupChangeKind>, GroupError> {
        let shared = &self.shared;
        let Some(view) = shared.groups.view(group).await? else { return Ok(None) };
        let partition = shared.numbering.partitioning.group_home(group);
        let bytes = match shared.store.archive.record(partition, view.born).await? {
            Some(archived) => Some(archived.bytes),
            None => match view.born.offset(shared.numbering.epoch) {
                Some(offset) => {
                    let batch = shared.log.read(partition, offset, 1).await;
                    let batch = batch.map_err(|error| GroupError::Unavailable(error.to_string()))?;
                    batch.records.into_iter().find(|stored| stored.offset == offset).map(|stored| stored.bytes)
                }
                None => None,
            },
        };
        match bytes.map(|bytes| Record::decode(&bytes)) {
            Some(Ok(Record::GroupChange(change))) => Ok(Some(change.kind)),
            _ => Ok(None),
        }
    }

    /// The group, if the viewer is a member.
    ///
    /// # Errors
    /// Not a member; the store does not answer.
    pub async fn group(&self, viewer: &UserId, group: &GroupId) -> Result<GroupView, GroupError> {
        let view = self.shared.group_of(group, viewer).await?;
        view.map(|view| GroupView::clone(&view)).ok_or_else(|| GroupError::NotFound(group.clone()))
    }

    /// Gives the group another name.
    ///
    /// # Errors
    /// Not an admin; name out of bounds; not now.
    pub async fn rename_group(&self, by: &UserId, group: &GroupId, name: &str) -> Result<(), GroupError> {
        check_name(name)?;
        self.as_admin(by, group, "rename it").await?;
        self.change(group, by, GroupChangeKind::Renamed { name: name.into() }).await
    }

    /// Makes a member an admin, or an admin a member.
    ///
    /// # Errors
    /// Not an admin; not a member; the last admin; not now.
    pub async fn set_role(&self, by: &UserId, group: &GroupId, user: &UserId, role: Role) -> Result<(), GroupError> {
        let view = self.as_admin(by, group, "change roles").await?;
        if !view.is_member(user) {
            return Err(GroupError::Invalid(format!("{user} is not a member of group {group}")));
        }
        if role == Role::Member && view.is_admin(user) && admins(&view) == 1 {
            return Err(GroupError::Invalid(format!(
                "{user} is the last admin of group {group}, make another one first"
            )));
        }
        self.change(group, by, GroupChangeKind::Role { user: user.clone(), role }).await
    }

    /// Ends the group: all leave.
    ///
    /// # Errors
    /// Not an admin; not now.
    pub async fn delete_group(&self, by: &UserId, group: &GroupId) -> Result<(), GroupError> {
        self.as_admin(by, group, "delete it").await?;
        self.change(group, by, GroupChangeKind::Deleted).await
    }

    /// Adds a member; one that is there stays.
    ///
    /// # Errors
    /// Not an admin; the group is full; not now.
    pub async fn add_member(&self, by: &UserId, group: &GroupId, user: &UserId) -> Result<(), GroupError> {
        let view = self.as_admin(by, group, "add members").await?;
        if view.is_member(user) {
            return Ok(());
        }
        self.check_size(view.members.len() + 1)?;
        self.check_blocks(by, std::slice::from_ref(user)).await?;
        self.change(group, by, GroupChangeKind::Joined { users: vec![user.clone()] }).await
    }

    /// Removes a member, or lets oneself go. If the last admin goes, the first of the others by name becomes one.
    ///
    /// # Errors
    /// Not an admin and not oneself; not a member; not now.
    pub async fn remove_member(&self, by: &UserId, group: &GroupId, user: &UserId) -> Result<(), GroupError> {
        let view = self.group(by, group).await?;
        if by != user && !view.is_admin(by) {
            return Err(GroupError::Forbidden { group: group.clone(), what: "remove members" });
        }
        if !view.is_member(user) {
            return Err(GroupError::Invalid(format!("{user} is not a member of group {group}")));
        }
        let heir = view.members.keys().find(|member| *member != user);
        if let (true, 1, Some(heir)) = (view.is_admin(user), admins(&view), heir) {
            self.change(group, by, GroupChangeKind::Role { user: heir.clone(), role: Role::Admin }).await?;
        }
        self.change(group, by, GroupChangeKind::Left { user: user.clone() }).await
    }

    async fn as_admin(&self, by: &UserId, group: &GroupId, what: &'static str) -> Result<Arc<GroupView>, GroupError> {
        let view = self.shared.group_of(group, by).await?;
        let view = view.ok_or_else(|| GroupError::NotFound(group.clone()))?;
        if view.is_admin(by) { Ok(view) } else { Err(GroupError::Forbidden { group: group.clone(), what }) }
    }

    /// Nobody is added to a group by whom they block: its name alone would reach them.
    async fn check_blocks(&self, by: &UserId, users: &[UserId]) -> Result<(), GroupError> {
        let pairs = self.shared.denials.between(by, users).await;
        match users.iter().zip(pairs).find(|(_, pair)| pair.blocked) {
            Some((user, _)) => Err(GroupError::Refused { user: user.clone() }),
            None => Ok(()),
        }
    }

    fn check_size(&self, members: usize) -> Result<(), GroupError> {
        let max = self.shared.config.group_members_max;
        if members > max {
            return Err(GroupError::Invalid(format!("group would have {members} members, at most {max} are allowed")));
        }
        Ok(())
    }

    /// Appends a change, and waits until the group's worker has applied it.
    async fn change(&self, group: &GroupId, by: &UserId, kind: GroupChangeKind) -> Result<(), GroupError> {
        let shared = &self.shared;
        shared.policies.knows().map_err(GroupError::Unavailable)?;
        let partition = shared.numbering.partitioning.group_home(group);
        let change = GroupChange { group: group.clone(), by: by.clone(), at: shared.clock.now(), kind };
        let appended = shared.log.append(partition, None, Record::GroupChange(change).encode()).await;
        let (Appended::New(place) | Appended::Existing(place)) =
            appended.map_err(|error| GroupError::Unavailable(error.to_string()))?;
        let mut worked = shared.partition(partition).worked.subscribe();
        let applied = worked.wait_for(|at| *at > place.offset);
        match tokio::time::timeout(Duration::from_millis(shared.config.group_wait_ms), applied).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(GroupError::Unavailable("the change is in the log and waits to be applied".to_owned())),
        }
    }
}

fn admins(view: &GroupView) -> usize {
    view.members.values().filter(|role| **role == Role::Admin).count()
}

fn check_name(name: &str) -> Result<(), GroupError> {
    if name.trim().is_empty() || name.len() > NAME_BYTES_MAX || name.contains(|c: char| c.is_control()) {
        let shown: String = name.chars().take(40).collect();
        return Err(GroupError::Invalid(format!(
            "group name {shown:?} is not 1 to {NAME_BYTES_MAX} bytes without control characters"
        )));
    }
    Ok(())
}
