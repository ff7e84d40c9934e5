//! Groups as the workers of their partitions have them: members at the record that is being worked on. (DELIVERY 17)

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use heddle_model::{
    GroupChange, GroupChangeKind, GroupId, Millis, Partitioning, Position, Role, TopicPartition, UserId,
};
use heddle_store::{GroupRow, Store, StoreError};
use parking_lot::Mutex;

use crate::config::DeliveryConfig;

/// A group at one moment of its log partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupView {
    /// Which.
    pub group: GroupId,
    /// As shown.
    pub name: Box<str>,
    /// Who made it.
    pub created_by: UserId,
    /// When.
    pub created_at: Millis,
    /// No longer is.
    pub deleted: bool,
    /// Its members, sorted by bytes of id.
    pub members: BTreeMap<UserId, Role>,
    /// The position of its making.
    pub born: Position,
    /// The position of the newest change in it.
    pub order: Position,
}

impl GroupView {
    /// May this user send, read, leave?
    #[must_use]
    pub fn is_member(&self, user: &UserId) -> bool {
        !self.deleted && self.members.contains_key(user)
    }

    /// May this user also add, remove, rename?
    #[must_use]
    pub fn is_admin(&self, user: &UserId) -> bool {
        !self.deleted && self.members.get(user) == Some(&Role::Admin)
    }

    /// As of `at`: changes behind it are not in it yet.
    fn of(row: GroupRow, born: Position, at: Position) -> Self {
        let members = row
            .members
            .into_iter()
            .filter(|member| member.joined <= at && member.left.is_none_or(|left| left > at))
            .map(|member| (member.user, member.role))
            .collect();
        Self {
            group: row.group,
            name: row.name,
            created_by: row.created_by,
            created_at: row.created_at,
            deleted: row.deleted && row.order <= at,
            members,
            born,
            order: row.order.min(at),
        }
    }

    fn created(change: &GroupChange, name: &str, members: &[UserId], at: Position) -> Self {
        let mut all: BTreeMap<UserId, Role> = members.iter().map(|user| (user.clone(), Role::Member)).collect();
        all.insert(change.by.clone(), Role::Admin);
        Self {
            group: change.group.clone(),
            name: name.into(),
            created_by: change.by.clone(),
            created_at: change.at,
            deleted: false,
            members: all,
            born: at,
            order: at,
        }
    }
}

/// The groups of all partitions of this node. A cached view is never older than its partition's worker, and stays until the archive has its changes.
pub(crate) struct Groups {
    store: Store,
    partitioning: Partitioning,
    cached_max: usize,
    partitions: HashMap<TopicPartition, PartitionGroups>,
}

#[derive(Default)]
struct PartitionGroups {
    cache: Mutex<Cache>,
    /// One reader of the store at a time, so that a view never goes backwards.
    loading: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Cache {
    views: HashMap<GroupId, Arc<GroupView>>,
    /// How far the worker has applied changes.
    at: Position,
    /// How far the archive has them.
    archived: Position,
}

impl Groups {
    pub(crate) fn new(config: &DeliveryConfig, partitioning: Partitioning, store: Store) -> Self {
        let partitions = partitioning
            .all()
            .filter(|p| p.topic == heddle_model::Topic::GroupMessages)
            .map(|p| (p, PartitionGroups::default()));
        Self { store, partitioning, cached_max: config.groups_cached, partitions: partitions.collect() }
    }

    /// The group as its partition's worker has it now.
    pub(crate) async fn view(&self, group: &GroupId) -> Result<Option<Arc<GroupView>>, StoreError> {
        let Some(partition) = self.partitions.get(&self.partitioning.group_home(group)) else { return Ok(None) };
        if let Some(view) = partition.cache.lock().views.get(group) {
            return Ok(Some(Arc::clone(view)));
        }
        let loading = partition.loading.lock().await;
        let view = self.load(partition, group).await;
        drop(loading);
        view
    }

    /// What is in memory; none says nothing.
    pub(crate) fn peek(&self, group: &GroupId) -> Option<Arc<GroupView>> {
        let partition = self.partitions.get(&self.partitioning.group_home(group))?;
        partition.cache.lock().views.get(group).cloned()
    }

