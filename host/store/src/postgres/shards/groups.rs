//! Groups: their rows stand in the main database, what their members may pull in their shards.

use async_trait::async_trait;
use heddle_model::{GroupId, Position, UserId};

use super::PostgresShards;
use crate::{GroupRow, Groups, StoreError};

#[async_trait]
impl Groups for PostgresShards {
    async fn group(&self, group: &GroupId) -> Result<Option<GroupRow>, StoreError> {
        self.main.group(group).await
    }

    async fn groups_of(&self, user: &UserId) -> Result<Vec<(GroupId, Position)>, StoreError> {
        let read = self.with_memberships(user, |mut groups| async move {
            groups.retain(|_, of| of.lasts());
            self.newest_pulled(user, &groups).await
        });
        let (groups, newest) = read.await?;
        let lasting = groups.into_iter().filter(|(_, of)| of.lasts());
        let head = |group: &GroupId| newest.get(group).map_or(Position::START, |newest| newest.order);
        Ok(lasting.map(|(group, _)| (group.clone(), head(&group))).collect())
    }

    async fn share_a_group(&self, user: &UserId, others: &[UserId]) -> Result<Vec<bool>, StoreError> {
        self.main.share_a_group(user, others).await
    }
}