    async fn load(&self, partition: &PartitionGroups, group: &GroupId) -> Result<Option<Arc<GroupView>>, StoreError> {
        if let Some(view) = partition.cache.lock().views.get(group) {
            return Ok(Some(Arc::clone(view)));
        }
        let at = partition.cache.lock().at;
        let Some(row) = self.store.groups.group(group).await? else { return Ok(None) };
        let born = row.members.iter().map(|member| member.joined).min();
        // Else its making lies behind the worker still.
        let Some(born) = born.filter(|born| *born <= at) else { return Ok(None) };
        let view = Arc::new(GroupView::of(row, born, at));
        let mut cache = partition.cache.lock();
        if cache.at == at {
            cache.put(Arc::clone(&view), self.cached_max);
        }
        Ok(Some(view))
    }

    /// The worker of `partition` meets a change at `position`. Answers the views before and after; none if it changes nothing.
    pub(crate) async fn apply(
        &self,
        partition: TopicPartition,
        position: Position,
        change: &GroupChange,
    ) -> Result<Option<(Option<Arc<GroupView>>, Arc<GroupView>)>, StoreError> {
        let Some(part) = self.partitions.get(&partition) else { return Ok(None) };
        let loading = part.loading.lock().await;
        let before = self.load(part, &change.group).await?;
        let after = after(before.as_deref(), position, change).map(Arc::new);
        let mut cache = part.cache.lock();
        cache.at = cache.at.max(position);
        if let Some(after) = &after {
            cache.put(Arc::clone(after), self.cached_max);
        }
        drop(cache);
        drop(loading);
        Ok(after.map(|after| (before, after)))
    }

    /// The worker begins at `at`, perhaps again: what it had beyond that is forgotten, and read once more. (DELIVERY 17)
    pub(crate) fn begin(&self, partition: TopicPartition, at: Position) {
        if let Some(part) = self.partitions.get(&partition) {
            let mut cache = part.cache.lock();
            let archived = cache.archived;
            *cache = Cache { at, archived, ..Cache::default() };
        }
    }

    /// The worker has read up to here.
    pub(crate) fn reached(&self, partition: TopicPartition, at: Position) {
        if let Some(part) = self.partitions.get(&partition) {
            let mut cache = part.cache.lock();
            cache.at = cache.at.max(at);
        }
    }

    /// The archive has come so far: views that changed before may be forgotten.
    pub(crate) fn archived(&self, partition: TopicPartition, upto: Position) {
        if let Some(part) = self.partitions.get(&partition) {
            part.cache.lock().archived = upto;
        }
    }
}

impl Cache {
    fn put(&mut self, view: Arc<GroupView>, cached_max: usize) {
        if self.views.len() >= cached_max && !self.views.contains_key(&view.group) {
            let archived = self.archived;
            let old = self.views.values().find(|view| view.order <= archived).map(|view| view.group.clone());
            if let Some(old) = old {
                self.views.remove(&old);
            }
        }
        self.views.insert(view.group.clone(), view);
    }
}

/// The group after the change; none if the change says nothing new.
fn after(before: Option<&GroupView>, position: Position, change: &GroupChange) -> Option<GroupView> {
    let Some(before) = before else {
        return match &change.kind {
            GroupChangeKind::Created { name, members } => Some(GroupView::created(change, name, members, position)),
            _ => None,
        };
    };
    if before.order >= position || before.deleted {
        return None;
    }
    let mut view = before.clone();
    view.order = position;
    match &change.kind {
        GroupChangeKind::Created { .. } => return None,
        GroupChangeKind::Joined { users } => {
            for user in users {
                view.members.entry(user.clone()).or_insert(Role::Member);
            }
        }
        GroupChangeKind::Left { user } => drop(view.members.remove(user)),
        GroupChangeKind::Role { user, role } => *view.members.get_mut(user)? = *role,
        GroupChangeKind::Renamed { name } => view.name.clone_from(name),
        GroupChangeKind::Deleted => {
            view.deleted = true;
            view.members.clear();
        }
    }
    (view.members != before.members || view.name != before.name || view.deleted).then_some(view)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    fn change(kind: GroupChangeKind) -> GroupChange {
        GroupChange { group: GroupId::new("g").unwrap(), by: user("a"), at: 5, kind }
    }

    #[test]
    fn a_change_that_was_applied_changes_nothing() {
        let made = change(GroupChangeKind::Created { name: "n".into(), members: vec![user("b")] });
        let group = after(None, Position(3), &made).unwrap();
        assert!(group.is_admin(&user("a")) && group.is_member(&user("b")) && !group.is_admin(&user("b")));
        assert_eq!(after(Some(&group), Position(4), &made), None);
        let left = change(GroupChangeKind::Left { user: user("b") });
        let later = after(Some(&group), Position(6), &left).unwrap();
        assert_eq!(after(Some(&later), Position(6), &left), None);
        assert_eq!(after(Some(&later), Position(7), &left), None);
    }
}
